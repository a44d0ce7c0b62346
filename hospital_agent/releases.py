"""The release gate's memory: what this hospital let out about its test patients. One SQLite file,
always synced.

A job's evaluation is signed and kept before it is sent, and whoever asks again gets what was kept:
so a crash between any two lines never lets two different numbers out. Each cohort has a number of
releases for life. The exact numbers are kept beside, for people at the hospital; they never leave.
"""

import json
import sqlite3
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hospital_agent.errors import ReleasesUsedUp
from hospital_agent.state import connected, transaction
from ledger.entry import Entry
from ledger.records import Evaluation

_SCHEMA = """
CREATE TABLE IF NOT EXISTS released (
    cohort TEXT NOT NULL, job TEXT NOT NULL, model TEXT NOT NULL, entry BLOB NOT NULL,
    exact TEXT NOT NULL, time INTEGER NOT NULL, PRIMARY KEY (cohort, job, model)
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS released_job ON released (job, model);
CREATE TABLE IF NOT EXISTS refused (
    job TEXT PRIMARY KEY, code TEXT NOT NULL, time INTEGER NOT NULL
) STRICT;
"""


@dataclass(frozen=True)
class Release:
    """One signed evaluation. ``exact`` never leaves: by model, measure to fraction of 1."""

    cohort: str
    entry: Entry
    exact: Mapping[str, Any] = field(repr=False)

    @property
    def evaluation(self) -> Evaluation:
        """What was signed."""
        record = self.entry.record
        assert isinstance(record, Evaluation)
        return record


class Releases:
    """One hospital's releases."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(self._path) as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path)

    def of(self, job: str) -> Release | None:
        """What was released of a job's model, if anything."""
        query = "SELECT cohort, entry, exact FROM released WHERE job = ?"
        with self._connect() as connection:
            row = connection.execute(query, (job,)).fetchone()
        return Release(row[0], Entry(row[1]), json.loads(row[2])) if row else None

    def count(self, cohort: str) -> int:
        """How many were released of a cohort, over its life."""
        with self._connect() as connection:
            return _count(connection, cohort)

    def check_room(self, cohort: str, limit: int) -> None:
        """Whether a cohort may release once more.

        Raises:
            ReleasesUsedUp: if it has released as often as the policy allows.
        """
        with self._connect() as connection:
            _check_room(connection, cohort, limit)

    def keep(self, release: Release, limit: int) -> Release:
        """Stores it unless the job has one already; returns what is stored.

        Raises:
            ReleasesUsedUp: if the cohort has released as often as the policy allows.
        """
        record = release.evaluation
        with self._connect() as connection:
            query = "SELECT count(*) FROM released WHERE job = ? AND model = ?"
            if not connection.execute(query, (record.job, record.model)).fetchone()[0]:
                _check_room(connection, release.cohort, limit)
                connection.execute(
                    "INSERT INTO released VALUES (?, ?, ?, ?, ?, ?)",
                    (release.cohort, record.job, record.model, release.entry.data,
                     json.dumps(release.exact), int(time.time())),
                )  # fmt: skip
                connection.execute("DELETE FROM refused WHERE job = ?", (record.job,))
        stored = self.of(record.job)
        assert stored is not None
        return stored

    def keep_refused(self, job: str, code: str) -> bool:
        """Notes why a job's evaluation was not released; says whether that is news."""
        with self._connect() as connection:
            query = "SELECT code FROM refused WHERE job = ?"
            before = connection.execute(query, (job,)).fetchone()
            row = (job, code, int(time.time()))
            connection.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", row)
        return before is None or before[0] != code

    def refused(self) -> dict[str, str]:
        """The jobs whose evaluation was not released, each with the code that says why."""
        with self._connect() as connection:
            return dict(connection.execute("SELECT job, code FROM refused ORDER BY job"))

    def holds(self, entry: Entry) -> bool:
        """Whether this very record was signed here, be it with a key before."""
        record = entry.record
        kept = self.of(record.job) if isinstance(record, Evaluation) else None
        return kept is not None and kept.entry.record == record


def _check_room(connection: sqlite3.Connection, cohort: str, limit: int) -> None:
    if _count(connection, cohort) >= limit:
        raise ReleasesUsedUp(
            f"the policy allows {limit} evaluations in this cohort's lifetime, and so many were "
            "released",
            "the data owner may allow more: `hospital-agent policy set --evaluation-limit N`",
        )


def _count(connection: sqlite3.Connection, cohort: str) -> int:
    query = "SELECT count(*) FROM released WHERE cohort = ?"
    return int(connection.execute(query, (cohort,)).fetchone()[0])
