"""The ledger of a home on this machine, opened for one command."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from consortium.simulation.home import Home, open_home
from ledger.database import open_database
from ledger.errors import LedgerMissing
from ledger.store import LedgerStore


@contextmanager
def open_ledger(path: Path) -> Iterator[tuple[Home, LedgerStore]]:
    """Opens the ledger of a home that has been founded.

    Raises:
        LedgerMissing: if there is none; nothing is made.
        LedgerError: if the home or its database cannot be opened.
    """
    if not (path / "home.json").exists():
        raise LedgerMissing(
            f"there is no ledger in {path}", "name its folder with --home, or run `consortium demo`"
        )
    with open_home(path) as home, open_database(home.path) as engine:
        store = LedgerStore(engine)
        if not store.exists():
            raise LedgerMissing("the ledger was never founded", "run `consortium demo` again")
        yield home, store
