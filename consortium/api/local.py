"""The API inside this process, on a Unix socket in a private folder: no port is opened."""

import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from socket import socket

import httpx
import uvicorn
from fastapi import FastAPI

START_TIMEOUT_S = 20


class _Server(uvicorn.Server):
    """A server that says when it has started, and leaves signals to the program."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def local_api(app: FastAPI) -> Iterator[httpx.Client]:
    """Serves ``app`` for the time of the context; gives a client that is connected to it."""
    with tempfile.TemporaryDirectory(prefix="medpole-") as folder:  # 0700
        path = str(Path(folder) / "api.sock")
        server = _Server(
            uvicorn.Config(
                app, uds=path, log_level="warning", lifespan="off", ws="none", proxy_headers=False
            )
        )
        thread = threading.Thread(target=server.run, name="api", daemon=True)
        thread.start()
        if not server.ready.wait(START_TIMEOUT_S):
            raise TimeoutError("the API did not start")
        try:
            transport = httpx.HTTPTransport(uds=path)
            with httpx.Client(transport=transport, base_url="http://consortium", timeout=60) as c:
                yield c
        finally:
            server.should_exit = True
            thread.join(START_TIMEOUT_S)
