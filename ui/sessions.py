"""Who is signed in to the portal: a random id in the browser's cookie, the token only here.

In memory: when the portal ends, everybody is signed out. A session has an end of its own, whatever
its token's is; a token that was taken back or has expired is refused by the API, each time.
"""

import hmac
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_urlsafe

LIFETIME_S = 12 * 3600


@dataclass(frozen=True)
class LocalDoor:
    """What lets in who started the portal on this machine: a code for the address, and a token."""

    code: str
    token: str

    def opens(self, code: str) -> bool:
        """Whether this is the code of this run."""
        return hmac.compare_digest(code.encode(), self.code.encode())


class Sessions:
    """All sessions of one portal. Safe to share between threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._tokens: dict[str, tuple[str, float]] = {}

    def begin(self, token: str) -> str:
        """A new session for whoever holds this token; gives its id."""
        id, now = token_urlsafe(32), self._clock()
        with self._lock:
            self._tokens = {i: kept for i, kept in self._tokens.items() if now < kept[1]}
            self._tokens[id] = token, now + LIFETIME_S
        return id

    def token(self, id: str | None) -> str | None:
        """The token of a session; None if there is no such session, or not any more."""
        with self._lock:
            token, ends = self._tokens.get(id or "", ("", 0.0))
        return token if token and self._clock() < ends else None

    def end(self, id: str | None) -> None:
        """Signs out."""
        with self._lock:
            self._tokens.pop(id or "", None)


SESSIONS = Sessions()
"""Of this process: the server fills it, the pages that it runs read it."""
