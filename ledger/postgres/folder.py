"""Where the embedded database lies: complete or absent, and for one process at a time.

``HOME/postgres`` (0700) holds ``data``, ``sockets``, ``password`` and ``application-password``
(0600 both) and belongs to the account that the server runs as. It is made as ``HOME/postgres.new``
and renamed when complete, so that a killed ``initdb`` leaves nothing that looks like a database.

Where that account cannot reach HOME (root's home is 0700, and no parent folder is ever opened up
for it), both names are symbolic links to a folder below ``/var/lib/medpole/postgres``.

Two locks, both ended by the kernel with the processes that hold them: ``postgres.lock`` is the
coordinator's, so a second one is refused within a second; ``postgres.server.lock`` is inherited by
the server, so a successor waits until a killed coordinator's server has shut down.
"""

import fcntl
import os
import re
import secrets
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from ledger.errors import DatabaseBusy, DatabaseFailed, HomeInvalid
from ledger.postgres.account import Account
from ledger.postgres.binaries import Installation

SUPERUSER = "medpole"
PORT = 5432  # names the socket only: nothing listens on a network
SHELTER = Path("/var/lib/medpole")
SHUTDOWN_PATIENCE_S = 40.0
_INITDB_PATIENCE_S = 300.0
# A socket's path holds 107 bytes on Linux, 103 on macOS; PostgreSQL and libpq split on commas.
_SOCKET_PATH = re.compile(r"[A-Za-z0-9._/-]{1,103}")


@dataclass(frozen=True)
class DatabaseFolder:
    """A complete database folder."""

    root: Path

    @property
    def data(self) -> Path:
        """PostgreSQL's own data folder."""
        return self.root / "data"

    @property
    def sockets(self) -> Path:
        """The private folder for the server's socket."""
        return self.root / "sockets"

    @property
    def major(self) -> int:
        """The major version that made the data."""
        return int((self.data / "PG_VERSION").read_text().strip())

    @property
    def password(self) -> str:
        """The password of the database's superuser."""
        return _read(self.root / "password")

    def application_password(self, account: Account) -> str:
        """The password of the application's role, made first where a home has none yet.

        Whole or absent: it is renamed when it is on the disk. The caller holds the home's lock.
        """
        path, new = self.root / "application-password", self.root / "application-password.new"
        if not os.path.lexists(path):
            new.unlink(missing_ok=True)
            _write_password(new, account)
            new.rename(path)
            _sync(self.root)
        return _read(path)


def fits_socket(folder: Path) -> bool:
    """Whether a socket in this folder has a path that every party understands."""
    return _SOCKET_PATH.fullmatch(f"{folder}/.s.PGSQL.{PORT}") is not None


