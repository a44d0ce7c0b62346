"""What a hospital must not forget between the phases of a round: one SQLite file, always synced.

A crash between two phases neither loses an update nor trains it twice; a repeated message gets
the stored answer; no second set of commitments is ever signed for one attempt; and a round in which
this hospital has revealed is never trained for again.
"""

import sqlite3
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from hospital_agent.state import connected, transaction

_SCHEMA = """
CREATE TABLE IF NOT EXISTS trained (
    job TEXT, round INTEGER, attempt INTEGER, update_digest TEXT NOT NULL,
    vrf_proof BLOB NOT NULL, salt BLOB NOT NULL, commitment BLOB NOT NULL,
    PRIMARY KEY (job, round, attempt)
);
CREATE TABLE IF NOT EXISTS signed (
    job TEXT, round INTEGER, attempt INTEGER, type TEXT, digest TEXT NOT NULL, entry BLOB NOT NULL,
    PRIMARY KEY (job, round, attempt, type)
);
"""

Place = tuple[str, int, int]
"""Job, round, attempt."""


@dataclass(frozen=True)
class Trained:
    """An update that was committed to: its digest, and what opens the commitment."""

    update: str
    vrf_proof: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    commitment: bytes = field(repr=False)


class RoundMemory:
    """The memory of all rounds of one hospital."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(self._path) as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path)

    def trained(self, place: Place) -> Trained | None:
        """What was trained and committed to, if anything."""
        query = (
            "SELECT update_digest, vrf_proof, salt, commitment FROM trained "
            "WHERE job = ? AND round = ? AND attempt = ?"
        )
        with self._connect() as connection:
            row = connection.execute(query, place).fetchone()
        return Trained(*row) if row else None

    def keep_trained(self, place: Place, trained: Trained) -> Trained:
        """Stores it unless something is stored already; returns what is stored."""
        values = (trained.update, trained.vrf_proof, trained.salt, trained.commitment)
        with self._connect() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO trained VALUES (?, ?, ?, ?, ?, ?, ?)", (*place, *values)
            )
        stored = self.trained(place)
        assert stored is not None
        return stored

    def signed(self, place: Place, type: str) -> tuple[str, bytes] | None:
        """The digest and the entry of this type that were signed for this attempt, if any."""
        query = (
            "SELECT digest, entry FROM signed WHERE job = ? AND round = ? AND attempt = ? "
            "AND type = ?"
        )
        with self._connect() as connection:
            row = connection.execute(query, (*place, type)).fetchone()
        return (str(row[0]), bytes(row[1])) if row else None

    def revealed_before(self, place: Place) -> bool:
        """Whether a proof was signed in an earlier attempt at this round."""
        query = (
            "SELECT count(*) FROM signed WHERE job = ? AND round = ? AND attempt < ? "
            "AND type = 'proof'"
        )
        with self._connect() as connection:
            return bool(connection.execute(query, place).fetchone()[0])

    def keep_signed(self, place: Place, type: str, digest: str, entry: bytes) -> tuple[str, bytes]:
        """Stores it unless one is stored already; returns what is stored."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO signed VALUES (?, ?, ?, ?, ?, ?)",
                (*place, type, digest, entry),
            )
        stored = self.signed(place, type)
        assert stored is not None
        return stored
