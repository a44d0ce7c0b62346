"""The HTTP API, version 1: what witnesses need, and what people and programs read.

Every request carries a token: an institution's own (`consortium.api.tokens`), a person's
(`consortium.access`), or the one that `consortium portal` makes for its own run. Institutions read
everything that members share, updates included; people read the ledger and what it says, and write
nothing. Each route says beside itself whom it is for (`consortium.api.callers`).
"""

import pathlib
from collections.abc import Callable

from fastapi import Depends, FastAPI, Request

from consortium.access import AccessTokens
from consortium.access_log import AccessLog
from consortium.api.access_log import access_log_router
from consortium.api.callers import Callers, Permissions
from consortium.api.changes import changes_router
from consortium.api.contributions import contributions_router
from consortium.api.enrolment import LedgerSite, enrolment_router, transport_router
from consortium.api.evaluations import evaluations_router
from consortium.api.events import events_router
from consortium.api.exports import exports_router
from consortium.api.institutions import institutions_router
from consortium.api.jobs import jobs_router
from consortium.api.lane import Lane
from consortium.api.ledger import ledger_router
from consortium.api.metrics import LedgerCollector, Metrics, TrafficCollector, metrics_router
from consortium.api.models import models_router
from consortium.api.offers import offers_router
from consortium.api.oidc import read_oidc
from consortium.api.openapi import openapi_router
from consortium.api.operations import add_operations, new_app
from consortium.api.privacy import privacy_router
from consortium.api.rate_limits import RateLimits
from consortium.api.schemas import Me
from consortium.coordinator.live import LiveState
from consortium.last_seen import LastSeen
from consortium.models import ModelStore
from consortium.standing import Standing
from ledger.changes import Changes
from ledger.content import ContentStore
from ledger.store import LedgerStore


def create_app(
    store: LedgerStore,
    content: ContentStore,
    models: ModelStore,
    portal_token: str | None = None,
    on_change: Callable[[], None] = lambda: None,
    home: pathlib.Path | None = None,
    changes: Changes | None = None,
    requests_per_minute: int = 0,
) -> FastAPI:
    """The API over one ledger. ``portal_token`` lets the local portal in, to read.

    ``on_change`` is called after every submission and every cosignature. With the coordinator's
    ``home`` people get in with their tokens, those who are invited can enrol, and members hand in
    transport keys; with ``changes`` they are told when there is something to look at.
    ``requests_per_minute``: of a person (`consortium.api.rate_limits`); 0: nobody is limited.

    Raises:
        OidcInvalid: if the home names an OpenID provider in a way that cannot be used.
    """
    app = new_app()
    limits = RateLimits(requests_per_minute) if requests_per_minute else None
    seen = LastSeen(home) if home else None
    live = LiveState(home).read if home else dict
    lane = Lane(LiveState(home).running if home else lambda: False)
    callers = Callers(
        store, AccessTokens(home) if home else None, portal_token, seen,
        read_oidc(home) if home else None, limits, lane,
    )  # fmt: skip
    allowed, standing = Permissions(callers), Standing(store.listing)
    app.state.standing = standing

    @app.get("/v1/me", dependencies=[Depends(allowed.everyone)], tags=["operations"])
    def me(request: Request) -> Me:
        """Whom the token belongs to."""
        return Me(name=request.state.caller.name, role=request.state.caller.role)

    # Routes are tried in this order: those that are asked most come first.
    app.include_router(ledger_router(store, standing, allowed, on_change))
    if home is not None:
        app.include_router(enrolment_router(home, LedgerSite(store)))
        app.include_router(transport_router(home, allowed.members, lambda: store.chain().ledger))
        app.include_router(offers_router(home, allowed))
        app.include_router(exports_router(store, home, allowed.exporting))
    if changes is not None:
        app.include_router(changes_router(changes, allowed.everyone))
    app.include_router(events_router(store, standing, allowed, live, changes))
    app.include_router(institutions_router(store, standing, allowed, seen))
    app.include_router(jobs_router(store, standing, allowed, live))
    app.include_router(contributions_router(store, allowed))
    app.include_router(evaluations_router(store, allowed))
    app.include_router(models_router(store, standing, allowed, content, models))
    app.include_router(privacy_router(store, standing, allowed, home))
    app.include_router(openapi_router(app, allowed.everyone))
    access_log, metrics = AccessLog(home) if home else None, Metrics()
    if access_log is not None:
        app.include_router(access_log_router(access_log, allowed.auditing))
    app.include_router(metrics_router(metrics, allowed.auditing))
    traffic = add_operations(
        app, lambda: store.head().header.height, access_log, limits, [metrics.observe]
    )
    metrics.registry.register(TrafficCollector(traffic))
    metrics.registry.register(LedgerCollector(store, standing, live))
    return app
