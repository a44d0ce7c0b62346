"""The API for those who are not members yet: invitations, enrolments, and the genesis to sign.

Served alone while a home holds only a draft, and beside everything else afterwards. A newcomer
shows its invitation's secret; a founder's signature on the genesis speaks for itself. Who asks is
checked before its body is read.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError

from consortium.access_log import AccessLog
from consortium.api.callers import Permission
from consortium.api.operations import add_operations, new_app
from consortium.api.rate_limits import RateLimits
from consortium.errors import EnrolmentInvalid, GenesisInvalid, TransportInvalid
from consortium.founding import (
    check_signature,
    draft_keys,
    draft_title,
    founding,
    take_signature,
)
from consortium.invitations import Enrolment, Invitation, Invitations, draft_fingerprint
from consortium.transport import TransportKeys
from ledger.chain import ledger_id
from ledger.errors import LedgerMissing
from ledger.keys import Role
from ledger.records import Genesis, MemberForm
from ledger.store import LedgerStore

_TEXT = {"type": "string"}
_SECRET = HTTPBearer(
    auto_error=False, scheme_name="invitation", description="The secret of an invitation"
)


class Site(Protocol):
    """What newcomers are told of the consortium: a draft, or a ledger."""

    def fingerprint(self) -> str:
        """The ledger's id; of a draft, what stands for it."""

    def title(self) -> str:
        """The consortium's name."""

    def genesis(self) -> dict[str, Any]:
        """The genesis, and how far it is signed."""

    def sign(self, content: Any) -> dict[str, Any]:
        """Takes a founder's signature on it in."""


class LedgerSite:
    """A ledger that has begun."""

    def __init__(self, store: LedgerStore) -> None:
        self._store = store

    def fingerprint(self) -> str:
        """The ledger's id."""
        return self._store.chain().ledger

    def title(self) -> str:
        """The consortium's name."""
        return self._store.chain().upcoming.consortium

    def genesis(self) -> dict[str, Any]:
        """The genesis, signed by all."""
        return _genesis(self._genesis(), (), final=True)

    def sign(self, content: Any) -> dict[str, Any]:
        """A founder's signature once more, after a lost answer; nothing is stored."""
        genesis = self._genesis()
        check_signature(genesis, content)
        return _genesis(genesis, (), final=True)

    def _genesis(self) -> Genesis:
        record = self._store.block(0).entries[0].record
        assert isinstance(record, Genesis)
        return record


class DraftSite:
    """A home that `consortium init` made, until its founders have signed."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def fingerprint(self) -> str:
        """SHA-256 of the coordinator's public record key."""
        return draft_fingerprint(draft_keys(self._home)[Role.RECORD].public.public)

    def title(self) -> str:
        """The consortium's name."""
        return draft_title(self._home)

    def genesis(self) -> dict[str, Any]:
        """The genesis as it stands; LedgerMissing before there is one."""
        try:
            state = founding(self._home)
        except LedgerMissing:
            raise LedgerMissing(
                "there is no genesis yet", "wait until the coordinator has put it together"
            ) from None
        return _genesis(state.genesis, state.missing, final=state.final)

    def sign(self, content: Any) -> dict[str, Any]:
        """Keeps a founder's signature; the last one founds the ledger."""
        state = take_signature(self._home, content)
        return _genesis(state.genesis, state.missing, final=state.final)


def _genesis(genesis: Genesis, missing: tuple[str, ...], *, final: bool) -> dict[str, Any]:
    return {
        "ledger": ledger_id(genesis),
        "genesis": genesis.body(),
        "missing": list(missing),
        "final": final,
    }


