"""The HTTP API, version 1: what witnesses need, and what the portal reads.

Every request carries a token: an institution's own (`consortium.api.tokens`), or the reader's
token that `consortium portal` makes for its own run. Institutions read everything that members
share, updates included; the reader sees the ledger and models, and writes nothing.
"""

import hmac
import json
import re
from bisect import bisect_left
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Body, Depends, FastAPI, Header, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from consortium.api.tokens import check_token
from consortium.api.wire import block_to_wire
from consortium.errors import ConsortiumError, TokenInvalid
from consortium.models import ModelStore
from ledger.content import ContentStore
from ledger.errors import ContentMissing, LedgerError, LedgerMissing, RecordInvalid
from ledger.note import SignatureLine
from ledger.store import LedgerStore

READER = "reader"
MOST_BLOCKS = 100
_DIGEST = re.compile(r"[0-9a-f]{64}")


def create_app(
    store: LedgerStore, content: ContentStore, models: ModelStore, reader_token: str | None = None
) -> FastAPI:
    """The API over one ledger. Without ``reader_token`` only institutions get in."""
    app = FastAPI(title="MedPoLe", version="1", docs_url=None, redoc_url=None)

    def caller(authorization: Annotated[str, Header()] = "") -> str:
        token = authorization.removeprefix("Bearer ")
        if reader_token is not None and hmac.compare_digest(token.encode(), reader_token.encode()):
            return READER
        chain = store.chain()
        return check_token(token, chain.ledger, chain.members)

    def institution(who: Annotated[str, Depends(caller)]) -> str:
        if who == READER:
            raise TokenInvalid("this is for institutions only", "use an institution's own token")
        return who

    anyone = [Depends(caller)]
    members = [Depends(institution)]

    @app.get("/v1/ledger/head", dependencies=anyone)
    def head() -> dict[str, Any]:
        newest = store.head()
        return {
            "ledger": newest.header.ledger,
            "height": newest.header.height,
            "hash": newest.header.hash,
            "entries": newest.header.size,
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
        heights = range(store.head().header.height + 1)
        height = bisect_left(heights, index + 1, key=lambda h: store.checkpoint(h).size)
        if height not in heights:
            raise LedgerMissing(f"there is no record {index}", "see /v1/ledger/head for how many")
        found = store.block(height)
        if index == found.header.size:  # a block's header is the leaf after its entries
            leaf, data = found.header.leaf, found.header.data()
        else:
            entry = found.entries[index - found.header.first]
            leaf, data = entry.leaf, entry.data
        return {
            "index": index,
            "height": height,
            "leaf": leaf.hex(),
            "entry": json.loads(data),
        }

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

    @app.get("/v1/ledger/entries", dependencies=anyone)
    def entries(type: str | None = None, job: str | None = None) -> list[dict[str, Any]]:
        return [entry.record.body() for entry in store.entries(type, job)]

    @app.get("/v1/institutions", dependencies=anyone)
    def institutions() -> list[dict[str, Any]]:
        return [member.model_dump(mode="json") for member in store.chain().members.values()]

    @app.get("/v1/content/{digest}", dependencies=members)
    def content_of(digest: str) -> Response:
        return Response(content.get(_digest(digest)), media_type="application/octet-stream")

    @app.get("/v1/models/{name}", dependencies=anyone)
    def model(name: str) -> Response:
        path = models.path(_digest(name))
        models.get(name)  # checks the file against its hash
        return Response(path.read_bytes(), media_type="application/octet-stream")

    def problem(status: Callable[[Exception], int]) -> Callable[[Request, Exception], Response]:
        def respond(_: Request, error: Exception) -> Response:
            body = {
                "type": "about:blank",
                "code": getattr(error, "code", "InternalError"),
                "detail": getattr(error, "what", "something went wrong"),
                "resolve": getattr(error, "resolve", "see the coordinator's log"),
                "status": status(error),
            }
            return JSONResponse(body, status(error), media_type="application/problem+json")

        return respond

    def ledger_status(error: Exception) -> int:
        return 404 if isinstance(error, ContentMissing | LedgerMissing) else 400

    app.add_exception_handler(TokenInvalid, problem(lambda _: 401))
    app.add_exception_handler(ConsortiumError, problem(lambda _: 400))
    app.add_exception_handler(LedgerError, problem(ledger_status))
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


def _digest(text: str) -> str:
    if not _DIGEST.fullmatch(text):
        raise ContentMissing("a digest has 64 hexadecimal digits", "copy it from the ledger")
    return text
