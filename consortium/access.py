"""Who may ask the API for what: roles, and the tokens of people.

An institution shows who it is with its own key (`consortium.api.tokens`). A person has a token that
the consortium's admin issues: shown once, stored as its SHA-256, with one role, for a limited time,
to be taken back at any moment. Nobody's role lets anybody decide for a member: what changes the
ledger is signed by members' own keys.
"""

import sqlite3
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path
from secrets import token_hex, token_urlsafe

from consortium.errors import TokenInvalid, TokenUnknown
from consortium.network import network_file, reading, transaction

LIFETIME_S = 30 * 24 * 3600
PREFIX = "mpa_"
_RACY_NS = 1_000_000_000
Stamp = tuple[int, int, int]
"""A file's inode, its size in bytes and its time in nanoseconds."""
_SELECT = "SELECT id, name, role, created, expires, revoked FROM access_tokens"


class Role(StrEnum):
    """What somebody is to the consortium."""

    ADMIN = "admin"  # runs the coordinator's side
    SCIENTIST = "scientist"  # trains and downloads models
    AUDITOR = "auditor"  # reads the ledger, and no model
    INSTITUTION = "institution"  # a member, or one that is suspended; never a person


PEOPLE = (Role.ADMIN, Role.SCIENTIST, Role.AUDITOR)


@dataclass(frozen=True)
class Caller:
    """Whoever asks: an institution's id, or a person's name."""

    name: str
    role: Role


@dataclass(frozen=True)
class AccessToken:
    """One token, as it is stored. Times are seconds since 1970."""

    id: str
    name: str
    role: Role
    created: int
    expires: int
    revoked: int | None

    def state(self, now: float) -> str:
        """One word for people."""
        if self.revoked is not None:
            return "revoked"
        return "valid" if now < self.expires else "expired"


class AccessTokens:
    """The tokens of people, of one coordinator's home."""

    def __init__(self, home: Path, clock: Callable[[], float] = time.time) -> None:
        self._home, self._clock = home, clock
        self._made = False
        self._found: tuple[Stamp | None, dict[str, AccessToken]] = (None, {})

    def issue(self, name: str, role: Role, lifetime_s: int = LIFETIME_S) -> tuple[AccessToken, str]:
        """A new token for a person, and its text: the only time that it is to be had."""
        now, id, secret = int(self._clock()), token_hex(4), token_urlsafe(32)
        token = AccessToken(id, name, role, now, now + lifetime_s, None)
        with transaction(self._home) as connection:
            connection.execute(
                "INSERT INTO access_tokens VALUES (?, ?, ?, ?, ?, ?, NULL)",
                (id, _hidden(secret), name, role, token.created, token.expires),
            )
        return token, f"{PREFIX}{id}_{secret}"

    def all(self) -> list[AccessToken]:
        """All tokens, oldest first."""
        with transaction(self._home) as connection:
            return _select(connection, "ORDER BY created, id")

    def revoke(self, id: str) -> None:
        """Takes a token back: the next request with it is refused.

        Raises:
            TokenUnknown: if no token that is in force has this id.
        """
        with transaction(self._home) as connection:
            changed = connection.execute(
                "UPDATE access_tokens SET revoked = ? WHERE id = ? AND revoked IS NULL",
                (int(self._clock()), id),
            ).rowcount
        if not changed:
            raise TokenUnknown(f"no token {id[:20]!r} is in force", "see `consortium token list`")

    def open(self, text: str) -> Caller:
        """The person whose token this is.

        Raises:
            TokenInvalid: if it is unknown, expired or was taken back.
        """
        stamp, secret = self._stamp(), _hidden(_secret(text))
        # Every request pays for this: only the first one makes sure that there is a table.
        with (reading if self._made else transaction)(self._home) as connection:
            found = _select(connection, "WHERE secret = ?", secret)
        self._made = True
        # Compared by the hash of 32 random bytes: nothing can be learned from how long it takes.
        state = found[0].state(self._clock()) if found else "unknown"
        if state != "valid":
            raise TokenInvalid(
                f"the token was refused: it is {state}",
                "ask the consortium's admin for another: `consortium token issue`",
            )
        if stamp is not None:
            known = self._found[1] if self._found[0] == stamp else {}
            self._found = (stamp, {**known, secret: found[0]})
        return Caller(found[0].name, found[0].role)

    def remembered(self, text: str) -> Caller | None:
        """The person whose token this is, if that was read before from the file as it is now.

        Takes as long as a look at the file's time: nobody waits for a disk or a lock.
        """
        stamp, tokens = self._found
        found = tokens.get(_hidden(_secret(text))) if text.startswith(PREFIX) else None
        if found is None or stamp != self._stamp() or found.state(self._clock()) != "valid":
            return None
        return Caller(found.name, found.role)

    def _stamp(self) -> Stamp | None:
        """What is another one after every change of the file; None for a while after each.

        A file's time moves in steps of milliseconds: a second change within one would show no more.
        """
        now = time.time_ns()
        try:
            file = network_file(self._home).stat()
        except OSError:
            return None
        rested = now - file.st_mtime_ns > _RACY_NS
        return (file.st_ino, file.st_size, file.st_mtime_ns) if rested else None


def _select(connection: sqlite3.Connection, rest: str, *values: str) -> list[AccessToken]:
    rows = connection.execute(f"{_SELECT} {rest}", values)
    return [AccessToken(i, name, Role(role), *times) for i, name, role, *times in rows]


def _secret(text: str) -> str:
    return text.removeprefix(PREFIX).partition("_")[2]


def _hidden(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
