"""What preflight's checks look at: the hospital's folder, and the consortium as it answers."""

import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from consortium.api.tokens import sign_token
from hospital_agent.connection import connect
from hospital_agent.errors import FolderInvalid
from hospital_agent.folder import HospitalFolder
from hospital_agent.replica import Replica
from hospital_agent.transport import TRANSPORT, open_transport, public_bytes
from ledger.keys import KeyRing, Role
from ledger.records import MemberForm

PATIENCE_S: Final = 5.0


class State(StrEnum):
    """What a check found."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    state: State
    result: str
    fix: str = ""


@dataclass(frozen=True)
class Reply:
    """What the API answered, or why it did not. ahead_s: of this clock, against the API's."""

    status: int = 0
    problem: str = ""
    body: Any = None
    ahead_s: float | None = None


@dataclass
class Site:
    """What the checks look at: the hospital's folder, and the consortium's address."""

    folder: HospitalFolder
    url: str
    _replies: dict[str, Reply] = field(default_factory=dict)

    @cached_property
    def parts(self) -> SplitResult:
        """The address, taken apart."""
        return urlsplit(self.url)

    @property
    def local(self) -> bool:
        """Whether it is on this machine, without TLS."""
        return self.parts.scheme in ("unix", "http")

    @property
    def host(self) -> str:
        """The host's name."""
        return self.parts.hostname or ""

    @property
    def port(self) -> int:
        """The port."""
        return self.parts.port or (443 if self.parts.scheme == "https" else 80)

    @cached_property
    def proxy(self) -> SplitResult | None:
        """The proxy that the environment names for this address, as httpx finds it."""
        if self.parts.scheme == "unix" or proxy_bypass(self.host):
            return None
        found = getproxies()
        url = found.get(self.parts.scheme) or found.get("all")
        return None if not url else urlsplit(url if "://" in url else f"http://{url}")

    @property
    def ca(self) -> Path:
        """The pinned CA certificate."""
        return self.folder.path / "ca.pem"

    @cached_property
    def chain(self) -> Any:
        """The state of this hospital's copy of the ledger, or None."""
        path = self.folder.path / "replica.sqlite"
        return Replica(path).chain(self.folder.ledger) if path.exists() else None

    @cached_property
    def on_ledger(self) -> MemberForm | None:
        """This hospital's form in its copy of the ledger, if it is there."""
        if self.chain is None:
            return None
        now = self.chain.upcoming
        found: MemberForm | None = {**now.suspended, **now.members}.get(self.folder.institution)
        return found

    def context(self) -> ssl.SSLContext:
        """TLS that trusts the pinned CA alone."""
        return ssl.create_default_context(cafile=str(self.ca))

    def client(self) -> httpx.Client:
        """A client that waits a few seconds only."""
        if self.local:
            client = connect(self.url)
            client.timeout = httpx.Timeout(PATIENCE_S)
            return client
        return httpx.Client(base_url=self.url, verify=self.context(), timeout=PATIENCE_S)

    def get(self, path: str) -> Reply:
        """The API's answer to this hospital's token; asked once."""
        if path not in self._replies:
            self._replies[path] = self._get(path)
        return self._replies[path]

    def _get(self, path: str) -> Reply:
        headers = {}
        if self.folder.ledger is not None:
            key = key_ring(self.folder)[Role.API]
            token = sign_token(self.folder.institution, self.folder.ledger, key)
            headers["Authorization"] = f"Bearer {token}"
        try:
            with self.client() as client:
                before = time.time()
                response = client.get(path, headers=headers)
                ahead = _ahead((before + time.time()) / 2, response.headers.get("date"))
        except (httpx.HTTPError, OSError, ValueError) as error:
            return Reply(problem=why(error))
        try:
            body = response.json()
        except ValueError:
            body = None
        return Reply(response.status_code, "", body, ahead)


def transport_public(folder: HospitalFolder) -> bytes | None:
    """The SuperNode's public key, PEM; None where there is no key yet, and none is made.

    Raises:
        FolderInvalid: if others can read the private one, or it is damaged.
    """
    if not (folder.path / "keys" / TRANSPORT).exists():
        return None
    return public_bytes(open_transport(folder))


def key_ring(folder: HospitalFolder) -> KeyRing:
    """The keys that are there. None is made, nor their folder: its absence means something."""
    if not (folder.path / "keys").is_dir():
        raise FolderInvalid("this hospital has no keys", "enrol it: `hospital-agent enrol`")
    return KeyRing.open(folder.path / "keys", make=False)


def _ahead(now: float, date: str | None) -> float | None:
    try:
        # The header counts whole seconds: half a second is the expected remainder.
        return now - parsedate_to_datetime(date or "").timestamp() - 0.5
    except (TypeError, ValueError):
        return None


def why(error: Exception) -> str:
    """A failure in words that hold no address with a password in it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "TLS fails"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    late = isinstance(error, httpx.TimeoutException | TimeoutError)
    return f"nothing within {PATIENCE_S:.0f} s" if late else type(error).__name__
