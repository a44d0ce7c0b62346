"""`GET /v1/events`: what happens, as it happens, as server-sent events (WHATWG HTML, section 9.2).

Each event is a whole state, so whoever connects again has missed nothing that still holds. However
many listen, there is one look at a time for all of them. A stream ends after a while, and whoever
connects again shows a token that still holds.
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
LONGEST_S = 900.0
State = list[tuple[str, str]]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}


def events_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, live: Live,
    changes: Changes | None,
) -> APIRouter:  # fmt: skip
    """The route. ``changes`` tells of new blocks at once; without it they are looked for."""
    router = APIRouter(prefix="/v1", tags=["events"])

    def look() -> State:
        """The state as events: the head, jobs that have not ended, and the newest job."""
        now = live()
        with standing.jobs() as jobs:
            known = list(jobs.values())
            shown = [job_form(j, now) for j in known if not j.end or j is known[-1]]
        forms = [("head", head_of(store)), *(("job", form) for form in shown)]
        return [(name, json.dumps(form.model_dump(mode="json"))) for name, form in forms]

    looks = _Looks(look)

    @router.get(
        "/events", dependencies=[Depends(allowed.everyone)], response_class=StreamingResponse,
        responses=_STREAM,
    )  # fmt: skip
    async def events() -> StreamingResponse:
        """The newest block and the jobs that run: at once, then whenever one changes."""
        return StreamingResponse(_stream(looks, changes), media_type="text/event-stream")

    return router


class _Looks:
    """One look at a time, shared by all who ask before it has begun."""

    def __init__(self, look: Callable[[], State]) -> None:
        self._look = look
        self._found: tuple[float, State] = (float("-inf"), [])
        self._running: asyncio.Task[State] | None = None
        self._next: asyncio.Task[State] | None = None

    async def take(self, fresh: bool) -> State:
        """The state: not older than this call, or else than half the time between two looks."""
        began, found = self._found
        if not fresh and asyncio.get_running_loop().time() < began + LOOK_S / 2:
            return found
        if self._next is None:
            self._next = asyncio.create_task(self._after(self._running))
        return await asyncio.shield(self._next)  # somebody's going away ends nobody else's look

    async def _after(self, before: "asyncio.Task[State] | None") -> State:
        if before is not None and not before.done():
            await asyncio.wait([before])
        self._running, self._next = self._next, None
        began = asyncio.get_running_loop().time()
        found = await run_in_threadpool(self._look)
        self._found = began, found
        return found


async def _stream(looks: _Looks, changes: Changes | None) -> AsyncIterator[str]:
    loop, changed = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the server has ended meanwhile
            loop.call_soon_threadsafe(changed.set)

    unsubscribe = changes.subscribe(wake) if changes else lambda: None
    try:
        sent: State = []
        began = told = loop.time()
        changed.set()
        while loop.time() < began + LONGEST_S:
            fresh = changed.is_set()
            changed.clear()
            found = await looks.take(fresh)
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
