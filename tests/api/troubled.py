"""The API on an address of its own, with trouble on the way to it when a test wants some."""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

PATIENCE_S = 20
Answer = Callable[[Scope, Receive, Send], Awaitable[None]]
Change = Callable[[bytes], bytes]


class Troubled:
    """Passes requests on to the API, but for what is said of a path.

    ``answers`` are given once each, the first ones first; ``changes`` to a body always hold.
    """

    def __init__(self, app: FastAPI) -> None:
        self._app = app
        self.answers: dict[str, list[Answer]] = {}
        self.changes: dict[str, Change] = {}
        self.asked: list[str] = []

    def clear(self) -> None:
        """Forgets all trouble, and what was asked."""
        for known in (self.answers, self.changes, self.asked):
            known.clear()

    def fail(self, path: str, *statuses: int, **headers: str) -> None:
        """Answers without a problem's form, as a proxy does."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answers[path] = [Response("away", status, named) for status in statuses]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        self.asked.append(path)
        if self.answers.get(path):
            await self.answers[path].pop(0)(scope, receive, send)
            return
        change = self.changes.get(path)

        async def changed(message: MutableMapping[str, Any]) -> None:
            if change is not None and message.get("body"):
                message["body"] = change(message["body"])
            await send(message)

        await self._app(scope, receive, changed)


@contextmanager
def listening(app: Any, **options: Any) -> Iterator[int]:
    """Serves until the context ends; gives the port, where there is one."""
    config = uvicorn.Config(
        app, port=0, log_level="critical", lifespan="off", ws="none", timeout_graceful_shutdown=1,
        proxy_headers=False, **options,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    name = server.servers[0].sockets[0].getsockname()
    yield 0 if isinstance(name, str) else name[1]
    server.should_exit = True
    thread.join(PATIENCE_S)


def socket_url(path: Path) -> str:
    return f"unix://{path}"
