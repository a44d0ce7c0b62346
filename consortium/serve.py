"""`consortium serve`: the API of a home, and its ledger's sequencer, as one long-running process.

It listens on a Unix socket in the home, or on a port, of the loopback address unless told
otherwise; a reverse proxy makes TLS of it. Members' witnesses co-sign through it, people's
approvals come in through it.

On a draft it serves what founders need, until all have signed; then it goes on with the ledger, on
the same socket. The home's lock is taken for the ledger only: until then people's commands
(`consortium genesis`) take turns with it.
"""

import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType

import uvicorn
from fastapi import FastAPI
from sqlalchemy.exc import DBAPIError

from consortium.api.app import create_app
from consortium.api.enrolment import create_draft_app
from consortium.api.rate_limits import REQUESTS_PER_MINUTE
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.daemon import alone
from consortium.errors import PortInUse
from consortium.founding import founding, is_draft, take_signatures
from consortium.home import Home
from consortium.local import open_ledger
from consortium.tls import SOCKET
from ledger.errors import DatabaseUnreachable, HomeInUse, LedgerMissing
from ledger.store import LedgerStore

HOST = "127.0.0.1"
_LONGEST_SOCKET = 107
_SWITCH_S = 0.0005
_WATCH_S, _PATIENCE = 1.0, 5
_DRAFT_WATCH_S, _HANDOVER_S = 0.2, 20.0
log = logging.getLogger("medpole.serve")


def serve(
    home: Path,
    port: int | None,
    host: str = HOST,
    requests_per_minute: int = REQUESTS_PER_MINUTE,
) -> None:
    """Serves until Ctrl-C or a termination signal. Prints the URL once it listens.

    ``requests_per_minute``: of a person (`consortium.api.rate_limits`); 0: nobody is limited.

    Raises:
        PortInUse: if the port, or the socket's path, cannot be used.
        LedgerError: if there is neither a ledger nor a draft, or it cannot be opened.
    """
    with ExitStack() as stack:
        # The ledger before the socket: of two processes one is refused before it takes any.
        opened = None if is_draft(home) else stack.enter_context(open_ledger(home))
        # While there is no ledger the home's lock is not held; this one is, from start to end.
        served = HomeInUse(f"another process serves {home}", "stop it, or use that one")
        stack.enter_context(alone(home / ".serve.lock", served))
        listening, url = stack.enter_context(_listening(home, port, host))
        if opened is not None:
            _serve_ledger(*opened, listening, url, requests_per_minute)
        elif _serve_draft(home, listening, url, requests_per_minute):
            ledger = _opened_when_free(stack, home)
            _serve_ledger(*ledger, listening, None, requests_per_minute)


def _serve_ledger(
    local: Home, store: LedgerStore, listening: socket.socket, url: str | None, per_minute: int
) -> None:
    # A thread that comes back from the database waits for the interpreter this long, if another
    # one computes: with 5 ms, Python's own, a member's request waits for a reader's at each step.
    sys.setswitchinterval(_SWITCH_S)
    view = StoreView(store, local.content, local.models)
    sequencing = Sequencing(view, local.keys, lambda code: log.warning("sequencing: %s", code))
    with store.changes() as changes:
        app = create_app(
            store, local.content, local.models, on_change=sequencing.wake, home=local.path,
            changes=changes, requests_per_minute=per_minute,
        )  # fmt: skip
        server = _Server(_config(app), url)
        threading.Thread(target=_read_ahead, args=(app,), name="read ahead", daemon=True).start()
        # Whoever supervises it starts server and database again.
        with sequencing.running(), _until(_database_gone(store), server, _WATCH_S) as lost:
            server.run(sockets=[listening])
    if lost:
        raise DatabaseUnreachable(
            "the database has not answered any more", "see HOME/postgres.log, then start again"
        )


def _read_ahead(app: FastAPI) -> None:
    with suppress(DBAPIError):  # whoever asks next reads on
        app.state.standing.read_ahead()


# before the genesis


def _serve_draft(home: Path, listening: socket.socket, url: str, per_minute: int) -> bool:
    """Serves the draft; whether it ended because the ledger has begun."""
    if _all_signed(home):
        take_signatures(home, [])  # killed between the last signature and block 0
    server = _Server(_config(create_draft_app(home, per_minute)), url)
    with _until(lambda: not is_draft(home), server, _DRAFT_WATCH_S) as founded:
        # A server closes its sockets when it ends: those that come meanwhile wait on ours.
        server.run(sockets=[listening.dup()])
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    return bool(founded) and not server.told


def _all_signed(home: Path) -> bool:
    try:
        return not founding(home).missing
    except LedgerMissing:
        return False


def _opened_when_free(stack: ExitStack, home: Path) -> tuple[Home, LedgerStore]:
    deadline = time.monotonic() + _HANDOVER_S
    while True:
        try:
            return stack.enter_context(open_ledger(home))
        except HomeInUse:  # a command that somebody typed, for a moment
            if time.monotonic() > deadline:
                raise
            time.sleep(_DRAFT_WATCH_S)


@contextmanager
def _until(
    condition: Callable[[], bool], server: uvicorn.Server, every: float
) -> Iterator[list[bool]]:
    """Ends the server once the condition holds; then the list is not empty."""
    met: list[bool] = []
    stopping = threading.Event()

    def watch() -> None:
        while not stopping.wait(every):
            if condition():
                met.append(True)
                server.should_exit = True
                return

    thread = threading.Thread(target=watch, name="watch", daemon=True)
    thread.start()
    try:
        yield met
    finally:
        stopping.set()
        thread.join()


def _database_gone(store: LedgerStore) -> Callable[[], bool]:
    """Whether the database has not answered several times in a row."""
    failures = 0

    def gone() -> bool:
        nonlocal failures
        try:
            store.exists()
            failures = 0
        except DBAPIError:
            failures += 1
        return failures >= _PATIENCE

    return gone


class _Server(uvicorn.Server):
    """Says where it listens, once it does. A signal ends it in order."""

    def __init__(self, config: uvicorn.Config, url: str | None) -> None:
        super().__init__(config)
        self._url = url
        self.told = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._url is not None:
            print(self._url, flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.told = True
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def _config(app: FastAPI) -> uvicorn.Config:
    # Whoever waits for a change is let go when the server ends. Who asks is told by our own rule,
    # not by a header that anybody on this machine may send (`consortium.api.edge`).
    return uvicorn.Config(
        app, log_level="warning", lifespan="off", ws="none", timeout_graceful_shutdown=2,
        proxy_headers=False, server_header=False, log_config=None,
    )  # fmt: skip


@contextmanager
def _listening(home: Path, port: int | None, host: str) -> Iterator[tuple[socket.socket, str]]:
    path = home / SOCKET
    family = socket.AF_UNIX if port is None else socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listening:
        try:
            if port is not None:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((host, port))
                shown = f"[{host}]" if ":" in host else host
                url = f"http://{shown}:{listening.getsockname()[1]}"
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
                "choose another --port or --host, or none for a socket in the home",
            ) from None
        try:
            yield listening, url
        finally:
            if port is None:
                path.unlink(missing_ok=True)
