"""`consortium serve`: the API of a founded ledger, and its sequencer, as one long-running process.

It listens on a Unix socket in the home, or on a port of the loopback address; nothing listens
beyond this machine. Members' witnesses co-sign through it, people's approvals come in through it.
"""

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn
from sqlalchemy.exc import DBAPIError

from consortium.api.app import create_app
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.errors import PortInUse
from consortium.local import open_ledger
from ledger.errors import DatabaseUnreachable
from ledger.store import LedgerStore

HOST = "127.0.0.1"
SOCKET = "api.sock"
_LONGEST_SOCKET = 107
_WATCH_S, _PATIENCE = 1.0, 5
log = logging.getLogger("medpole.serve")


def serve(home: Path, port: int | None) -> None:
    """Serves until Ctrl-C or a termination signal. Prints the URL once it listens.

    Raises:
        PortInUse: if the port, or the socket's path, cannot be used.
        LedgerError: if there is no ledger, or it cannot be opened.
    """
    with open_ledger(home) as (local, store), _listening(home, port) as (listening, url):
        view = StoreView(store, local.content, local.models)
        sequencing = Sequencing(view, local.keys, lambda code: log.warning("sequencing: %s", code))
        app = create_app(store, local.content, local.models, on_change=sequencing.wake)
        server = _Server(uvicorn.Config(app, log_level="warning", lifespan="off", ws="none"), url)
        with sequencing.running(), _watched(store, server) as lost:
            server.run(sockets=[listening])
        if lost:
            raise DatabaseUnreachable(
                "the database has not answered any more", "see HOME/postgres.log, then start again"
            )


@contextmanager
def _watched(store: LedgerStore, server: uvicorn.Server) -> Iterator[list[str]]:
    """Ends the server once its database is gone: whoever supervises it starts both again."""
    lost: list[str] = []
    stopping = threading.Event()

    def watch() -> None:
        failures = 0
        while not stopping.wait(_WATCH_S):
            try:
                store.exists()
                failures = 0
            except DBAPIError:
                failures += 1
            if failures >= _PATIENCE:
                lost.append("database")
                server.should_exit = True
                return

    thread = threading.Thread(target=watch, name="database-watch", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        stopping.set()
        thread.join()


class _Server(uvicorn.Server):
    """Says where it listens, once it does. A signal ends it in order."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(self._url, flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


@contextmanager
def _listening(home: Path, port: int | None) -> Iterator[tuple[socket.socket, str]]:
    path = home / SOCKET
    with socket.socket(socket.AF_INET if port is not None else socket.AF_UNIX) as listening:
        try:
            if port is not None:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((HOST, port))
                url = f"http://{HOST}:{listening.getsockname()[1]}"
            else:
                if len(os.fsencode(path)) > _LONGEST_SOCKET:
                    raise PortInUse(
                        f"the path {path} is too long for a socket", "listen on a --port instead"
                    )
                path.unlink(missing_ok=True)  # ours: the home is locked
                mask = os.umask(0o177)
                try:
                    listening.bind(str(path))
                finally:
                    os.umask(mask)
                url = f"unix:{path}"
            listening.listen(128)
        except OSError as error:
            raise PortInUse(
                f"port {port} cannot be opened ({error.strerror})",
                "choose another --port, or none for a socket in the home",
            ) from None
        try:
            yield listening, url
        finally:
            if port is None:
                path.unlink(missing_ok=True)
