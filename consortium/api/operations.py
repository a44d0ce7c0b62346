"""What every API of ours has around its routes, the draft's too: limits, log, health, problems."""

from collections.abc import Callable, Sequence

from fastapi import FastAPI

from consortium.access_log import AccessLog
from consortium.api.access_log import observer
from consortium.api.body_limit import BodyLimit
from consortium.api.edge import Edge, Observer, Traffic
from consortium.api.health import health_router
from consortium.api.problems import add_problems
from consortium.api.rate_limits import RateLimits, StrangersLimit


def new_app() -> FastAPI:
    """An application without a page of its own, and without redirects to paths that it was not
    asked for.
    """
    return FastAPI(
        title="MedPoLe", version="1", docs_url=None, redoc_url=None, openapi_url=None,
        redirect_slashes=False,
    )  # fmt: skip


def add_operations(
    app: FastAPI,
    height: Callable[[], int],
    access_log: AccessLog | None,
    limits: RateLimits | None,
    observers: Sequence[Observer] = (),
) -> Traffic:
    """Adds all of it. ``height`` gives the newest block's, ``observers`` hear of each request."""
    logged = [observer(access_log)] if access_log else []
    traffic = Traffic([*logged, *observers])
    app.include_router(health_router(height))
    add_problems(app)
    app.add_middleware(BodyLimit)  # the innermost first
    if limits is not None:
        app.add_middleware(StrangersLimit, limits=limits)
    app.add_middleware(Edge, traffic=traffic)
    return traffic
