"""One unmoving view of the stored ledger (REPEATABLE READ), for exports.

Entries leave the server in ledger order through COPY, as the very bytes that were received: the
server writes the lines, and no row becomes a Python object.
"""

from collections.abc import Iterator, Sequence
from typing import IO, Any

from sqlalchemy import Connection, func, select, text

from ledger import rows, schema
from ledger.block import Block, Header
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.merkle import Frontier, Span, span_root
from ledger.records import Erasure

_AT_ONCE = 1000
# Canonical JSON holds no control character: with these as quote and delimiter, COPY's CSV form
# leaves every line as it is.
_COPY = (
    "COPY (SELECT convert_from(body, 'UTF8') FROM entries"
    " WHERE height BETWEEN {first} AND {last} AND type <> 'block' ORDER BY idx)"
    " TO STDOUT WITH (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02', ENCODING 'UTF8')"
)
# Of each span the tree before the block of its last leaf, and the leaves from there on.
_SUBTREES = text(
    """
    SELECT first, last, block.height, block.frontier,
           coalesce(block.first_idx + block.count + 1, 0) AS size, leaves
    FROM unnest(CAST(:firsts AS bigint[]), CAST(:lasts AS bigint[]))
        WITH ORDINALITY AS span (first, last, position)
    JOIN entries AS final ON final.idx = last - 1
    LEFT JOIN blocks AS block ON block.height = final.height - 1
    CROSS JOIN LATERAL (
        SELECT array_agg(leaf_hash ORDER BY idx) AS leaves FROM entries
        WHERE idx >= coalesce(block.first_idx + block.count + 1, 0) AND idx < last
    ) AS rest
    ORDER BY position
    """
)


class Snapshot:
    """What `LedgerStore.snapshot` gives: a `ledger.copies.LedgerCopy`."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def newest(self) -> int | None:
        """Height of the newest block, final or not; None before the genesis."""
        found = self._connection.execute(select(func.max(schema.blocks.c.height))).scalar()
        return None if found is None else int(found)

    def header(self, height: int) -> Header:
        """The header of a block that is there."""
        header = rows.read_header(self._connection, height)
        assert header is not None
        return header

    def frontier(self, height: int) -> Frontier:
        """The tree after a block, its header included."""
        return rows.read_frontier(self._connection, height)

    def genesis(self) -> Entry:
        """The genesis entry."""
        body = select(schema.entries.c.body).where(schema.entries.c.idx == 0)
        return Entry(bytes(self._connection.execute(body).scalar_one()))

    def changes(self, last: int) -> list[Entry]:
        """All changes and approvals in blocks up to ``last``, in order."""
        query = (
            select(schema.entries.c.body)
            .where(schema.entries.c.type.in_(("change", "approval")))
            .where(schema.entries.c.height <= last)
            .order_by(schema.entries.c.idx)
        )
        return [Entry(bytes(body)) for body in self._connection.execute(query).scalars()]

    def write_entries(self, out: IO[bytes], first: int, last: int) -> None:
        """Writes the entries of the blocks from ``first`` to ``last``, a line each."""
        cursor = self._connection.connection.cursor()
        try:
            statement = _COPY.format(first=int(first), last=int(last))
            cursor.copy_expert(statement, out)
        finally:
            cursor.close()

    def blocks(self, first: int, last: int) -> Iterator[tuple[Block, list[str]]]:
        """Blocks without their entries, each with its cosignatures, oldest first."""
        lines = (
            select(func.array_agg(schema.cosignatures.c.line))
            .where(schema.cosignatures.c.height == schema.blocks.c.height)
            .scalar_subquery()
        )
        query = (
            select(schema.blocks, lines.label("lines"))
            .where(schema.blocks.c.height.between(first, last))
            .order_by(schema.blocks.c.height)
        )
        # A cursor on the server, for what would not fit into memory: three round trips more.
        many = {"yield_per": _AT_ONCE} if last - first >= _AT_ONCE else {}
        found: Any = self._connection.execute(query, execution_options=many)
        for row in found:
            yield rows.to_block(row, ()), sorted(row.lines or ())

    def subtrees(self, spans: Sequence[Span]) -> list[bytes]:
        """Roots over spans of leaves that are there, from the blocks in which they end."""
        ends = {"firsts": [first for first, _ in spans], "lasts": [last for _, last in spans]}
        return [
            span_root(
                (row.first, row.last),
                rows.read_frontier(self._connection, row.height)
                if row.frontier is None and row.size
                else rows.to_frontier(row.size, row.frontier or b""),
                map(bytes, row.leaves),
            )
            for row in self._connection.execute(_SUBTREES, ends)
        ]

    def leaf(self, index: int) -> tuple[int, bytes] | None:
        """Height and bytes of one leaf: an entry, or a block's header."""
        query = select(schema.entries.c.height, schema.entries.c.body)
        found = self._connection.execute(query.where(schema.entries.c.idx == index)).first()
        return None if found is None else (int(found.height), bytes(found.body))

    def erased(self) -> list[str]:
        """The salted digests that erasures name."""
        query = select(schema.entries.c.body).where(schema.entries.c.type == "erasure")
        records = (Entry(bytes(b)).record for b in self._connection.execute(query).scalars())
        return [record.disclosure for record in records if isinstance(record, Erasure)]

    def disclosures(self) -> list[Disclosure]:
        """All that are there."""
        found = self._connection.execute(select(schema.disclosures))
        return [Disclosure(bytes(row.salt), row.value) for row in found]
