"""The HTTP API, version 1: what witnesses need, and what the portal reads.

Every request carries a token: an institution's own (`consortium.api.tokens`), a person's
(`consortium.access`), or the one that `consortium portal` makes for its own run. Institutions read
everything that members share, updates included; people read the ledger and what it says, and write
nothing. Each route says beside itself whom it is for (`consortium.api.callers`).
"""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Path, Query, Response

from consortium.access import AccessTokens
from consortium.api.callers import EVERYONE, MEMBERS, MODELS, Callers
from consortium.api.changes import changes_router
from consortium.api.enrolment import LedgerSite, enrolment_router, transport_router
from consortium.api.jobs import jobs_router
from consortium.api.problems import add_problems
from consortium.api.wire import block_to_wire, membership_to_wire
from consortium.models import ModelStore
from ledger.changes import Changes
from ledger.content import ContentStore
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.errors import (
    ContentMissing,
    DisclosureInvalid,
    LedgerMissing,
    RecordInvalid,
)
from ledger.merkle import leaf_hash
from ledger.note import SignatureLine, SignedHead
from ledger.prove import prove
from ledger.store import LedgerStore

MOST_BLOCKS = 100
MOST_SUBMITTED = 1_000_000
_DIGEST = re.compile(r"[0-9a-f]{64}")


