"""The API for those who are not members yet: invitations, enrolments, and the genesis to sign.

Served alone while a home holds only a draft, and beside everything else afterwards. A newcomer
shows its invitation's secret; a founder's signature on the genesis speaks for itself. Who asks is
checked before its body is read, and no body is read beyond its limit.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Depends, FastAPI, Header, Request
from pydantic import ValidationError

from consortium.api.problems import add_problems
from consortium.errors import BodyTooLarge, EnrolmentInvalid, GenesisInvalid, TransportInvalid
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

MOST_BYTES = 32_768


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


def create_draft_app(home: Path) -> FastAPI:
    """The API of a draft: nothing but what its founders need."""
    app = FastAPI(title="MedPoLe", version="1", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(enrolment_router(home, DraftSite(home)))

    @app.api_route("/{path:path}", methods=["GET", "POST", "PUT"], include_in_schema=False)
    def later(path: str) -> None:
        raise LedgerMissing("the ledger has not begun", "try again once all founders have signed")

    add_problems(app)
    return app


def enrolment_router(home: Path, site: Site) -> APIRouter:
    """The routes for newcomers and founders."""
    router = APIRouter(prefix="/v1")
    invitations = Invitations(home)

    def invited(authorization: Annotated[str, Header()] = "") -> Invitation:
        return invitations.open(authorization.removeprefix("Bearer "), site.fingerprint())

    @router.get("/invitation")
    def invitation(who: Annotated[Invitation, Depends(invited)]) -> dict[str, Any]:
        return {
            "institution": who.institution,
            "title": who.title,
            "consortium": site.title(),
            "ledger": who.ledger,
            "founder": who.founder,
        }

    @router.post("/enrolments", status_code=201)
    def enrol(
        who: Annotated[Invitation, Depends(invited)], content: Annotated[Any, Depends(_body)]
    ) -> dict[str, str]:
        invitations.enrol(who, _enrolment(content))
        return {"institution": who.institution, "state": "waits for approval"}

    @router.get("/genesis")
    def genesis() -> dict[str, Any]:
        return site.genesis()

    @router.post("/genesis/signatures")
    def sign(content: Annotated[Any, Depends(_body)]) -> dict[str, Any]:
        if not isinstance(content, dict):
            raise GenesisInvalid(
                "this is no founder's signature", "run `hospital-agent sign-genesis`"
            )
        return site.sign(content)

    return router


def transport_router(
    home: Path, institution: Callable[..., str], ledger: Callable[[], str]
) -> APIRouter:
    """The route by which a member hands in its SuperNode's key, the first or a new one."""
    router = APIRouter(prefix="/v1")
    keys = TransportKeys(home)

    @router.put("/institutions/self/transport", status_code=204)
    def put(
        who: Annotated[str, Depends(institution)], content: Annotated[Any, Depends(_body)]
    ) -> None:
        keys.put(ledger(), who, *_transport(content))

    return router


async def _body(request: Request) -> Any:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MOST_BYTES:
            raise BodyTooLarge(
                f"the request has more than {MOST_BYTES} bytes", "run the same version on all sides"
            )
    try:
        return json.loads(data)
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
