"""A hospital's state in SQLite: what is acknowledged is on the disk, its folder included."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hospital_agent.errors import StateFailed


@contextmanager
def connected(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in autocommit; whoever needs a transaction begins one (`transaction`).

    Raises:
        StateFailed: if the file cannot be read or written; nothing was stored then.
    """
    try:
        connection = sqlite3.connect(path, timeout=30, isolation_level=None)
        try:
            connection.execute("PRAGMA synchronous = EXTRA")  # FULL, and the folder too
            yield connection
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise StateFailed(
            f"{path.name} cannot be read or written ({error})",
            f"free space on the disk, or make {path.parent} writable; never put an old copy back",
        ) from None


@contextmanager
def transaction(path: Path) -> Iterator[sqlite3.Connection]:
    """A connection in one transaction, stored whole or not at all.

    Raises:
        StateFailed: as `connected`.
    """
    with connected(path) as connection:
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:  # SQLite may have rolled back already
                connection.execute("ROLLBACK")
            raise
