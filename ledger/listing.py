"""A ledger in pages, as people look through it: a few rows at a time, wherever they stand.

A page begins after (or, newest first, before) an index or a height, so that one deep in the ledger
costs no more than the first.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Engine, Select, and_, func, select

from ledger import schema
from ledger.entry import Entry
from ledger.note import SignatureLine

_entries, _blocks, _lines = schema.entries.c, schema.blocks.c, schema.cosignatures.c


@dataclass(frozen=True)
class Listed:
    """One entry with its place. ``time`` is its block's, in seconds since 1970."""

    index: int
    height: int
    time: int
    entry: Entry


@dataclass(frozen=True)
class ListedBlock:
    """What a list says of a block; it is about its last entry."""

    height: int
    hash: str
    time: int
    first: int
    entries: int
    type: str | None
    job: str | None
    round: int | None
    cosigners: tuple[str, ...]


class Listing:
    """Reads one database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def entries(
        self,
        types: Sequence[str] = (),
        job: str | None = None,
        institution: str | None = None,
        *,
        past: int | None = None,
        limit: int | None = 50,
        newest_first: bool = False,
    ) -> list[Listed]:
        """Entries without blocks' headers, from beyond the index ``past`` on.

        ``types``: any of these; none: of every type. ``limit`` None: all there are.
        """
        asked: list[ColumnElement[bool]] = [_entries.type != "block"]
        if types:
            asked = [_entries.type.in_(types)]
        if job is not None:
            asked.append(_entries.job == job)
        if institution is not None:
            asked.append(_entries.institution == institution)
        if past is not None:
            asked.append(_entries.idx < past if newest_first else _entries.idx > past)
        order = _entries.idx.desc() if newest_first else _entries.idx
        # A page's bounds first, its bytes then: a row that is passed over is not read.
        found = select(_entries.idx).where(and_(*asked)).order_by(order).limit(limit).subquery()
        query = (
            select(_entries.idx, _entries.height, _blocks.time, _entries.body)
            .join(found, found.c.idx == _entries.idx)
            .join(schema.blocks, _blocks.height == _entries.height)
            .order_by(order)
        )
        with self._engine.connect() as connection:
            return [
                Listed(row.idx, row.height, int(row.time), Entry(bytes(row.body)))
                for row in connection.execute(query)
            ]

    def newest_of_job(self, type: str, job: str, institution: str) -> Listed | None:
        """An institution's last entry of one type in a job."""
        query = (
            select(_entries.idx, _entries.height, _blocks.time, _entries.body)
            .join(schema.blocks, _blocks.height == _entries.height)
            .where(_entries.job == job, _entries.type == type, _entries.institution == institution)
            .order_by(_entries.round.desc(), _entries.idx.desc())
            .limit(1)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).first()
        return None if row is None else Listed(row[0], row[1], int(row[2]), Entry(bytes(row[3])))

    def blocks(
        self, *, past: int | None = None, limit: int = 50, newest_first: bool = False
    ) -> list[ListedBlock]:
        """Blocks from beyond the height ``past`` on."""
        query = _block_query()
        if past is not None:
            query = query.where(_blocks.height < past if newest_first else _blocks.height > past)
        query = query.order_by(_blocks.height.desc() if newest_first else _blocks.height)
        with self._engine.connect() as connection:
            return [
                ListedBlock(
                    row.height, bytes(row.hash).hex(), int(row.time), row.first_idx, row.number,
                    row.type, row.job, row.round,
                    tuple(sorted(SignatureLine.parse(line).name for line in row.lines or ())),
                )
                for row in connection.execute(query.limit(limit))
            ]  # fmt: skip

    def times(self, heights: Sequence[int]) -> dict[int, int]:
        """The times of blocks, by height."""
        query = select(_blocks.height, _blocks.time).where(_blocks.height.in_(set(heights)))
        with self._engine.connect() as connection:
            return {row.height: int(row.time) for row in connection.execute(query)}

    def by_hash(self, prefix: str, limit: int) -> list[tuple[int, int, str, str, str | None]]:
        """Leaves whose hash begins like this: (index, height, hash, type, job), oldest first.

        A block's hash is the leaf hash of its header only in the tree; its name is another one,
        so blocks are looked up by that too.
        """
        low, high = _range(prefix)
        leaves = select(
            _entries.idx, _entries.height, _entries.leaf_hash, _entries.type, _entries.job
        ).where(_entries.leaf_hash >= low, _entries.leaf_hash <= high)
        blocks = (
            select(_entries.idx, _entries.height, _blocks.hash, _entries.type, _entries.job)
            .join(schema.blocks, _blocks.height == _entries.height)
            .where(_entries.type == "block", _blocks.hash >= low, _blocks.hash <= high)
        )
        with self._engine.connect() as connection:
            found = [
                (row[0], row[1], bytes(row[2]).hex(), row[3], row[4])
                for query in (leaves, blocks)
                for row in connection.execute(query.order_by(_entries.idx).limit(limit))
            ]
        return sorted(set(found))[:limit]


def _block_query() -> Select[Any]:
    lines = (
        select(func.array_agg(_lines.line))
        .where(_lines.height == _blocks.height)
        .scalar_subquery()
        .label("lines")
    )
    return select(
        _blocks.height, _blocks.hash, _blocks.time, _blocks.first_idx,
        _blocks["count"].label("number"),
        _entries.type, _entries.job, _entries.round, lines,
    ).join_from(
        schema.blocks,
        schema.entries,
        and_(_entries.idx == _blocks.first_idx + _blocks["count"] - 1, _entries.type != "block"),
        isouter=True,
    )  # fmt: skip


def _range(prefix: str) -> tuple[bytes, bytes]:
    """The lowest and the highest hash that begin with hexadecimal digits."""
    return bytes.fromhex(prefix.ljust(64, "0")), bytes.fromhex(prefix.ljust(64, "f"))
