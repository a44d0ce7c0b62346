"""Whom the database server runs as.

PostgreSQL refuses to run as root. Started by root it runs as ``postgres`` where that account
exists, else as ``nobody``; started by anyone else it runs as that person. A folder that exists
already decides by its owner, so that installing a system PostgreSQL later changes nothing.
"""

import os
import pwd
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import DatabaseFailed, HomeInvalid

# The server never sees our environment: it may hold passwords, and PG* variables redirect it.
_INHERITED = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")


def server_environment() -> dict[str, str]:
    """Return the whole environment of the server and its tools."""
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


@dataclass(frozen=True)
class Account:
    """The account to switch to; without a uid we stay who we are."""

    uid: int | None = None
    gid: int | None = None

    def run(
        self, command: Sequence[str | Path], *, timeout: float, keep: Iterable[int] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this account and return its output, both streams together.

        The descriptors in ``keep`` stay open in it. Raises OSError where the account may not
        execute it, and subprocess.TimeoutExpired.
        """
        return subprocess.run(
            [str(part) for part in command],
            user=self.uid,
            group=self.gid,
            extra_groups=None if self.uid is None else [],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            cwd="/",
            env=server_environment(),
            umask=0o077,
            timeout=timeout,
            pass_fds=tuple(keep),
            check=False,
        )

    def can_enter(self, folder: Path) -> bool:
        """Try whether this account reaches a folder: mode bits alone do not tell (ACLs)."""
        if self.uid is None:
            return os.access(folder, os.X_OK)
        return self.run(["/bin/sh", "-c", 'cd "$1"', "sh", folder], timeout=30).returncode == 0

    def own(self, path: Path) -> None:
        """Give one path, which we have just made, to this account."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid, follow_symlinks=False)


def account_for_new() -> Account:
    """Choose the account of a database that is to be made."""
    if os.geteuid() != 0:
        return Account()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    raise DatabaseFailed(
        "PostgreSQL refuses to run as root, and there is no account postgres or nobody",
        "Start MedPoLe as an ordinary user, or add a system user named postgres.",
    )


def account_for_existing(folder: Path) -> Account:
    """Return the account that owns an existing database folder."""
    owner = folder.stat()
    if os.geteuid() == owner.st_uid != 0:
        return Account()
    if os.geteuid() != 0 or owner.st_uid == 0:
        raise HomeInvalid(
            f"the database folder {folder} belongs to user id {owner.st_uid}",
            "Start MedPoLe as the user who made this home, or choose another --home.",
        )
    return Account(owner.st_uid, owner.st_gid)
