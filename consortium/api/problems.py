"""How the API answers what goes wrong: ``application/problem+json`` (RFC 9457) with the code."""

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from sqlalchemy.exc import DBAPIError

from consortium.errors import (
    BodyTooLarge,
    ConsortiumError,
    InvitationExpired,
    InvitationRevoked,
    InvitationUnknown,
    InvitationUsed,
    RoleForbidden,
    StateFailed,
    TokenInvalid,
)
from ledger.errors import (
    ContentMissing,
    CosignatureConflict,
    HomeInUse,
    LedgerError,
    LedgerMissing,
)

_STATUS: dict[type[Exception], int] = {
    TokenInvalid: 401,
    InvitationUnknown: 401,
    RoleForbidden: 403,
    InvitationUsed: 403,
    InvitationExpired: 403,
    InvitationRevoked: 403,
    ContentMissing: 404,
    LedgerMissing: 404,
    CosignatureConflict: 409,
    BodyTooLarge: 413,
    HomeInUse: 503,
    StateFailed: 503,
}


def add_problems(app: FastAPI) -> None:
    """Adds the handlers of all coded errors, and of a database that does not answer."""
    app.add_exception_handler(DBAPIError, _without_database)
    app.add_exception_handler(ConsortiumError, _coded)
    app.add_exception_handler(LedgerError, _coded)


def _coded(_: Request, error: Exception) -> Response:
    status = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 400)
    return _problem(
        status,
        getattr(error, "code", "InternalError"),
        getattr(error, "what", "something went wrong"),
        getattr(error, "resolve", "see the coordinator's log"),
    )


def _without_database(_: Request, error: Exception) -> Response:
    return _problem(
        503, "DatabaseUnreachable", "the database does not answer",
        "try again; if it stays so, see the coordinator's log",
    )  # fmt: skip


def _problem(status: int, code: str, detail: str, resolve: str) -> Response:
    body = {"type": "about:blank", "code": code, "detail": detail, "resolve": resolve}
    return JSONResponse(body | {"status": status}, status, media_type="application/problem+json")
