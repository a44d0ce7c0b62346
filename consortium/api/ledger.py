"""The API for the ledger itself: what witnesses co-sign by, and what people look up."""

import json
import re
from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, Depends, Path, Query, Request, Response

from consortium.api.answers import answer
from consortium.api.caching import tagged
from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, page_of, past
from consortium.api.schemas import (
    BlockBytes,
    BlockSummary,
    Conflict,
    ConsistencyProof,
    Found,
    Head,
    Leaf,
    MemberHeadNote,
    MemberHeads,
    MembershipForm,
    Page,
    RecordItem,
)
from consortium.api.wire import block_to_wire, membership_to_wire
from consortium.rounds.evaluation import check_evaluation
from consortium.standing import Standing
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.errors import DisclosureInvalid, LedgerMissing, RecordInvalid
from ledger.listing import Listed
from ledger.merkle import leaf_hash
from ledger.note import SignedHead
from ledger.prove import prove
from ledger.records import Evaluation
from ledger.records import Name as RecordName
from ledger.store import LedgerStore

MOST_SUBMITTED = 1_000_000
MOST_FOUND = 20
HIGHEST = 2**53 - 1
Height = Annotated[int, Path(ge=0, le=HIGHEST)]
Index = Annotated[int, Path(ge=0, le=HIGHEST)]
Name = Annotated[RecordName, Query()]
_PLAIN = {"text/plain": {"schema": {"type": "string"}}}


def ledger_router(
    store: LedgerStore,
    standing: Standing,
    allowed: Permissions,
    on_change: Callable[[], None],
) -> APIRouter:
    """The routes. ``on_change`` is called after every submission and every cosignature."""
    router = APIRouter(prefix="/v1/ledger", tags=["ledger"])
    anyone, institution = [Depends(allowed.everyone)], allowed.members

    @router.get("/head", dependencies=anyone, response_model=Head)
    def head() -> Response:
        """The newest block, final or not."""
        return answer(head_of(store))

    @router.get("/blocks", dependencies=anyone, response_model=Page[BlockSummary])
    def blocks(limit: Limit = 50, cursor: Cursor = None, order: Order = Order.OLDEST) -> Response:
        """Blocks in pages; a cursor is a height."""
        found = store.listing.blocks(
            past=past(cursor), limit=limit + 1, newest_first=order is Order.NEWEST
        )
        items = [BlockSummary.model_validate(block, from_attributes=True) for block in found]
        return answer(page_of(items, limit, lambda block: str(block.height)))

    @router.get("/blocks/{height}", dependencies=anyone, response_model=BlockBytes)
    def block(height: Height, request: Request) -> Any:
        """A whole block: the bytes that were signed, and the cosignatures on it so far."""
        found, lines = store.block(height), store.cosignatures(height)
        tag = f"{found.header.hash}-{len(lines)}"
        return tagged(request, tag, lambda: _json(block_to_wire(found, lines)), final=False)

    @router.get("/entries", dependencies=anyone, response_model=Page[RecordItem])
    def entries(
        type: Annotated[str | None, Query(pattern=r"^[a-z-]{1,40}$", examples=["result"])] = None,
        job: Name | None = None,
        institution: Name | None = None,
        limit: Limit = 50,
        cursor: Cursor = None,
        order: Order = Order.OLDEST,
    ) -> Response:
        """Records of a type, a job, an institution or all; a cursor is an index."""
        found = store.listing.entries(
            (type,) if type else (), job, institution,
            past=past(cursor), limit=limit + 1, newest_first=order is Order.NEWEST,
        )  # fmt: skip
        return page_of_records(found, limit)

    @router.get("/records/{index}", dependencies=anyone, response_model=Leaf)
    def record(index: Index, request: Request) -> Any:
        """One leaf with its signatures: a record, or a block's header."""
        with store.snapshot() as snapshot:
            found = snapshot.leaf(index)
        if found is None:
            raise LedgerMissing(f"there is no record {index}", "see /v1/ledger/head for how many")
        height, data = found
        leaf = leaf_hash(data).hex()
        content = {"index": index, "height": height, "leaf": leaf, "entry": json.loads(data)}
        final = height <= store.final_height()
        return tagged(request, f"{index}-{leaf}", lambda: _json(content), final=final)

    @router.get(
        "/proofs/{index}", dependencies=anyone, response_class=Response,
        responses={200: {"content": _PLAIN}},
    )  # fmt: skip
    def proof(index: Index, request: Request) -> Response:
        """The file that proves one record to a third party (C2SP tlog-proof)."""
        final = store.final_height()  # a newer block makes another proof, of the same record
        with store.snapshot() as snapshot:
            text = prove(snapshot, index, final)
        tag = sha256(text.encode()).hexdigest()  # members may co-sign a block that is final
        return tagged(request, tag, lambda: Response(text, media_type="text/plain"), final=False)

    @router.get("/search", dependencies=anyone)
    def search(
        q: Annotated[
            str,
            Query(
                pattern=r"^([0-9]{1,15}|[0-9a-f]{6,64})$",
                examples=["204"],
                description="an index, or how the hash of a record, block or released model begins",
            ),
        ],
    ) -> Page[Found]:
        """What has this index, or a hash that begins like this."""
        return Page[Found](items=_search(store, standing, q)[:MOST_FOUND])

    @router.get("/consistency", dependencies=anyone)
    def consistency(
        old: Annotated[int, Query(ge=0, le=HIGHEST)], size: Annotated[int, Query(ge=0, le=HIGHEST)]
    ) -> ConsistencyProof:
        """Proof that the tree of ``old`` leaves is the beginning of that of ``size``."""
        return ConsistencyProof(proof=[s.hex() for s in store.consistency_proof(old, size)])

    @router.get("/heads", dependencies=anyone)
    def heads() -> MemberHeads:
        """What each member co-signed last, and second cosignatures by one key."""
        return MemberHeads(
            heads=[
                MemberHeadNote(
                    institution=head.institution,
                    note=SignedHead(head.checkpoint, (head.signature, head.line)).text(),
                )
                for head in store.member_heads()
            ],
            conflicts=[
                Conflict(height=height, line=line) for height, line in store.newest_conflicts()
            ],
        )

    @router.get("/membership", dependencies=anyone)
    def membership() -> MembershipForm:
        """Who signs from the next block on, and the changes that wait for approvals."""
        return MembershipForm.model_validate(membership_to_wire(store.chain().upcoming))

    @router.post("/submissions", status_code=201)
    def submit(
        entry: Annotated[str, Body(max_length=MOST_SUBMITTED)],
        who: Annotated[str, Depends(institution)],
        disclosure: Annotated[dict[str, str] | None, Body()] = None,
    ) -> dict[str, str]:
        """Takes in an institution's own signed record, for the next block between rounds."""
        submitted = Entry(entry.encode())
        if submitted.record.author != who:
            raise RecordInvalid("a record by another institution", "hand in your own records")
        if isinstance(submitted.record, Evaluation):
            _check(submitted.record, standing)
        opens = None if disclosure is None else _disclosure(disclosure)
        if opens is not None:
            opens.check(getattr(submitted.record, "approver", ""))
        key = store.submit(submitted)
        if opens is not None:
            store.disclose(opens)
        on_change()
        return {"key": key}

    @router.post("/blocks/{height}/cosignatures", status_code=204)
    def cosignature(
        height: Height,
        line: Annotated[str, Body(embed=True, max_length=1000)],
        who: Annotated[str, Depends(institution)],
    ) -> None:
        """Takes in an institution's own cosignature; repeats are harmless."""
        if line.split(" ")[1:2] != [who]:
            raise RecordInvalid(
                "a cosignature by another institution", "hand in your own cosignature"
            )
        store.add_cosignature(height, line)
        on_change()

    return router


