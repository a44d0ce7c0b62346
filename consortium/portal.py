"""The portal on one machine: the API on a home's ledger, and its pages in front of it.

Both listen on 127.0.0.1; the pages can be told otherwise, for a container. The API runs in this
process, on a port of its own; the pages run as a child and get what is secret through their
environment, because a command line is open to every account of the machine. The child ends with us
however we end: it watches its standard input, which the kernel closes for us (`ui.__main__`).

Everybody signs in: with a token of the consortium's (`consortium token issue`), or, on the
loopback address only, by the address with a code that whoever started the portal sees. The code and
the token behind it live as long as the run. Nothing in the portal writes.

Where another process keeps the home's database open (`consortium serve`, a demo), or with
``DATABASE_URL``, it runs beside it, and takes no lock of the home.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.errors import OptionInvalid, PartMissing, PortInUse

if TYPE_CHECKING:
    from consortium.home import Home
    from ledger.store import LedgerStore

HOST = "127.0.0.1"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 10.0
_POLL_S = 0.05
_NOT_FOR_THE_PORTAL = ("DATABASE_", "STREAMLIT_", "MEDPOLE_")


@dataclass(frozen=True)
class OpenPortal:
    """A portal that answers. ``address`` signs in whoever opens it, where that is allowed."""

    address: str
    pages: "subprocess.Popen[bytes]"

    def wait(self) -> None:
        """Waits for as long as it answers.

        Raises:
            PartMissing: once its pages have ended by themselves.
        """
        self.pages.wait()
        raise _ended()


def run_portal(home: Path, port: int, host: str = HOST) -> None:
    """Serves the portal of a home until Ctrl-C or a termination signal.

    Raises:
        PartMissing: if Streamlit is not installed, or ends by itself.
        PortInUse, OptionInvalid: if the port cannot be opened.
        LedgerError: if there is no ledger, or it cannot be opened.
    """
    check_parts()
    check_port(port, host)
    from consortium.local import attached_ledger, open_ledger

    try:
        with _stoppable():
            opened = (
                attached_ledger(home)
                if os.environ.get("DATABASE_URL")
                else open_ledger(home, shared=True)
            )
            with opened as (local, store), portal_of(local, store, port, host) as portal:
                print(portal.address, flush=True)
                portal.wait()
    except KeyboardInterrupt:
        return  # the one way to stop a portal: no error


@contextmanager
def portal_of(
    local: "Home", store: "LedgerStore", port: int, host: str = HOST
) -> Iterator[OpenPortal]:
    """Serves the portal beside whoever has opened this ledger.

    Raises:
        PartMissing, PortInUse, OptionInvalid: if it cannot be served.
    """
    from consortium.api.app import create_app

    code, token = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
    here = is_loopback(host)
    app = create_app(store, local.content, local.models, token, home=local.path)
    door = {"MEDPOLE_PORTAL_CODE": code, "MEDPOLE_PORTAL_TOKEN": token} if here else {}
    with _loopback_api(app) as url, _pages(host, port, {"MEDPOLE_API_URL": url, **door}) as child:
        _look_once(url, token)
        _wait_healthy(child, host, port)
        site = f"http://{host}:{port}"
        yield OpenPortal(f"{site}/sign-in?code={code}" if here else site, child)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_parts() -> None:
    """Checks that what the pages need is installed.

    Raises:
        PartMissing: if it is not.
    """
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
def _pages(host: str, port: int, given: Mapping[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    """Runs the pages as a child that gets no more than it needs."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_NOT_FOR_THE_PORTAL)}
    child = subprocess.Popen(
        # -P: a folder that happens to be current must not lend its modules.
        [sys.executable, "-P", "-m", "ui", "--address", host, "--port", str(port)],
        env={**kept, **given},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,  # standard output is for the result
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


def _look_once(url: str, token: str) -> None:
    """Has the API sum up the whole ledger, for which else the first page would wait."""
    import httpx

    with httpx.Client(base_url=url, trust_env=False, timeout=START_TIMEOUT_S) as client:
        for path in ("/v1/jobs", "/v1/privacy"):
            with suppress(httpx.TransportError):  # the pages will say what is wrong
                client.get(path, params={"limit": 1}, headers={"Authorization": f"Bearer {token}"})


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