def lock(path: Path, patience: float = 0.0) -> int:
    """Lock a file and return its descriptor, held until that and every inherited one is closed.

    Waits ``patience`` seconds at most. Raises DatabaseBusy.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= deadline:
                os.close(descriptor)
                raise DatabaseBusy(
                    f"another process uses the database in {path.parent}",
                    "Stop the other coordinator of this home, or choose another --home. If it was "
                    "killed just now, its database is still shutting down: try again in a minute.",
                ) from None
        except BaseException:
            os.close(descriptor)
            raise
        time.sleep(0.05)


def existing(home: Path) -> DatabaseFolder | None:
    """Return the database folder of a home, None where there is none. Raises HomeInvalid."""
    link = home / "postgres"
    if not os.path.lexists(link):
        return None
    root = link.resolve()
    if not root.is_dir():
        raise HomeInvalid(
            f"{link} names the database folder {root}, which is gone",
            f"Put {root} back, from a backup if need be. In a container, keep it on a volume too, "
            "or do not run as root. Nothing was changed.",
        )
    try:
        complete = (root / "data" / "PG_VERSION").is_file()
    except PermissionError:
        complete = True  # not ours to look into: the owner is checked next
    if not complete:
        raise HomeInvalid(
            f"{root} is not a complete database folder",
            "Put it back from a backup, or move it away to begin anew. Nothing was changed.",
        )
    return DatabaseFolder(root)


def shelter() -> Path:
    """Return ``/var/lib/medpole``, made by root if need be so that any account passes through."""
    for folder in (SHELTER, SHELTER / "postgres"):
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        folder.chmod(0o711)
    return SHELTER


def create(
    home: Path, account: Account, installation: Installation, server_lock: int
) -> DatabaseFolder:
    """Make a new database, completely or not at all. The caller holds both locks.

    ``initdb`` inherits the server's lock: were we killed now, a successor waits for it to end.
    """
    link, new = home / "postgres", home / "postgres.new"
    _discard(new)
    if account.can_enter(home):
        new.mkdir(0o700)
    else:
        target = shelter() / "postgres" / secrets.token_hex(8)
        new.symlink_to(target, target_is_directory=True)
        target.mkdir(0o700)
    root = new.resolve()
    _initialise(root, account, installation, server_lock)
    _sync(root)
    new.rename(link)
    _sync(home)
    return DatabaseFolder(link.resolve())


def clear_stale(found: DatabaseFolder) -> None:
    """Remove the pid files of a server that was killed. The caller holds both locks.

    PostgreSQL takes any process of that number for its predecessor: a zombie that nobody has
    reaped yet, or, after a container's restart, whoever got the number. Neither holds our lock.
    A living ``postgres`` is left to it: someone may have started one by hand.
    """
    for path in (found.data / "postmaster.pid", found.sockets / f".s.PGSQL.{PORT}.lock"):
        try:
            pid = int(path.read_text().split("\n", 1)[0])
            # "PID (NAME) STATE ...", readable for everyone; elsewhere than on Linux there is none
            name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        except (OSError, ValueError):
            continue  # no server was killed, or its number is free again
        if rest.split()[0] in "ZX" or not name.endswith("(postgres"):
            path.unlink()


def _initialise(root: Path, account: Account, installation: Installation, server_lock: int) -> None:
    password = root / "password"
    _write_password(password, account)
    sockets = root / "sockets"
    sockets.mkdir(0o700)
    for path in (sockets, root):  # the folder last: until then nobody else gets in
        account.own(path)
    command: list[str | Path] = [
        installation.bin / "initdb",
        f"--pgdata={root / 'data'}",
        f"--username={SUPERUSER}",
        f"--pwfile={password}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--data-checksums",
        "--no-instructions",
    ]
    try:
        made = account.run(command, timeout=_INITDB_PATIENCE_S, keep=[server_lock])
        code, output = made.returncode, made.stdout.strip()
    except subprocess.TimeoutExpired:
        code, output = -1, f"not ready within {_INITDB_PATIENCE_S:.0f} s"
    if code != 0:
        last = output.splitlines()[-1:] or [f"exit status {code}"]
        raise DatabaseFailed(
            f"initdb could not make a database in {root}: {last[0]}",
            "Check that the disk has space and can be written to, then start again.",
        )


def _read(password: Path) -> str:
    descriptor = os.open(password, os.O_RDONLY | os.O_NOFOLLOW)
    with open(descriptor, encoding="ascii") as file:
        return file.read().strip()


def _write_password(path: Path, account: Account) -> None:
    """Make a new password in a new file, on the disk before this returns."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(descriptor, "w", encoding="ascii") as file:
        if account.uid is not None and account.gid is not None:
            os.fchown(descriptor, account.uid, account.gid)  # the path may not be ours any more
        file.write(secrets.token_urlsafe(32) + "\n")
        file.flush()
        os.fsync(descriptor)


def _discard(new: Path) -> None:
    """Remove what an interrupted ``create`` left."""
    if new.is_symlink():
        target = Path(os.readlink(new))
        if target.parent == SHELTER / "postgres" and target.is_dir():
            shutil.rmtree(target)
        new.unlink()
    elif new.is_dir():
        shutil.rmtree(new)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
