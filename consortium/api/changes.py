"""`GET /v1/ledger/changes`: answers once there is something to look at, so nobody has to poll.

Whoever asks gives the counts that it knows; the answer comes as soon as one differs, or after at
most `LONGEST_S` without. Counts mean nothing but that they differ, and begin anew with the process.
"""

import asyncio
from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from consortium.api.callers import Permission
from ledger.changes import Changes, Happened

LONGEST_S = 25.0


def changes_router(changes: Changes, caller: Permission) -> APIRouter:
    """The route. ``caller`` is the dependency that says who asks."""
    router = APIRouter(prefix="/v1", tags=["ledger"])

    @router.get("/ledger/changes", dependencies=[Depends(caller)])
    async def wait(
        block: int = -1,
        messages: int = -1,
        seconds: Annotated[float, Query(ge=0, le=LONGEST_S)] = LONGEST_S,
    ) -> dict[str, int]:
        """Waits until a count differs from what is known, or the time is over; the counts then."""
        known = {Happened.BLOCK: block, Happened.MESSAGES: messages}
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        unsubscribe = changes.subscribe(lambda: _wake(loop, changed))
        try:
            deadline = loop.time() + seconds
            while all(changes.counts[what] == count for what, count in known.items()):
                changed.clear()
                if all(changes.counts[what] == count for what, count in known.items()):
                    with suppress(TimeoutError):
                        await asyncio.wait_for(changed.wait(), max(0, deadline - loop.time()))
                if loop.time() >= deadline:
                    break
        finally:
            unsubscribe()
        counts = changes.counts
        return {str(what): counts[what] for what in known}

    return router


def _wake(loop: asyncio.AbstractEventLoop, changed: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the server has ended meanwhile
        loop.call_soon_threadsafe(changed.set)
