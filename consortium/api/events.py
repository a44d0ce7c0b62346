"""`GET /v1/events`: what happens, as it happens, as server-sent events (WHATWG HTML, section 9.2).

Each event is a whole state, so whoever connects again has missed nothing that still holds.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Depends
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from consortium.api.callers import Permissions
from consortium.api.jobs import Live, job_form
from consortium.api.ledger import head_of
from consortium.standing import Standing
from ledger.changes import Changes
from ledger.store import LedgerStore

LOOK_S = 1.0  # what the coordinator reports of a running job comes from a file
HEARTBEAT_S = 15.0
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def events_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, live: Live,
    changes: Changes | None,
) -> APIRouter:  # fmt: skip
    """The route. ``changes`` tells of new blocks at once; without it they are looked for."""
    router = APIRouter(prefix="/v1", tags=["events"])

    def look() -> list[tuple[str, str]]:
        """The state as events: the head, jobs that have not ended, and the newest job."""
        now = live()
        with standing.jobs() as jobs:
            known = list(jobs.values())
            shown = [job_form(j, now) for j in known if not j.end or j is known[-1]]
        forms = [("head", head_of(store)), *(("job", form) for form in shown)]
        return [(name, json.dumps(form.model_dump(mode="json"))) for name, form in forms]

    @router.get(
        "/events", dependencies=[Depends(allowed.everyone)], response_class=StreamingResponse,
        responses=_STREAM,
    )  # fmt: skip
    async def events() -> StreamingResponse:
        """The newest block and the jobs that run: at once, then whenever one changes."""
        return StreamingResponse(_stream(look, changes), media_type="text/event-stream")

    return router


async def _stream(
    look: Callable[[], list[tuple[str, str]]], changes: Changes | None
) -> AsyncIterator[str]:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(changed.set)

    unsubscribe = changes.subscribe(wake) if changes else lambda: None
    try:
        sent: list[tuple[str, str]] = []
        told = loop.time()
        while True:
            changed.clear()
            found = await run_in_threadpool(look)
            for name, data in found:
                if (name, data) not in sent:
                    yield f"event: {name}\ndata: {data}\n\n"
                    told = loop.time()
            sent = found
            if loop.time() - told > HEARTBEAT_S:
                yield ": still here\n\n"
                told = loop.time()
            with suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), LOOK_S)
    finally:
        unsubscribe()
