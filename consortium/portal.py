"""The portal on one machine: the API on a home's ledger, and Streamlit in front of it.

Both listen on 127.0.0.1; Streamlit can be told otherwise, for a container. The API runs in this
process, on a port of its own and under a token that lives as long as the run; Streamlit runs as a
child and gets both through its environment, because a command line is open to every account of the
machine. The child ends with us however we end: it watches its standard input, which the kernel
closes for us (`ui.__main__`).

There is no sign-in yet: whoever may open a connection to this machine's loopback may read. So this
is for a machine with one user; nothing in the portal writes.

With ``DATABASE_URL`` it runs beside `consortium serve`, and takes no lock of the home.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from consortium.errors import OptionInvalid, PartMissing, PortInUse

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05
_NOT_FOR_THE_PORTAL = ("DATABASE_", "STREAMLIT_")


def run_portal(home: Path, port: int, host: str = HOST) -> None:
    """Serves the portal of a home until Ctrl-C or a termination signal.

    Raises:
        PartMissing: if Streamlit is not installed, or ends by itself.
        PortInUse, OptionInvalid: if the port cannot be opened.
        LedgerError: if there is no ledger, or it cannot be opened.
    """
    _check_parts()
    check_port(port, host)
    from consortium.api.app import create_app
    from consortium.local import attached_ledger, open_ledger

    token = secrets.token_urlsafe(32)
    opened = attached_ledger if os.environ.get("DATABASE_URL") else open_ledger
    try:
        with _stoppable(), opened(home) as (local, store):
            app = create_app(store, local.content, local.models, portal_token=token)
            with _loopback_api(app) as url, _streamlit(host, port, url, token) as child:
                _wait_healthy(child, host, port)
                print(f"http://{host}:{port}", flush=True)
                child.wait()
                raise _ended()
    except KeyboardInterrupt:
        return  # the one way to stop a portal: no error


def _check_parts() -> None:
    missing = [name for name in ("streamlit", "altair", "pandas", "httpx") if not find_spec(name)]
    if missing:
        raise PartMissing(
            f"the portal is not installed here ({', '.join(missing)} missing)",
            "pip install 'medpole[portal]'",
        )


def check_port(port: int, host: str = HOST) -> None:
    """Checks that the port can be opened on an address of this machine.

    Raises:
        PortInUse, OptionInvalid: if not.
    """
    with socket.socket() as probe:
        # As the server does: a port whose last connections still linger is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except PermissionError:
            raise OptionInvalid(
                f"port {port} may not be opened by this account", "choose --port 1024 or above"
            ) from None
        except OSError:
            raise PortInUse(
                f"port {port} is in use on {host}",
                "stop the program that uses it (another portal?), or choose another with --port",
            ) from None


@contextmanager
def _stoppable() -> Iterator[None]:
    """Lets a termination signal, or the terminal's end, stop the portal as Ctrl-C does."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(number: int, frame: object) -> None:
        for each in signals:  # stopping has begun: a second Ctrl-C must not cut it short
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _loopback_api(app: object) -> Iterator[str]:
    """Serves the API on a free port of the loopback address; gives its URL."""
    import uvicorn

    with socket.socket() as listening:
        listening.bind((HOST, 0))
        server = uvicorn.Server(
            uvicorn.Config(app, log_level="warning", lifespan="off", ws="none")  # type: ignore[arg-type]
        )
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listening]}, name="portal-api", daemon=True
        )
        thread.start()
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise TimeoutError("the API did not start")
                time.sleep(_POLL_S)
            yield f"http://{HOST}:{listening.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(STOP_TIMEOUT_S)


@contextmanager
def _streamlit(host: str, port: int, url: str, token: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs Streamlit as a child that gets no more than it needs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_THE_PORTAL)}
    child = subprocess.Popen(
        # -P: a folder that happens to be current must not lend its modules.
        [sys.executable, "-P", "-m", "ui", "--address", host, "--port", str(port)],
        env={**kept, "MEDPOLE_API_URL": url, "MEDPOLE_API_TOKEN": token},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # Streamlit's greeting: standard output is for the result
        start_new_session=True,  # the terminal's Ctrl-C is ours to answer
    )
    try:
        yield child
    finally:
        assert child.stdin is not None
        child.stdin.close()
        try:
            child.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _wait_healthy(child: "subprocess.Popen[bytes]", host: str, port: int) -> None:
    import httpx

    deadline = time.monotonic() + START_TIMEOUT_S
    with httpx.Client(trust_env=False, timeout=5) as client:
        while time.monotonic() < deadline:
            if child.poll() is not None:
                check_port(port, host)  # somebody else may have taken it since
                break
            try:
                if client.get(f"http://{host}:{port}/_stcore/health").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(_POLL_S)
    raise _ended()


def _ended() -> PartMissing:
    return PartMissing(
        "the portal's Streamlit has ended, or did not start",
        "start it again; if it stays so, pip install --upgrade 'medpole[portal]'",
    )
