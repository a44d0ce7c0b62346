"""The ledger in PostgreSQL: one sequencer, append only, nothing acknowledged before it is durable.

A block and its entries are stored in one transaction before the block is shown to anybody; a
block becomes final when a quorum of cosignatures is stored beside it; the next block waits for
that. Two writers meet at the advisory lock and at the unique height and parent.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from ledger import schema
from ledger.block import Block, Header
from ledger.chain import Chain, check_quorum
from ledger.entry import Entry
from ledger.errors import LedgerMissing, RecordInvalid, SequenceConflict
from ledger.keys import KeyRing, Role
from ledger.merkle import Frontier
from ledger.note import Checkpoint, SignatureLine, verify_cosignature
from ledger.quorum import quorum
from ledger.records import Genesis, LedgerRecord, RoundRecord
from ledger.sequencer import genesis_block, next_block

_SEQUENCER = 0x6D656470  # "medp": the advisory lock that every sequencer takes


@dataclass(frozen=True)
class Head:
    """The newest block, and how many institutions have co-signed it."""

    header: Header
    cosigned: int
    quorum: int

    @property
    def final(self) -> bool:
        """Whether a quorum has co-signed."""
        return self.cosigned >= self.quorum


class LedgerStore:
    """One ledger in one database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        self._chain: Chain | None = None

    def found(self, entry: Entry, keys: KeyRing) -> Block:
        """Stores the genesis block; a repeated call with the same genesis gives the same block.

        Raises:
            SequenceConflict: if another ledger is here already.
            LedgerError: if the genesis does not hold.
        """
        block = genesis_block(entry, keys)
        with self._lock, self._engine.begin() as connection:
            _lock_sequence(connection)
            present = _read_header(connection, 0)
            if present is None:
                Chain.begin(block)
                _insert(connection, block)
            elif present != block.header:
                raise SequenceConflict(
                    "this database holds another ledger", "use another database or --home"
                )
        return block

    def exists(self) -> bool:
        """Whether a ledger has been founded here."""
        with self._engine.connect() as connection:
            return _read_header(connection, 0) is not None

    def chain(self) -> Chain:
        """The state after the newest block. Treat it as read-only.

        Raises:
            LedgerMissing: if no ledger has been founded here.
        """
        with self._lock, self._engine.connect() as connection:
            return self._refresh(connection)

    def propose(self, entries: Sequence[Entry], keys: KeyRing) -> Block:
        """Stores the next block over ``entries`` and returns it, to be co-signed.

        Raises:
            QuorumMissing: if the newest block is not final yet.
            SequenceConflict: if another writer was faster, or an entry is on the ledger already.
            LedgerError: if an entry breaks a rule; nothing is stored then.
        """
        with self._lock:
            try:
                with self._engine.begin() as connection:
                    _lock_sequence(connection)
                    # A copy: readers hold the state before, which is all that is stored yet.
                    chain = replace(self._refresh(connection))
                    certificate = _read_cosignatures(connection, chain.header.height)
                    block = next_block(chain, entries, certificate, int(time.time()), keys)
                    chain.follow(block)
                    _insert(connection, block)
                self._chain = chain
            except BaseException as error:
                self._chain = None  # re-read what the database really holds
                if isinstance(error, IntegrityError):
                    raise SequenceConflict(
                        "these entries, or a block at this height, are on the ledger already",
                        "read the newest block and try again",
                    ) from None
                raise
        return block

    def add_cosignature(self, height: int, line: str) -> None:
        """Stores a member's cosignature on a block, after checking it. Repeats are harmless.

        Raises:
            LedgerError: if the block is unknown or the line does not hold.
        """
        chain = self.chain()
        checkpoint = self.checkpoint(height)
        name = SignatureLine.parse(line).name
        member = chain.members.get(name)
        if member is None:
            raise RecordInvalid(f"no member is named {name[:40]}", "only founders co-sign")
        verify_cosignature(line, name, member.key(Role.COSIGN), checkpoint.text())
        row = insert(schema.cosignatures).values(height=height, institution=name, line=line)
        with self._engine.begin() as connection:
            connection.execute(row.on_conflict_do_nothing())

    def head(self) -> Head:
        """The newest block's header and its cosignatures so far.

        Raises:
            LedgerMissing: if no ledger has been founded here.
        """
        chain = self.chain()
        count = len(self.cosignatures(chain.header.height))
        return Head(chain.header, count, quorum(len(chain.members)))

    def final_height(self) -> int:
        """Height of the newest final block, -1 before the genesis is final."""
        head = self.head()
        return head.header.height if head.final else head.header.height - 1

    def require_final(self, height: int) -> list[str]:
        """The cosignatures of a final block.

        Raises:
            QuorumMissing: if it is not final.
        """
        lines = self.cosignatures(height)
        check_quorum(self.chain().members, self.checkpoint(height), lines)
        return lines

    def checkpoint(self, height: int) -> Checkpoint:
        """The checkpoint of a block.

        Raises:
            LedgerMissing: if there is no block at this height.
        """
        with self._engine.connect() as connection:
            found = connection.execute(
                select(schema.blocks.c.checkpoint).where(schema.blocks.c.height == height)
            ).scalar()
        if found is None:
            raise _no_block(height)
        return Checkpoint.parse(found)

    def cosignatures(self, height: int) -> list[str]:
        """All cosignature lines on a block, sorted."""
        with self._engine.connect() as connection:
            return _read_cosignatures(connection, height)

    def block(self, height: int) -> Block:
        """A whole block.

        Raises:
            LedgerMissing: if there is none at this height.
        """
        with self._engine.connect() as connection:
            return _read_block(connection, height)

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """All blocks from a height on, oldest first, one in memory at a time."""
        height = first
        with self._engine.connect() as connection:
            newest = connection.execute(select(func.max(schema.blocks.c.height))).scalar()
            while newest is not None and height <= newest:
                yield _read_block(connection, height)
                height += 1

    def entries(
        self, type: str | None = None, job: str | None = None, round: int | None = None
    ) -> list[Entry]:
        """Entries by type, job and round, in ledger order."""
        query = select(schema.entries.c.body).order_by(schema.entries.c.idx)
        for column, value in (("type", type), ("job", job), ("round", round)):
            if value is not None:
                query = query.where(schema.entries.c[column] == value)
        with self._engine.connect() as connection:
            rows = connection.execute(query).scalars()
            return [Entry(bytes(body)) for body in rows]

    def newest_first(self, type: str, institution: str) -> Iterator[Entry]:
        """An institution's entries of one type, newest first, read as they are asked for."""
        query = (
            select(schema.entries.c.body)
            .where(schema.entries.c.type == type, schema.entries.c.institution == institution)
            .order_by(schema.entries.c.idx.desc())
        )
        with self._engine.connect() as connection:
            rows = connection.execution_options(yield_per=64).execute(query).scalars()
            for body in rows:
                yield Entry(bytes(body))

    def _refresh(self, connection: Connection) -> Chain:
        newest = connection.execute(select(func.max(schema.blocks.c.height))).scalar()
        if newest is None:
            raise LedgerMissing(
                "there is no ledger here yet", "run `consortium demo` with this --home first"
            )
        if self._chain is None or self._chain.header.height != newest:
            chain = Chain.begin(_read_block(connection, 0))
            if newest > 0:
                # Our own rows: signatures were checked when they were appended.
                frontier = Frontier()
                leaves = select(schema.entries.c.leaf_hash).order_by(schema.entries.c.idx)
                for leaf in connection.execute(leaves).scalars():
                    frontier.append(bytes(leaf))
                block = _read_block(connection, newest)
                chain.header, chain.checkpoint = block.header, block.checkpoint
                chain.frontier = frontier
            self._chain = chain
        return self._chain


