"""A hospital's replica as a `ledger.copies.LedgerCopy`: for its exports and receipts."""

import sqlite3
from collections.abc import Iterator, Sequence
from typing import IO

from ledger.block import Block, Header
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.merkle import Frontier, Span, span_root
from ledger.note import Checkpoint
from ledger.records import Erasure, Record


class ReplicaCopy:
    """One connection's unmoving view. A block is final here once its certificate is known here."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def newest(self) -> int | None:
        """Height of the newest verified block; None before the genesis."""
        found = self._connection.execute("SELECT max(height) FROM blocks").fetchone()[0]
        return None if found is None else int(found)

    def genesis(self) -> Entry:
        """The genesis entry."""
        return Entry(
            self._connection.execute("SELECT body FROM entries WHERE idx = 0").fetchone()[0]
        )

    def changes(self, last: int) -> list[Entry]:
        """All changes and approvals in blocks up to ``last``, in order."""
        query = (
            "SELECT body FROM entries WHERE type IN ('change', 'approval') AND height <= ? "
            "ORDER BY idx"
        )
        return [Entry(body) for (body,) in self._connection.execute(query, (last,))]

    def erased(self) -> list[str]:
        """The salted digests that erasures name."""
        query = "SELECT body FROM entries WHERE type = 'erasure'"
        records = (Entry(body).record for (body,) in self._connection.execute(query))
        return [record.disclosure for record in records if isinstance(record, Erasure)]

    def header(self, height: int) -> Header:
        """A block's header."""
        return read_shell(self._connection, height).header

    def frontier(self, height: int) -> Frontier:
        """The tree after a block, its header included."""
        query = "SELECT frontier FROM blocks WHERE height = ?"
        data = self._connection.execute(query, (height,)).fetchone()[0]
        nodes = [data[i : i + 32] for i in range(0, len(data), 32)]
        return Frontier(self.header(height).size + 1, nodes)

    def blocks(self, first: int, last: int) -> Iterator[tuple[Block, list[str]]]:
        """Blocks without their entries, each with the cosignatures known here, oldest first."""
        for height in range(first, last + 1):
            yield read_shell(self._connection, height), certificate(self._connection, height)

    def write_entries(self, out: IO[bytes], first: int, last: int) -> None:
        """Writes the entries of the blocks from ``first`` to ``last``, a line each."""
        query = (
            "SELECT body FROM entries WHERE height BETWEEN ? AND ? AND type != 'block' ORDER BY idx"
        )
        for (body,) in self._connection.execute(query, (first, last)):
            out.write(body + b"\n")

    def subtrees(self, spans: Sequence[Span]) -> list[bytes]:
        """Roots over spans of leaves that are there, from the blocks in which they end."""
        return [self._subtree(span) for span in spans]

    def _subtree(self, span: Span) -> bytes:
        last = self._connection.execute("SELECT height FROM entries WHERE idx = ?", (span[1] - 1,))
        height = last.fetchone()[0]
        before = self.frontier(height - 1) if height else Frontier()
        query = "SELECT leaf FROM entries WHERE idx >= ? AND idx < ? ORDER BY idx"
        leaves = self._connection.execute(query, (before.size, span[1]))
        return span_root(span, before, (leaf for (leaf,) in leaves))

    def leaf(self, index: int) -> tuple[int, bytes] | None:
        """Height and bytes of one leaf: an entry, or a block's header."""
        query = "SELECT height, body FROM entries WHERE idx = ?"
        row = self._connection.execute(query, (index,)).fetchone()
        return None if row is None else (int(row[0]), bytes(row[1]))

    def places(self, job: str, round: int) -> list[tuple[int, Record]]:
        """Index and record of everything of one round, in order."""
        query = "SELECT idx, body FROM entries WHERE job = ? AND round = ? ORDER BY idx"
        found = self._connection.execute(query, (job, round))
        return [(int(index), Entry(body).record) for index, body in found]

    def disclosures(self) -> list[Disclosure]:
        """None: a hospital holds only what opens its own approvals, in a file of its own."""
        return []


def read_shell(connection: sqlite3.Connection, height: int) -> Block:
    """A block that is there, without its entries."""
    row = connection.execute(
        "SELECT header, checkpoint, signature, parent_cert FROM blocks WHERE height = ?", (height,)
    ).fetchone()
    lines = tuple(row[3].split("\n")) if row[3] else ()
    return Block(Header.parse(row[0]), (), Checkpoint.parse(row[1]), row[2], lines)


def certificate(connection: sqlite3.Connection, height: int) -> list[str]:
    """What the next block shows, or what was kept: the cosignatures on a block, sorted."""
    queries = (
        "SELECT parent_cert FROM blocks WHERE height = ? + 1",
        "SELECT lines FROM certificates WHERE height = ?",
    )
    for query in queries:
        row = connection.execute(query, (height,)).fetchone()
        if row and row[0]:
            return sorted(row[0].split("\n"))
    return []