def _takes(**properties: Any) -> dict[str, Any]:
    """Describes a body that is read by hand, after it is known who asks."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    content = {"application/json": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


_TRANSPORT = _takes(key=_TEXT, proof=_TEXT)
_SIGNATURE = _takes(ledger=_TEXT, institution=_TEXT, signature={"type": "object"})
_ENROLMENT = _takes(
    form={"type": "object"},
    consent={"type": ["string", "null"]},
    transport={"type": "object", "properties": {"key": _TEXT, "proof": _TEXT}},
)


def create_draft_app(home: Path, requests_per_minute: int = 0) -> FastAPI:
    """The API of a draft: nothing but what its founders need."""
    app = new_app()
    app.include_router(enrolment_router(home, DraftSite(home)))
    add_operations(
        app, _no_height, AccessLog(home),
        RateLimits(requests_per_minute) if requests_per_minute else None,
    )  # fmt: skip

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT"], include_in_schema=False)
    def later(path: str) -> None:
        _no_height()

    return app


def _no_height() -> int:
    raise LedgerMissing("the ledger has not begun", "try again once all founders have signed")


def enrolment_router(home: Path, site: Site) -> APIRouter:
    """The routes for newcomers and founders."""
    router = APIRouter(prefix="/v1", tags=["joining"])
    invitations = Invitations(home)

    def invited(
        shown: Annotated[HTTPAuthorizationCredentials | None, Security(_SECRET)],
    ) -> Invitation:
        return invitations.open(shown.credentials if shown else "", site.fingerprint())

    @router.get("/invitation")
    def invitation(who: Annotated[Invitation, Depends(invited)]) -> dict[str, Any]:
        """What an invitation is for, shown to whoever holds its secret."""
        return {
            "institution": who.institution,
            "title": who.title,
            "consortium": site.title(),
            "ledger": who.ledger,
            "founder": who.founder,
        }

    @router.post("/enrolments", status_code=201, openapi_extra=_ENROLMENT)
    def enrol(
        who: Annotated[Invitation, Depends(invited)], content: Annotated[Any, Depends(_body)]
    ) -> dict[str, str]:
        """Takes in a newcomer's keys; the very same once more, after a lost answer."""
        invitations.enrol(who, _enrolment(content))
        return {"institution": who.institution, "state": "waits for approval"}

    @router.get("/genesis")
    def genesis() -> dict[str, Any]:
        """The genesis, and whose signatures it lacks."""
        return site.genesis()

    @router.post("/genesis/signatures", openapi_extra=_SIGNATURE)
    def sign(content: Annotated[Any, Depends(_body)]) -> dict[str, Any]:
        """Takes in a founder's signature; the last one begins the ledger."""
        if not isinstance(content, dict):
            raise GenesisInvalid(
                "this is no founder's signature", "run `hospital-agent sign-genesis`"
            )
        return site.sign(content)

    return router


def transport_router(home: Path, institution: Permission, ledger: Callable[[], str]) -> APIRouter:
    """The route by which a member hands in its SuperNode's key, the first or a new one."""
    router = APIRouter(prefix="/v1", tags=["joining"])
    keys = TransportKeys(home)

    @router.put("/institutions/self/transport", status_code=204, openapi_extra=_TRANSPORT)
    def put(
        who: Annotated[str, Depends(institution)], content: Annotated[Any, Depends(_body)]
    ) -> None:
        """Takes in the key that opens the channel of a member's node, the first or a new one."""
        keys.put(ledger(), who, *_transport(content))

    return router


async def _body(request: Request) -> Any:
    try:
        return json.loads(await request.body())
    except (ValueError, RecursionError):
        return None


def _enrolment(content: Any) -> Enrolment:
    try:
        consent = content["consent"]
        return Enrolment(
            MemberForm.model_validate(content["form"]),
            None if consent is None else str(consent),
            *_transport(content["transport"]),
        )
    except (KeyError, TypeError, ValidationError):
        raise EnrolmentInvalid(
            "this is no enrolment that can be read", "run `hospital-agent enrol` of this version"
        ) from None


def _transport(content: Any) -> tuple[bytes, bytes]:
    try:
        return content["key"].encode(), bytes.fromhex(content["proof"])
    except (KeyError, TypeError, AttributeError, ValueError):
        raise TransportInvalid(
            "this is no transport key that can be read", "run `hospital-agent` of this version"
        ) from None
