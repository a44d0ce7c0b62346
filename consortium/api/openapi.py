"""What the API says of itself: `GET /v1/openapi.json`, with every answer that a route can give.

FastAPI describes what goes right. What goes wrong has one form, and depends on what a route takes:
that is added here.
"""

from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from consortium.api.callers import Permission
from consortium.api.problems import MEDIA_TYPE
from consortium.api.schemas import Problem

PATH = "/v1/openapi.json"
_TAGS = {
    "ledger": "Blocks, records, proofs: what stands for good, and can be verified.",
    "jobs": "What is trained, and how far it is.",
    "models": "What came out of it.",
    "contributions": "What each institution brought, and its credits.",
    "privacy": "What has been spent, and what a job would cost.",
    "institutions": "Who takes part.",
    "events": "What happens, as it happens.",
    "joining": "For newcomers and founders.",
    "operations": "Whether it works, who asks for what.",
}
_PROBLEMS = {
    "400": "The request is refused by a rule of the ledger, or is no JSON.",
    "401": "The token does not hold.",
    "403": "The token's role does not allow this.",
    "404": "There is nothing of this name.",
    "409": "Something else stands there already.",
    "413": "The body is too long.",
    "422": "The request does not have the route's form; `fields` names what is wrong.",
    "429": "Too many requests; `Retry-After` says for how many seconds to wait.",
    "500": "A fault of ours, by the request's id.",
    "503": "The ledger, or a provider, is away for the moment.",
}
_OPEN, _WITH_TOKEN, _WITH_BODY = ("400", "404", "429", "500", "503"), ("401", "403"), ("409", "413")


def openapi_router(app: FastAPI, everyone: Permission) -> APIRouter:
    """The route; ``everyone`` is the dependency that says who asks. Takes `app.openapi` over."""
    router = APIRouter(prefix="/v1", tags=["operations"])

    def described() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _described(app)
        return app.openapi_schema

    app.openapi = described  # type: ignore[method-assign]

    @router.get("/openapi.json", dependencies=[Depends(everyone)])
    def openapi() -> dict[str, Any]:
        """This description, as OpenAPI 3.1."""
        return app.openapi()

    return router


def _described(app: FastAPI) -> dict[str, Any]:
    content = get_openapi(
        title=app.title, version=app.version, routes=app.routes,
        description="Every list is a page, every error a problem (RFC 9457) with a code.",
        tags=[{"name": name, "description": text} for name, text in _TAGS.items()],
    )  # fmt: skip
    components = content.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas["Problem"] = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    form = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components["responses"] = {
        status: {"description": text, "content": form} for status, text in _PROBLEMS.items()
    }
    for operation in _operations(content):
        answers = operation["responses"]
        answers.pop("422", None)
        for status in _refusals(operation):
            answers.setdefault(status, {"$ref": f"#/components/responses/{status}"})
    return content


def _operations(content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in content["paths"].values():
        yield from path.values()


def _refusals(operation: dict[str, Any]) -> Iterator[str]:
    yield from _OPEN
    if operation.get("security"):
        yield from _WITH_TOKEN
    if operation.get("requestBody"):
        yield from _WITH_BODY
    if operation.get("requestBody") or operation.get("parameters"):
        yield "422"
