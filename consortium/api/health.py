"""`GET /v1/health` and `GET /v1/ready`: whether the process answers, and whether it can work."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter

from consortium.api.problems import problem, without_database
from consortium.api.schemas import Health, Ready
from ledger.errors import LedgerMissing

PATIENCE_S = 2.0
_FRESH_S = 1.0


class Readiness:
    """Looks at the ledger, one look at a time however many ask; one may never come back."""

    def __init__(self, height: Callable[[], int]) -> None:
        self._height = height
        self._look: Future[int | Exception] | None = None
        self._began = 0.0

    async def look(self) -> int | Exception:
        """The newest height, of this moment or a second ago, or why there is none."""
        now = time.monotonic()
        if self._look is None or (self._look.done() and now > self._began + _FRESH_S):
            self._look, self._began = Future(), now
            # A thread of its own: one that hangs must not keep those who answer requests.
            threading.Thread(target=self._run, args=(self._look,), daemon=True).start()
        look = self._look
        await asyncio.wait([asyncio.wrap_future(look)], timeout=PATIENCE_S)
        return look.result() if look.done() else TimeoutError()

    def _run(self, look: Future[int | Exception]) -> None:
        try:
            look.set_result(self._height())
        except Exception as error:  # any: the one who asked says what it means
            look.set_result(error)


def health_router(height: Callable[[], int]) -> APIRouter:
    """The routes, open to all. ``height`` gives the newest block's, or raises why there is none."""
    router = APIRouter(prefix="/v1", tags=["operations"])
    readiness, installed = Readiness(height), version("medpole")

    @router.get("/health")
    async def health() -> Health:
        """Whether the process answers, and its version. Needs no token."""
        return Health(version=installed)

    @router.get("/ready", response_model=Ready)
    async def ready() -> Any:
        """Whether the ledger can be read, within two seconds. Needs no token."""
        found = await readiness.look()
        if isinstance(found, int):
            return Ready(height=found)
        if isinstance(found, LedgerMissing):
            return problem(503, found.code, found.what, found.resolve)
        return without_database()

    return router
