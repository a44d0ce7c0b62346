"""The ledger of a home on this machine, opened for one command."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consortium.errors import HomeMismatch
from consortium.home import Home, open_home
from ledger.database import attached_database, open_database
from ledger.errors import HomeInUse, LedgerMissing
from ledger.keys import Role
from ledger.store import LedgerStore


@contextmanager
def open_ledger(path: Path, *, shared: bool = False) -> Iterator[tuple[Home, LedgerStore]]:
    """Opens the ledger of a home that has been founded.

    ``shared`` is for what reads, and for what is submitted: while another process uses the home
    (`consortium serve`, a demo, the portal), its database is used beside it.

    Raises:
        LedgerMissing: if there is none; nothing is made.
        HomeMismatch: if the coordinator's keys in the home are not this ledger's.
        HomeInUse: if another process uses the home, and it is not shared.
        LedgerError: if the home or its database cannot be opened.
    """
    if not (path / "home.json").exists():
        raise LedgerMissing(
            f"there is no ledger in {path}", "name its folder with --home, or run `consortium demo`"
        )
    if not os.environ.get("DATABASE_URL") and not os.path.lexists(path / "postgres"):
        raise _unfounded(path)
    try:
        with open_home(path) as home, open_database(home.path) as engine:
            yield home, _founded(home, LedgerStore(engine))
            return
    except HomeInUse:
        if not shared:
            raise
    with attached_ledger(path) as attached:
        yield attached


@contextmanager
def attached_ledger(path: Path) -> Iterator[tuple[Home, LedgerStore]]:
    """The ledger whose database `consortium serve` keeps open, or the one in ``DATABASE_URL``.

    Raises:
        LedgerMissing: if none has been founded.
        HomeMismatch: if the coordinator's keys in the home are not this ledger's.
        LedgerError: if the database is not there.
    """
    with attached_database(path) as engine:
        yield Home(path), _founded(Home(path), LedgerStore(engine))


@contextmanager
def open_home_database(path: Path) -> Iterator[tuple[Home, LedgerStore]]:
    """Opens a home and its database, whether or not a ledger was founded there.

    A home of which nothing but the coordinator's keys was left is noted to be one.

    Raises:
        HomeInUse: if another process uses the home.
        LedgerError: if the home or its database cannot be opened.
    """
    with open_home(path) as home, open_database(home.path) as engine:
        if home.founded() is None:
            home.note({"restored": True})
        yield home, LedgerStore(engine)


def _founded(home: Home, store: LedgerStore) -> LedgerStore:
    if not store.exists():
        raise _unfounded(home.path)
    # Whoever only reads needs no keys; but keys of another consortium are a mistake.
    if (home.path / "coordinator" / "keys" / f"{Role.RECORD}.key").exists():
        own = home.keys[Role.RECORD].public
        memberships = store.chain().memberships.values()
        if own not in [membership.coordinator_key(Role.RECORD) for membership in memberships]:
            raise HomeMismatch(
                f"the coordinator's keys in {home.path} are not those of its database's ledger",
                "restore the keys from this consortium's backup, or name its own DATABASE_URL",
            )
    return store


def _unfounded(path: Path) -> LedgerMissing:
    return LedgerMissing(
        f"there is no ledger in the database of {path}",
        "not founded yet: run `consortium demo` again, or see `consortium genesis` for who has to "
        "sign; lost: `consortium ledger restore` (docs/recovery.md)",
    )
