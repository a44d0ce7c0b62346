"""A hospital's own copy of the ledger: what it verified, and what it co-signed.

One SQLite file, synced with its folder. A block and the cosignature over it are stored in one
transaction before the cosignature leaves, keyed by epoch and height: the compare-and-set that
keeps a member from ever signing two blocks at one height. Asked again for the same block, it
answers with the stored bytes. A block that others made final has no cosignature of its own here.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hospital_agent.errors import ForkRefused
from hospital_agent.replica_copy import ReplicaCopy, certificate, read_shell
from hospital_agent.state import connected, transaction
from ledger.block import Block, Header
from ledger.chain import Chain
from ledger.copies import start_before
from ledger.entry import Entry
from ledger.merkle import Frontier
from ledger.note import SignedHead
from ledger.records import Job, JobEnd, Proof, Result

if TYPE_CHECKING:  # the rules of a round load torch; whoever reads a copy does without
    from consortium.rounds.checks.near_copy import EarlierStep
    from consortium.rounds.replay import Checked

_SCHEMA = """
CREATE TABLE IF NOT EXISTS blocks (
    height INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, header BLOB NOT NULL,
    checkpoint TEXT NOT NULL, signature TEXT NOT NULL, parent_cert TEXT NOT NULL,
    cosignature TEXT, frontier BLOB NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS certificates (height INTEGER PRIMARY KEY, lines TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS entries (
    idx INTEGER PRIMARY KEY, height INTEGER NOT NULL, type TEXT NOT NULL, job TEXT,
    round INTEGER, author TEXT, body BLOB NOT NULL, leaf BLOB NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS entries_author ON entries (author, type, idx);
CREATE INDEX IF NOT EXISTS entries_job ON entries (job, type, round);
CREATE TABLE IF NOT EXISTS evidence (
    height INTEGER NOT NULL, note TEXT NOT NULL, what TEXT NOT NULL, PRIMARY KEY (height, note)
) STRICT;
CREATE TABLE IF NOT EXISTS stops (key TEXT PRIMARY KEY, what TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS steps (
    job TEXT NOT NULL, round INTEGER NOT NULL, institution TEXT NOT NULL, step BLOB NOT NULL,
    PRIMARY KEY (job, round, institution)
) STRICT;
"""


class Replica:
    """The verified copy in one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._connect() as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return connected(self._path)

    def chain(self, pinned: str | None = None) -> Chain | None:
        """The state after the newest verified block; None before the genesis.

        Raises:
            GenesisMismatch: if ``pinned`` is another ledger's id.
        """
        with self._connect() as connection:
            newest = connection.execute("SELECT max(height) FROM blocks").fetchone()[0]
            if newest is None:
                return None
            copy = ReplicaCopy(connection)
            return start_before(copy, newest + 1).chain(pinned)

    def height(self) -> int:
        """Height of the newest verified block, -1 before the genesis."""
        with self._connect() as connection:
            newest = connection.execute("SELECT max(height) FROM blocks").fetchone()[0]
        return -1 if newest is None else int(newest)

    def block(self, height: int) -> Block:
        """A verified block."""
        with self._connect() as connection:
            return _read_block(connection, height)

    def shell(self, height: int) -> Block:
        """A verified block without its entries: what is signed, and by whom."""
        with self._connect() as connection:
            return read_shell(connection, height)

    def ended_at(self, height: int) -> list[str]:
        """The jobs whose end stands in a verified block."""
        query = "SELECT job FROM entries WHERE height = ? AND type = 'job-end' ORDER BY idx"
        with self._connect() as connection:
            return [str(job) for (job,) in connection.execute(query, (height,))]

    def cosignature(self, header: Header) -> str | None:
        """The line that was signed for this very block, or None where none was at its height.

        Raises:
            ForkRefused: if another block was co-signed at this height.
        """
        with self._connect() as connection:
            return _stored(connection, header)

    def accept(
        self, block: Block, line: str | None, checked: "Checked", frontier: Frontier
    ) -> str | None:
        """Stores a verified block with the cosignature over it; returns the line that counts.

        ``line`` is None for a block that is followed and not signed; ``frontier`` is the tree with
        its header.

        Raises:
            ForkRefused: if another block was accepted at this height.
        """
        with transaction(self._path) as connection:
            if not _known(connection, block.header):
                _insert(connection, block, line, checked, frontier)
            return _stored(connection, block.header)

    def own_line(self, height: int) -> str | None:
        """The cosignature made here on the block at a height, if any."""
        query = "SELECT cosignature FROM blocks WHERE height = ?"
        with self._connect() as connection:
            row = connection.execute(query, (height,)).fetchone()
        return None if row is None or row[0] is None else str(row[0])

    def own_lines(self, first: int = 0) -> dict[int, str]:
        """The cosignatures made here, by height, from a height on."""
        query = "SELECT height, cosignature FROM blocks WHERE height >= ? AND cosignature NOT NULL"
        with self._connect() as connection:
            return {int(h): str(line) for h, line in connection.execute(query, (first,))}

    def keep_certificate(self, height: int, lines: Sequence[str]) -> None:
        """Keeps the cosignatures that made a block final."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO certificates VALUES (?, ?)", (height, "\n".join(lines))
            )

    def certificate(self, height: int) -> list[str]:
        """The cosignatures that made a block final, as far as they are known here; sorted."""
        with self._connect() as connection:
            return certificate(connection, height)

    def keep_evidence(self, height: int, note: SignedHead, what: str) -> None:
        """Keeps a signed head that contradicts this copy, whole."""
        row = (height, note.text(), what)
        with self._connect() as connection:
            connection.execute("INSERT OR IGNORE INTO evidence VALUES (?, ?, ?)", row)

    def evidence(self) -> list[tuple[int, str, str]]:
        """Height, signed note and meaning of every head that contradicts this copy."""
        with self._connect() as connection:
            query = "SELECT height, note, what FROM evidence ORDER BY height, note"
            return [(int(h), str(n), str(w)) for h, n, w in connection.execute(query)]

    def stop(self, key: str, what: str) -> None:
        """Never again to sign with the cosign key of this id; the first reason stays."""
        with self._connect() as connection:
            connection.execute("INSERT OR IGNORE INTO stops VALUES (?, ?)", (key, what))

    def stopped(self, key: str) -> str | None:
        """Why the cosign key of this id must not sign any more, or None."""
        with self._connect() as connection:
            row = connection.execute("SELECT what FROM stops WHERE key = ?", (key,)).fetchone()
        return str(row[0]) if row else None

    @contextmanager
    def copy(self) -> Iterator[ReplicaCopy]:
        """One unmoving view of the copy, for exports and proofs."""
        with self._connect() as connection:
            connection.execute("BEGIN")
            try:
                yield ReplicaCopy(connection)
            finally:
                connection.execute("ROLLBACK")

    def entries(self, type: str, job: str | None = None) -> list[Entry]:
        """Entries by type and job, in ledger order."""
        query, values = "SELECT body FROM entries WHERE type = ?", [type]
        if job is not None:
            query, values = f"{query} AND job = ?", [type, job]
        with self._connect() as connection:
            rows = connection.execute(query + " ORDER BY idx", values)
            return [_entry(body) for (body,) in rows]

    def jobs(self) -> list[Job]:
        """All jobs, oldest first."""
        return [r for e in self.entries("job") if isinstance(r := e.record, Job)]

    def end_of(self, job: str) -> JobEnd | None:
        """The job's end, if it is over."""
        ends = [r for e in self.entries("job-end", job) if isinstance(r := e.record, JobEnd)]
        return ends[0] if ends else None

    def learned(self, institution: str, *, evaluated: bool = True) -> list[str]:
        """Jobs whose end is final and in which it has revealed, oldest first.

        ``evaluated`` False: only those that it has not evaluated.
        """
        query = (
            "SELECT job, height FROM entries AS ends WHERE author = 'coordinator' "
            "AND type = 'job-end' AND EXISTS (SELECT 1 FROM entries WHERE job = ends.job "
            "AND type = 'proof' AND author = ?1) AND (?2 OR NOT EXISTS (SELECT 1 FROM entries "
            "WHERE job = ends.job AND type = 'evaluation' AND author = ?1)) ORDER BY idx"
        )
        with self._connect() as connection:
            ended = connection.execute(query, (institution, evaluated)).fetchall()
            return [str(job) for job, height in ended if certificate(connection, height)]

    def results(self, job: str) -> list[Result]:
        """The job's results, oldest first."""
        return [r for e in self.entries("result", job) if isinstance(r := e.record, Result)]

    def proofs(self, institution: str) -> Iterator[Proof]:
        """An institution's proofs, newest first, read as they are asked for."""
        query = "SELECT body FROM entries WHERE author = ? AND type = 'proof' ORDER BY idx DESC"
        with self._connect() as connection:
            for (body,) in connection.execute(query, (institution,)):
                if isinstance(record := _entry(body).record, Proof):
                    yield record

    def newest_proofs(self, institutions: Iterable[str]) -> dict[str, Proof]:
        """The newest proof of each of these institutions that has one."""
        query = (
            "SELECT body FROM entries WHERE author = ? AND type = 'proof' ORDER BY idx DESC LIMIT 1"
        )
        found = {}
        with self._connect() as connection:
            for name in institutions:
                for (body,) in connection.execute(query, (name,)):
                    if isinstance(record := _entry(body).record, Proof):
                        found[name] = record
        return found

    def steps(self, job: str) -> "Sequence[EarlierStep]":
        """The steps of the job's reveals so far."""
        from consortium.rounds.checks.near_copy import EarlierStep

        query = "SELECT institution, round, step FROM steps WHERE job = ? ORDER BY 2, 1"
        with self._connect() as connection:
            rows = connection.execute(query, (job,))
            return [EarlierStep(name, round_, np.frombuffer(step)) for name, round_, step in rows]


@lru_cache(maxsize=8192)
def _entry(body: bytes) -> Entry:
    """An entry that keeps its parsed record: a job's results are read again every round."""
    return Entry(body)


def _known(connection: sqlite3.Connection, header: Header) -> bool:
    """Whether this very block is here."""
    _stored(connection, header)
    query = "SELECT count(*) FROM blocks WHERE height = ?"
    return bool(connection.execute(query, (header.height,)).fetchone()[0])


def _stored(connection: sqlite3.Connection, header: Header) -> str | None:
    row = connection.execute(
        "SELECT header, cosignature FROM blocks WHERE height = ?", (header.height,)
    ).fetchone()
    if row is None:
        return None
    if row[0] != header.data():
        raise ForkRefused(
            f"a second block at height {header.height}",
            "keep both signed blocks as evidence and ask the other institutions what they hold",
        )
    return None if row[1] is None else str(row[1])


def _insert(
    connection: sqlite3.Connection,
    block: Block,
    line: str | None,
    checked: "Checked",
    frontier: Frontier,
) -> None:
    header = block.header
    connection.execute(
        "INSERT INTO blocks VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            header.height, header.epoch, header.data(), block.checkpoint.text(), block.signature,
            "\n".join(block.parent_cert), line, b"".join(frontier.nodes),
        ),
    )  # fmt: skip
    rows: list[tuple[object, ...]] = [
        (
            header.first + position, header.height, entry.record.type,
            getattr(entry.record, "job", None), getattr(entry.record, "round", None),
            entry.record.author, entry.data, entry.leaf,
        )
        for position, entry in enumerate(block.entries)
    ]  # fmt: skip
    rows.append((header.size, header.height, "block", None, None, None, header.data(), header.leaf))
    connection.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    steps: Mapping[str, np.ndarray] = checked.steps or {}
    connection.executemany(
        "INSERT INTO steps VALUES (?, ?, ?, ?)",
        [(checked.job, checked.round, name, step.tobytes()) for name, step in steps.items()],
    )


def _read_block(connection: sqlite3.Connection, height: int) -> Block:
    bodies = connection.execute(
        "SELECT body FROM entries WHERE height = ? AND type != 'block' ORDER BY idx", (height,)
    )
    return replace(
        read_shell(connection, height), entries=tuple(_entry(body) for (body,) in bodies)
    )