def create_app(
    store: LedgerStore,
    content: ContentStore,
    models: ModelStore,
    portal_token: str | None = None,
    on_change: Callable[[], None] = lambda: None,
    home: pathlib.Path | None = None,
    changes: Changes | None = None,
) -> FastAPI:
    """The API over one ledger. ``portal_token`` lets the local portal in, to read.

    ``on_change`` is called after every submission and every cosignature. With the coordinator's
    ``home`` people get in with their tokens, those who are invited can enrol, and members hand in
    transport keys; with ``changes`` they are told when there is something to look at.
    """
    app = FastAPI(title="MedPoLe", version="1", docs_url=None, redoc_url=None)

    callers = Callers(store, AccessTokens(home) if home else None, portal_token)
    caller, institution = callers.only(EVERYONE), callers.only(MEMBERS)
    anyone, members = [Depends(caller)], [Depends(institution)]
    readers_of_models = [Depends(callers.only(MODELS))]

    @app.get("/v1/ledger/head", dependencies=anyone)
    def head() -> dict[str, Any]:
        newest = store.head()
        return {
            "ledger": newest.header.ledger,
            "height": newest.header.height,
            "hash": newest.header.hash,
            "entries": newest.header.size,
            "checkpoint": store.checkpoint(newest.header.height).text(),
            "time": newest.header.time,
            "cosigned": newest.cosigned,
            "quorum": newest.quorum,
            "final": newest.final,
        }

    @app.get("/v1/ledger/blocks/{height}", dependencies=anyone)
    def block(height: int) -> dict[str, Any]:
        return block_to_wire(store.block(height), store.cosignatures(height))

    @app.get("/v1/ledger/blocks", dependencies=anyone)
    def blocks(
        first: Annotated[int, Query(alias="from", ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=MOST_BLOCKS)] = 50,
    ) -> list[dict[str, Any]]:
        newest = store.head().header.height
        # One block in memory at a time, and no connection held in between.
        return [_summary(store, height) for height in range(first, min(first + limit, newest + 1))]

    @app.get("/v1/ledger/records/{index}", dependencies=anyone)
    def record(index: Annotated[int, Path(ge=0)]) -> dict[str, Any]:
        with store.snapshot() as snapshot:
            found = snapshot.leaf(index)
        if found is None:
            raise LedgerMissing(f"there is no record {index}", "see /v1/ledger/head for how many")
        height, data = found
        return {
            "index": index,
            "height": height,
            "leaf": leaf_hash(data).hex(),
            "entry": json.loads(data),
        }

    @app.get("/v1/ledger/proofs/{index}", dependencies=anyone)
    def proof(index: Annotated[int, Path(ge=0)]) -> Response:
        with store.snapshot() as snapshot:
            return Response(prove(snapshot, index), media_type="text/plain; charset=utf-8")

    @app.get("/v1/ledger/consistency", dependencies=anyone)
    def consistency(
        old: Annotated[int, Query(ge=0)], size: Annotated[int, Query(ge=0)]
    ) -> dict[str, Any]:
        return {"proof": [step.hex() for step in store.consistency_proof(old, size)]}

    @app.get("/v1/ledger/heads", dependencies=anyone)
    def heads() -> dict[str, Any]:
        return {
            "heads": [
                {
                    "institution": head.institution,
                    "note": SignedHead(head.checkpoint, (head.signature, head.line)).text(),
                }
                for head in store.member_heads()
            ],
            "conflicts": [{"height": height, "line": line} for height, line in store.conflicts()],
        }

    @app.get("/v1/ledger/membership", dependencies=anyone)
    def membership() -> dict[str, Any]:
        return membership_to_wire(store.chain().upcoming)

    @app.post("/v1/ledger/submissions", status_code=201)
    def submit(
        entry: Annotated[str, Body(max_length=MOST_SUBMITTED)],
        who: Annotated[str, Depends(institution)],
        disclosure: Annotated[dict[str, str] | None, Body()] = None,
    ) -> dict[str, str]:
        submitted = Entry(entry.encode())
        if submitted.record.author != who:
            raise RecordInvalid("a record by another institution", "hand in your own records")
        opens = None if disclosure is None else _disclosure(disclosure)
        if opens is not None:
            opens.check(getattr(submitted.record, "approver", ""))
        key = store.submit(submitted)
        if opens is not None:
            store.disclose(opens)
        on_change()
        return {"key": key}

    @app.post("/v1/ledger/blocks/{height}/cosignatures", status_code=204)
    def cosignature(
        height: int,
        line: Annotated[str, Body(embed=True, max_length=1000)],
        who: Annotated[str, Depends(institution)],
    ) -> None:
        if line.split(" ")[1:2] != [who]:
            raise RecordInvalid(
                "a cosignature by another institution", "hand in your own cosignature"
            )
        store.add_cosignature(height, line)
        on_change()

    @app.get("/v1/ledger/entries", dependencies=anyone)
    def entries(type: str | None = None, job: str | None = None) -> list[dict[str, Any]]:
        return [entry.record.body() for entry in store.entries(type, job)]

    @app.get("/v1/institutions", dependencies=anyone)
    def institutions() -> list[dict[str, Any]]:
        return [member.model_dump(mode="json") for member in store.chain().members.values()]

    @app.get("/v1/content/{digest}", dependencies=members)
    def content_of(digest: str) -> Response:
        return Response(content.get(_digest(digest)), media_type="application/octet-stream")

    @app.get("/v1/models/{name}", dependencies=readers_of_models)
    def model(name: str) -> Response:
        data = models.path(_digest(name)).read_bytes()
        return Response(data, media_type="application/octet-stream")

    if home is not None:
        app.include_router(enrolment_router(home, LedgerSite(store)))
        app.include_router(transport_router(home, institution, lambda: store.chain().ledger))
        if changes is not None:
            app.include_router(changes_router(changes, caller))
        app.include_router(jobs_router(home, store, institution, caller))
    add_problems(app)
    return app


def _summary(store: LedgerStore, height: int) -> dict[str, Any]:
    """What a list of blocks shows. A block is about its last entry: a job, a result, an end."""
    block = store.block(height)
    about = block.entries[-1].record if block.entries else None
    return {
        "height": height,
        "hash": block.header.hash,
        "time": block.header.time,
        "first": block.header.first,
        "entries": block.header.count,
        "type": about.type if about else None,
        "job": getattr(about, "job", None),
        "round": getattr(about, "round", None),
        "leaves": [entry.leaf.hex() for entry in block.entries],
        "cosigners": [SignatureLine.parse(line).name for line in store.cosignatures(height)],
    }


def _disclosure(form: dict[str, str]) -> Disclosure:
    try:
        return Disclosure(bytes.fromhex(form["salt"]), form["value"])
    except (KeyError, ValueError):
        raise DisclosureInvalid("it has no salt in hex and value", "send both") from None


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ContentMissing("a digest has 64 hexadecimal digits", "copy it from the ledger")
    return text
