"""State beside the ledger, in SQLite or a file: what is acknowledged is on the disk for good."""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from consortium.errors import StateFailed


@contextmanager
def transaction(path: Path, schema: Sequence[str] = ()) -> Iterator[sqlite3.Connection]:
    """One transaction on a file of this account's own, stored whole or not at all.

    Raises:
        StateFailed: if the file cannot be read or written; nothing was stored then.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as connection:
            connection.execute("PRAGMA synchronous = EXTRA")  # FULL, and the folder too
            connection.execute("BEGIN IMMEDIATE")
            try:
                for statement in schema:
                    connection.execute(statement)
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite may have rolled back already
                    connection.execute("ROLLBACK")
                raise
    except (sqlite3.Error, OSError) as error:
        raise _failed(path, error) from None


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection]:
    """A look at a file that is there: it waits for no writer but one that commits this moment.

    Raises:
        StateFailed: if the file cannot be read.
    """
    try:
        # Not mode=ro: what a crash left half written could not be rolled back then.
        where = f"{path.absolute().as_uri()}?mode=rw"
        with closing(sqlite3.connect(where, 30, isolation_level=None, uri=True)) as connection:
            connection.execute("PRAGMA query_only = ON")
            yield connection
    except (sqlite3.Error, OSError) as error:
        raise _failed(path, error) from None


def replace_file(path: Path, data: bytes) -> None:
    """Replaces a file durably: the old or the new content, never half of it."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _failed(path: Path, error: Exception) -> StateFailed:
    return StateFailed(
        f"{path.name} cannot be read or written ({error})",
        f"free space on the disk, or make {path.parent} writable to this account",
    )
