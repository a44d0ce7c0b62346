"""How the API answers what goes wrong: ``application/problem+json`` (RFC 9457) with the code."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException

from consortium.api.schemas import Problem
from consortium.errors import (
    BodyTooLarge,
    ConsortiumError,
    ExportsBusy,
    InvitationExpired,
    InvitationRevoked,
    InvitationUnknown,
    InvitationUsed,
    IssuerUnreachable,
    JobMissing,
    MethodNotAllowed,
    ModelMissing,
    ModelUnexportable,
    NotFound,
    RequestInvalid,
    RoleForbidden,
    StateFailed,
    TokenInvalid,
    TooManyRequests,
)
from consortium.tasks.errors import TaskError, TaskUnknown
from ledger.errors import (
    ContentMissing,
    CosignatureConflict,
    HomeInUse,
    LedgerError,
    LedgerMissing,
)
from privacy.errors import PrivacyError

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 5
_STATUS: dict[type[Exception], int] = {
    TokenInvalid: 401,
    InvitationUnknown: 401,
    RoleForbidden: 403,
    InvitationUsed: 403,
    InvitationExpired: 403,
    InvitationRevoked: 403,
    ContentMissing: 404,
    JobMissing: 404,
    LedgerMissing: 404,
    ModelMissing: 404,
    ModelUnexportable: 404,
    TaskUnknown: 404,
    CosignatureConflict: 409,
    BodyTooLarge: 413,
    TooManyRequests: 429,
    ExportsBusy: 503,
    HomeInUse: 503,
    IssuerUnreachable: 503,
    StateFailed: 503,
}
# What is refused before any of our code sees it.
_REFUSED: dict[int, ConsortiumError] = {
    400: RequestInvalid("the body cannot be read", "send JSON in UTF-8"),
    404: NotFound("there is nothing at this path", "see docs/api.md for what there is"),
    405: MethodNotAllowed("this path does not take this method", "use one of those in Allow"),
    413: BodyTooLarge(
        "the request is longer than anything that belongs here", "run the same version on all sides"
    ),
}


def add_problems(app: FastAPI) -> None:
    """Adds the handlers of all that has a code; what has none is for `consortium.api.edge`."""
    for base in (ConsortiumError, LedgerError, PrivacyError, TaskError):
        app.add_exception_handler(base, _coded)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _refused)
    for away in (OperationalError, InterfaceError, PoolTimeout):
        app.add_exception_handler(away, _without_database)
    app.add_exception_handler(DBAPIError, _database_failed)


def problem(
    status: int,
    code: str,
    detail: str,
    resolve: str,
    *,
    fields: Sequence[str] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """One problem as an answer."""
    form = Problem(
        title=HTTPStatus(status).phrase, status=status, code=code, detail=detail, resolve=resolve,
        fields=None if fields is None else list(fields),
    )  # fmt: skip
    more = dict(headers or {})
    if status == 401:
        more["WWW-Authenticate"] = "Bearer"
    if status == 503:
        more.setdefault("Retry-After", str(RETRY_AFTER_S))
    return Response(form.model_dump_json(exclude_none=True), status, more, MEDIA_TYPE)


def too_many(error: TooManyRequests) -> Response:
    """The answer to somebody who asks too often."""
    return problem(
        429, error.code, error.what, error.resolve, headers={"Retry-After": str(error.after_s)}
    )


def refused(status: int, headers: Mapping[str, str] | None = None) -> Response:
    """The answer to what no route of ours takes."""
    error = _REFUSED.get(status, RequestInvalid("the request was refused", "see docs/api.md"))
    return problem(status, error.code, error.what, error.resolve, headers=headers)


def internal_error(request: str) -> Response:
    """The answer to what nobody foresaw: nothing of it but the request's id."""
    return problem(
        500, "InternalError", f"something went wrong in request {request}",
        "tell the consortium's admin this id: the coordinator's log has it",
    )  # fmt: skip


def without_database() -> Response:
    """The answer while the database is away."""
    return problem(
        503, "DatabaseUnreachable", "the database does not answer",
        "try again; if it stays so, see the coordinator's log",
    )  # fmt: skip


def _coded(_: Request, error: Exception) -> Response:
    if isinstance(error, TooManyRequests):
        return too_many(error)
    assert isinstance(error, ConsortiumError | LedgerError | PrivacyError | TaskError)
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 400)
    return problem(status, error.code, error.what, error.resolve)


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    fields = sorted({_field(one) for one in found})
    status = 400 if any(one["type"] == "json_invalid" for one in found) else 422
    return problem(
        status, "RequestInvalid", f"not of the form that belongs here: {', '.join(fields)}",
        "see docs/api.md for the form", fields=fields,
    )  # fmt: skip


def _field(error: Mapping[str, Any]) -> str:
    """The name of what is wrong: one of ours, never a word of the caller's."""
    place = [str(part) for part in error["loc"]]
    if error["type"] in ("extra_forbidden", "json_invalid"):
        return place[0]
    return ".".join(place[:2])


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return refused(error.status_code, error.headers)


def _without_database(_: Request, __: Exception) -> Response:
    return without_database()


def _database_failed(_: Request, error: Exception) -> Response:
    assert isinstance(error, DBAPIError)
    if error.connection_invalidated:
        return without_database()
    raise error  # our fault: to the edge, which says no more than that