def _check(evaluation: Evaluation, standing: Standing) -> None:
    """What no block may ever hold is not kept: it would be looked at before each block anew."""
    with standing.jobs() as jobs:
        job = jobs.get(evaluation.job)
        end = job.end if job else None
        check_evaluation(evaluation, job.contract if job else None, end.record if end else None)


def head_of(store: LedgerStore) -> Head:
    """The newest block as people and witnesses see it."""
    newest = store.head()
    header = newest.header
    return Head(
        ledger=header.ledger, height=header.height, hash=header.hash, entries=header.size,
        records=header.size - header.height, checkpoint=newest.checkpoint.text(),
        time=header.time, cosigned=newest.cosigned, quorum=newest.quorum,
        members=len(newest.membership.members), final=newest.final,
    )  # fmt: skip


def page_of_records(found: Sequence[Listed], limit: int) -> Response:
    """A page out of one more than it holds: the bytes that were signed, passed on unread."""
    items = b",".join(
        b'{"index":%d,"height":%d,"record":%s}' % (one.index, one.height, one.entry.stored_body)
        for one in found[:limit]
    )
    after = b'"%d"' % found[limit - 1].index if len(found) > limit else b"null"
    return Response(b'{"items":[%s],"next":%s}' % (items, after), media_type="application/json")


def _search(store: LedgerStore, standing: Standing, q: str) -> list[Found]:
    found = []
    if re.fullmatch(r"[0-9]{1,15}", q):
        with store.snapshot() as snapshot:
            leaf = snapshot.leaf(int(q))
        if leaf is not None:
            height, data = leaf
            content = json.loads(data)
            body = content.get("body", content)
            found.append(
                Found(what=_what(body["type"]), hash=leaf_hash(data).hex(), height=height,
                      index=int(q), type=body["type"], job=body.get("job"))
            )  # fmt: skip
    if re.fullmatch(r"[0-9a-f]{6,64}", q):
        found += [
            Found(what=_what(type), hash=name, height=height,
                  index=index, type=type, job=job)
            for index, height, name, type, job in store.listing.by_hash(q, MOST_FOUND)
        ]  # fmt: skip
        with standing.jobs() as jobs:
            ends = [job.end for job in jobs.values() if job.end]
        found += [
            Found(what="model", hash=end.record.model, height=end.height, index=end.index,
                  type="job-end", job=end.record.job)
            for end in ends if end.record.model.startswith(q)
        ]  # fmt: skip
    return found


def _what(type: str) -> Literal["record", "block"]:
    return "block" if type == "block" else "record"


def _json(content: Any) -> Response:
    return Response(
        json.dumps(content, separators=(",", ":")).encode(), media_type="application/json"
    )


def _disclosure(form: dict[str, str]) -> Disclosure:
    try:
        return Disclosure(bytes.fromhex(form["salt"]), form["value"])
    except (KeyError, ValueError):
        raise DisclosureInvalid("it has no salt in hex and value", "send both") from None
