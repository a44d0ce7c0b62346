"""Blocks and entries as rows of PostgreSQL: written by COPY, read as they were received."""

import io
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Row, select

from ledger import schema
from ledger.block import Block, Header
from ledger.entry import Entry
from ledger.merkle import Frontier
from ledger.note import Checkpoint
from ledger.records import (
    Approval,
    Change,
    Erasure,
    Genesis,
    LedgerRecord,
    Record,
    RoundRecord,
)

_AT_ONCE = 10_000
_ENTRY_COLUMNS = (
    "idx", "height", "type", "institution", "job", "round", "body", "leaf_hash", "submission_key",
)  # fmt: skip


def insert_block(connection: Connection, block: Block, frontier: Frontier) -> None:
    """Stores a block with its entries; ``frontier`` is the tree with its header."""
    insert_blocks(connection, [(block, frontier)])


def insert_blocks(connection: Connection, blocks: Sequence[tuple[Block, Frontier]]) -> None:
    """Stores blocks that follow each other, as `insert_block` does."""
    connection.execute(schema.blocks.insert(), [_block_row(*one) for one in blocks])
    _copy(connection, [row for block, _ in blocks for row in _entry_rows(block)])


def _block_row(block: Block, frontier: Frontier) -> dict[str, str | int | bytes]:
    header = block.header
    return {
        "height": header.height,
        "epoch": header.epoch,
        "hash": bytes.fromhex(header.hash),
        "prev": bytes.fromhex(header.prev),
        "header": header.data(),
        "checkpoint": block.checkpoint.text(),
        "signature": block.signature,
        "parent_cert": "\n".join(block.parent_cert),
        "first_idx": header.first,
        "count": header.count,
        "time": str(header.time),
        "frontier": b"".join(frontier.nodes),
    }


def _entry_rows(block: Block) -> list[tuple[str | int | bytes | None, ...]]:
    header = block.header
    rows: list[tuple[str | int | bytes | None, ...]] = [
        (
            header.first + position, header.height, *_found_by(entry.record), entry.data,
            entry.leaf, submission_key(entry.record),
        )
        for position, entry in enumerate(block.entries)
    ]  # fmt: skip
    rows.append(
        (header.size, header.height, "block", None, None, None, header.data(), header.leaf, None)
    )
    return rows


def _copy(connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
    # No text column can hold a tab, a newline or a backslash: the records' forms see to that.
    lines = "".join("\t".join(map(_copied, row)) + "\n" for row in rows)
    cursor = connection.connection.cursor()
    try:
        cursor.copy_expert(
            f"COPY entries ({', '.join(_ENTRY_COLUMNS)}) FROM STDIN", io.StringIO(lines)
        )
    finally:
        cursor.close()


def _copied(value: str | int | bytes | None) -> str:
    if isinstance(value, bytes):
        return f"\\\\x{value.hex()}"
    return "\\N" if value is None else str(value)


def _found_by(record: Record) -> tuple[str, str, str | None, int | None]:
    """The columns that an entry is found by: type, institution, job, round."""
    round = record.round if isinstance(record, RoundRecord) else None
    return record.type, record.author, getattr(record, "job", None), round


def submission_key(record: Record) -> str:
    """The idempotency key: a record with the same key can stand on the ledger only once."""
    from ledger.membership import change_digest

    key = [record.type]
    if isinstance(record, Genesis):
        pass
    elif isinstance(record, Change):
        key.append(change_digest(record))
    elif isinstance(record, Approval):
        key += [record.change, record.author]
    elif isinstance(record, Erasure):
        key += [record.disclosure, record.author]
    elif isinstance(record, LedgerRecord):
        round, attempt = getattr(record, "round", None), getattr(record, "attempt", None)
        key += [str(getattr(record, "job", "")), str(round or 0), str(attempt or 0), record.author]
    return "/".join(key)


def read_header(connection: Connection, height: int) -> Header | None:
    """The header of a block, or None where there is none."""
    data = connection.execute(
        select(schema.blocks.c.header).where(schema.blocks.c.height == height)
    ).scalar()
    return None if data is None else Header.parse(bytes(data))


def read_block(connection: Connection, height: int) -> Block | None:
    """A whole block, or None where there is none."""
    row = connection.execute(select(schema.blocks).where(schema.blocks.c.height == height)).first()
    if row is None:
        return None
    bodies = connection.execute(
        select(schema.entries.c.body)
        .where(schema.entries.c.height == height, schema.entries.c.type != "block")
        .order_by(schema.entries.c.idx)
    ).scalars()
    return to_block(row, (Entry(bytes(body)) for body in bodies))


def to_block(row: Row[Any], entries: Iterable[Entry]) -> Block:
    """The block of a row of ``blocks`` and its entries."""
    return Block(
        Header.parse(bytes(row.header)),
        tuple(entries),
        Checkpoint.parse(row.checkpoint),
        row.signature,
        tuple(row.parent_cert.split("\n")) if row.parent_cert else (),
    )


def read_cosignatures(connection: Connection, height: int) -> list[str]:
    """All cosignature lines on a block, sorted."""
    query = select(schema.cosignatures.c.line).where(schema.cosignatures.c.height == height)
    return sorted(connection.execute(query).scalars())


def to_frontier(size: int, stored: bytes) -> Frontier:
    """A tree from its roots as they are stored."""
    data = bytes(stored)
    return Frontier(size, [data[i : i + 32] for i in range(0, len(data), 32)])


def read_frontier(connection: Connection, height: int) -> Frontier:
    """The tree after a block, its header included."""
    row = connection.execute(
        select(schema.blocks.c.header, schema.blocks.c.frontier).where(
            schema.blocks.c.height == height
        )
    ).one()
    size = Header.parse(bytes(row.header)).size + 1
    if row.frontier is not None:
        return to_frontier(size, row.frontier)
    frontier = Frontier()  # a block stored before the column was there
    leaves = select(schema.entries.c.leaf_hash).order_by(schema.entries.c.idx)
    for first in range(0, size, _AT_ONCE):
        part = schema.entries.c.idx.between(first, min(first + _AT_ONCE, size) - 1)
        for leaf in connection.execute(leaves.where(part)).scalars():
            frontier.append(bytes(leaf))
    return frontier
