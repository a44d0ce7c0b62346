"""People wait for one another, members for nobody.

All requests cost one process. Fifty people who look at pages would slow the round down that members
are in the middle of, so people's requests are worked on a few at a time. While a job runs it is one
at a time, and the lane rests after each, three times as long as it took and at most a second: of
short requests all people together get a quarter of one core.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable

WIDTH = 4
SHARE = 0.25
"""Of the time, for people's requests, while a job runs."""
_LONGEST_REST_S = 1.0
_FRESH_S = 0.5


class Lane:
    """One server's lane; used from its event loop only.

    Args:
        running: whether a job is running; asked twice a second at most.
    """

    def __init__(self, running: Callable[[], bool]) -> None:
        self._running = running
        self._asked, self._paced = float("-inf"), False
        self._inside = 0
        self._rests_until = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._alarm: asyncio.TimerHandle | None = None

    async def enter(self) -> Callable[[], None]:
        """Waits for a turn; returns how to give it back, which is to be called once."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        self._admit()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._leave(0.0)
            raise
        began = time.monotonic()
        return lambda: self._leave(time.monotonic() - began)

    def _leave(self, took: float) -> None:
        self._inside -= 1
        if self._is_paced():
            rest = min(_LONGEST_REST_S, took * (1 / SHARE - 1))
            self._rests_until = time.monotonic() + rest
        self._admit()

    def _admit(self) -> None:
        """Lets in whoever is first, as long as there is room."""
        while self._waiting and self._inside < (1 if self._is_paced() else WIDTH):
            if (rest := self._rests_until - time.monotonic()) > 0:
                if self._alarm is None:
                    self._alarm = asyncio.get_running_loop().call_later(rest, self._rested)
                return
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                self._inside += 1

    def _rested(self) -> None:
        self._alarm = None
        self._admit()

    def _is_paced(self) -> bool:
        now = time.monotonic()
        if now > self._asked + _FRESH_S:
            self._asked, self._paced = now, self._running()
        return self._paced