def _lock_sequence(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SEQUENCER})


def _read_header(connection: Connection, height: int) -> Header | None:
    data = connection.execute(
        select(schema.blocks.c.header).where(schema.blocks.c.height == height)
    ).scalar()
    return None if data is None else Header.parse(bytes(data))


def _read_cosignatures(connection: Connection, height: int) -> list[str]:
    query = select(schema.cosignatures.c.line).where(schema.cosignatures.c.height == height)
    return sorted(connection.execute(query).scalars())


def _read_block(connection: Connection, height: int) -> Block:
    row = connection.execute(select(schema.blocks).where(schema.blocks.c.height == height)).first()
    if row is None:
        raise _no_block(height)
    bodies = connection.execute(
        select(schema.entries.c.body)
        .where(schema.entries.c.height == height, schema.entries.c.type != "block")
        .order_by(schema.entries.c.idx)
    ).scalars()
    return Block(
        Header.parse(bytes(row.header)),
        tuple(Entry(bytes(body)) for body in bodies),
        Checkpoint.parse(row.checkpoint),
        row.signature,
        tuple(row.parent_cert.split("\n")) if row.parent_cert else (),
    )


def _insert(connection: Connection, block: Block) -> None:
    header = block.header
    rows = [
        {
            "idx": header.first + position,
            "height": header.height,
            "body": entry.data,
            "leaf_hash": entry.leaf,
            **_index(entry),
        }
        for position, entry in enumerate(block.entries)
    ]
    rows.append(
        {
            "idx": header.size,
            "height": header.height,
            "body": header.data(),
            "leaf_hash": header.leaf,
            "type": "block",
            "institution": None,
            "job": None,
            "round": None,
            "submission_key": None,
        }
    )
    connection.execute(
        schema.blocks.insert().values(
            height=header.height,
            epoch=header.epoch,
            hash=bytes.fromhex(header.hash),
            prev=bytes.fromhex(header.prev),
            header=header.data(),
            checkpoint=block.checkpoint.text(),
            signature=block.signature,
            parent_cert="\n".join(block.parent_cert),
            first_idx=header.first,
            count=header.count,
            time=str(header.time),
        )
    )
    connection.execute(schema.entries.insert(), rows)


def _index(entry: Entry) -> dict[str, str | int | None]:
    """The columns that an entry is found by. The submission key makes a repeat impossible."""
    record = entry.record
    key = [record.type]
    if isinstance(record, LedgerRecord):
        job = str(getattr(record, "job", ""))
        round_, attempt = getattr(record, "round", None), getattr(record, "attempt", None)
        key += [job, str(round_ or 0), str(attempt or 0), record.author]
    else:
        assert isinstance(record, Genesis)
        job, round_ = "", None
    return {
        "type": record.type,
        "institution": record.author,
        "job": job or None,
        "round": record.round if isinstance(record, RoundRecord) else round_,
        "submission_key": "/".join(key),
    }


def _no_block(height: int) -> LedgerMissing:
    return LedgerMissing(
        f"there is no block at height {height}", "see `consortium ledger status` for the newest"
    )
