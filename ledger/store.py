"""The ledger in PostgreSQL: one sequencer, append only, nothing acknowledged before it is durable.

A block and its entries are stored in one transaction before the block is shown to anybody; a
block becomes final when a quorum of cosignatures is stored beside it; the next block waits for
that. Two writers meet at the advisory lock and at the unique height and parent. Whoever repeats a
call whose answer was lost gets the answer: records carry idempotency keys.
"""

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psycopg2
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from ledger import merkle, rows, schema
from ledger.block import Block, Header
from ledger.chain import Chain, check_quorum
from ledger.changes import Changes, Happened, notify
from ledger.disclosure import Disclosure
from ledger.entry import Entry
from ledger.errors import (
    CosignatureConflict,
    LedgerError,
    LedgerMissing,
    ProofInvalid,
    RecordInvalid,
    SequenceConflict,
)
from ledger.keys import KeyRing, Role
from ledger.listing import Listing
from ledger.membership import Membership
from ledger.note import Checkpoint, SignatureLine, verify_cosignature
from ledger.records import Approval, Change, Erasure, Evaluation
from ledger.sequencer import genesis_block, next_block
from ledger.snapshot import Snapshot

MOST_CONFLICTS = 10
"""Second cosignatures that are kept of one member on one block, and shown of one member in all."""
_SEQUENCER = 0x6D656470  # "medp": the advisory lock that every sequencer takes
_SUBMITTED = (Change, Approval, Erasure, Evaluation)
_HEIGHT = select(func.max(schema.blocks.c.height))
_NEWEST = (
    select(
        schema.blocks.c.height,
        select(func.count())
        .where(schema.cosignatures.c.height == schema.blocks.c.height)
        .scalar_subquery()
        .label("cosigned"),
    )
    .order_by(schema.blocks.c.height.desc())
    .limit(1)
)
# One step in the index for each institution, however many blocks it co-signed.
_MEMBER_HEADS = text(
    """
    SELECT member.institution, newest.line, blocks.checkpoint, blocks.signature
    FROM unnest(CAST(:members AS text[])) AS member (institution)
    CROSS JOIN LATERAL (
        SELECT height, line FROM cosignatures WHERE institution = member.institution
        ORDER BY height DESC LIMIT 1
    ) AS newest
    JOIN blocks ON blocks.height = newest.height
    ORDER BY member.institution COLLATE "C"
    """
)


@dataclass(frozen=True)
class Head:
    """The newest block, and how many of the members in force at it have co-signed it."""

    header: Header
    checkpoint: Checkpoint
    cosigned: int
    membership: Membership

    @property
    def quorum(self) -> int:
        """How many have to."""
        return self.membership.quorum

    @property
    def final(self) -> bool:
        """Whether a quorum has co-signed."""
        return self.cosigned >= self.quorum


@dataclass(frozen=True)
class MemberHead:
    """The newest checkpoint that one institution co-signed, with its line."""

    institution: str
    checkpoint: Checkpoint
    signature: str
    line: str


class LedgerStore:
    """One ledger in one database. Safe to share between threads."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        # What one statement reads needs no BEGIN and no ROLLBACK: two round trips less.
        self._reading = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._lock = threading.Lock()
        self._chain: Chain | None = None

    # writing

    def found(self, entry: Entry, keys: KeyRing) -> Block:
        """Stores the genesis block; a repeated call with the same genesis gives the same block.

        Raises:
            SequenceConflict: if another ledger is here already.
            LedgerError: if the genesis does not hold.
        """
        block = genesis_block(entry, keys)
        with self._lock, self._engine.begin() as connection:
            _lock_sequence(connection)
            present = rows.read_header(connection, 0)
            if present is None:
                chain = Chain.begin(block)
                rows.insert_block(connection, block, chain.frontier)
            elif present != block.header:
                raise SequenceConflict(
                    "this database holds another ledger", "use another database or --home"
                )
        return block

    def propose(self, entries: Sequence[Entry], keys: KeyRing) -> Block:
        """Stores the next block over ``entries`` and returns it, to be co-signed.

        Called again after an answer was lost, it returns the block that it had stored.

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
                    certificate = rows.read_cosignatures(connection, chain.header.height)
                    block = next_block(chain, entries, certificate, int(time.time()), keys)
                    chain.follow(block)
                    rows.insert_block(connection, block, chain.frontier)
                    notify(connection, Happened.BLOCK)
                self._chain = chain
            except BaseException as error:
                self._chain = None  # re-read what the database really holds
                if isinstance(error, IntegrityError | psycopg2.IntegrityError | LedgerError):
                    stored = self._stored_before(entries)
                    if stored is not None:
                        return stored
                if isinstance(error, IntegrityError | psycopg2.IntegrityError):
                    raise SequenceConflict(
                        "these entries, or a block at this height, are on the ledger already",
                        "read the newest block and try again",
                    ) from None
                raise
        return block

    def _stored_before(self, entries: Sequence[Entry]) -> Block | None:
        """The block that holds exactly these entries already."""
        if not entries:
            return None
        key = rows.submission_key(entries[0].record)
        query = select(schema.entries.c.height).where(schema.entries.c.submission_key == key)
        with self._engine.connect() as connection:
            height = connection.execute(query).scalar()
            block = None if height is None else rows.read_block(connection, height)
        same = block is not None and [e.data for e in block.entries] == [e.data for e in entries]
        return block if same else None

    def submit(self, entry: Entry) -> str:
        """Takes in a change, an approval, an erasure or an evaluation for the next block.

        Returns its key; a repeat is harmless, and gives the same.

        Raises:
            RecordInvalid: for another type of record, or another record under the same key.
            LedgerError: if it does not hold.
        """
        chain, record = self.chain(), entry.record
        if not isinstance(record, _SUBMITTED):
            raise RecordInvalid(f"a {record.type} is not submitted", "answer the round that asks")
        key = rows.submission_key(record)
        query = select(schema.entries.c.body).where(schema.entries.c.submission_key == key)
        kept = select(schema.submissions.c.body).where(schema.submissions.c.key == key)
        with self._engine.begin() as connection:
            found = connection.execute(query.union(kept)).scalars().first()
            if found is None:
                chain.upcoming.check_entry(entry)
                chain.upcoming.after([record])
                row = insert(schema.submissions).values(
                    key=key, institution=record.author, body=entry.data
                )
                connection.execute(row.on_conflict_do_nothing())
                found = connection.execute(kept).scalar_one()
        if bytes(found) != entry.data:
            raise RecordInvalid(
                "another record was handed in for this already", "the first one counts"
            )
        return key

    def submissions(self) -> list[Entry]:
        """What was handed in and stands in no block, oldest first."""
        on_ledger = select(schema.entries.c.idx).where(
            schema.entries.c.submission_key == schema.submissions.c.key
        )
        query = (
            select(schema.submissions.c.body)
            .where(~on_ledger.exists())
            .order_by(schema.submissions.c.received, schema.submissions.c.key)
        )
        with self._engine.connect() as connection:
            return [Entry(bytes(body)) for body in connection.execute(query).scalars()]

    def restore(self, block: Block, cosignatures: Sequence[str], *, pending: bool = False) -> None:
        """Stores a block that was made before, with a quorum's cosignatures on it.

        A ``pending`` one needs none: it was proposed, and members may have co-signed it already.

        Raises:
            SequenceConflict: if another block is at its height.
            LedgerError: if it does not follow, or is not final and not pending.
        """
        height = block.header.height
        with self._lock, self._engine.begin() as connection:
            _lock_sequence(connection)
            present = rows.read_header(connection, height)
            if present is not None and present != block.header:
                raise SequenceConflict(
                    f"another block stands at height {height} here", "restore an empty database"
                )
            if present is None:
                chain = replace(self._refresh(connection)) if height else Chain.begin(block)
                if height:
                    chain.follow(block)
                if not pending:
                    chain.certify(cosignatures)
                rows.insert_block(connection, block, chain.frontier)
                self._chain = None
            for line in cosignatures:
                row = insert(schema.cosignatures).values(
                    height=height, institution=SignatureLine.parse(line).name, line=line
                )
                connection.execute(row.on_conflict_do_nothing())

    def add_cosignature(self, height: int, line: str) -> None:
        """Stores a member's cosignature on a block, after checking it. Repeats are harmless.

        Raises:
            CosignatureConflict: if that member co-signed this block already, at another time.
            LedgerError: if the block is unknown or the line does not hold.
        """
        chain, name = self.chain(), SignatureLine.parse(line).name
        values = {"height": height, "institution": name, "line": line}
        kept = insert(schema.cosignatures).values(values).on_conflict_do_nothing()
        block = select(schema.blocks.c.header, schema.blocks.c.checkpoint)
        with self._engine.begin() as connection:
            found = connection.execute(block.where(schema.blocks.c.height == height)).first()
            if found is None:
                raise _no_block(height)
            member = chain.in_force_at(Header.parse(bytes(found.header))).members.get(name)
            if member is None:
                raise RecordInvalid(
                    f"{name[:40]} was no member at height {height}", "only members in force co-sign"
                )
            verify_cosignature(line, name, member.key(Role.COSIGN), found.checkpoint)
            first = connection.execute(kept).rowcount == 1
            conflict = not first and line not in rows.read_cosignatures(connection, height)
            if conflict and len(_conflicts(connection, height, name)) < MOST_CONFLICTS:
                connection.execute(insert(schema.conflicts).values(values).on_conflict_do_nothing())
            if first:
                notify(connection, Happened.COSIGNED)
                if self._is_final(connection, chain, found.header, height):
                    notify(connection, Happened.BLOCK)
        if conflict:
            raise CosignatureConflict(
                f"{name} co-signed block {height} twice, at two times",
                "two agents sign with one key, or one was restored from a backup: stop both and "
                "rotate the institution's keys",
            )

    @staticmethod
    def _is_final(connection: Connection, chain: Chain, header: bytes, height: int) -> bool:
        membership = chain.in_force_at(Header.parse(bytes(header)))
        return len(rows.read_cosignatures(connection, height)) >= membership.quorum

    def tell(self, what: Happened) -> None:
        """Tells whoever listens (`ledger.changes`) that something happened."""
        with self._engine.begin() as connection:
            notify(connection, what)

    def changes(self) -> Changes:
        """A listener, to be entered."""
        return Changes(self._engine)

    @property
    def listing(self) -> Listing:
        """The ledger in pages, for people."""
        return Listing(self._reading)

    def conflicts(self, height: int | None = None) -> list[tuple[int, str]]:
        """Second cosignatures by one member on one block: (height, line), oldest first."""
        query = select(schema.conflicts.c.height, schema.conflicts.c.line)
        if height is not None:
            query = query.where(schema.conflicts.c.height == height)
        with self._reading.connect() as connection:
            found = connection.execute(query.order_by(schema.conflicts.c.height)).all()
        return [(int(h), str(line)) for h, line in found]

    def newest_conflicts(self) -> list[tuple[int, str]]:
        """Of each institution the newest of them: nobody's many hide another's."""
        table = schema.conflicts.c
        newest = func.row_number().over(
            partition_by=table.institution, order_by=(table.height.desc(), table.line)
        )
        found = select(table.height, table.line, newest.label("place")).subquery()
        query = select(found.c.height, found.c.line).where(found.c.place <= MOST_CONFLICTS)
        with self._reading.connect() as connection:
            shown = connection.execute(query.order_by(found.c.height, found.c.line)).all()
        return [(int(height), str(line)) for height, line in shown]

    # reading

    def exists(self) -> bool:
        """Whether a ledger has been founded here."""
        with self._reading.connect() as connection:
            return rows.read_header(connection, 0) is not None

    def chain(self) -> Chain:
        """The state after the newest block. Treat it as read-only.

        Raises:
            LedgerMissing: if no ledger has been founded here.
        """
        with self._lock, self._reading.connect() as connection:
            return self._refresh(connection)

    def head(self) -> Head:
        """The newest block's header and its cosignatures so far.

        Raises:
            LedgerMissing: if no ledger has been founded here.
        """
        with self._lock, self._reading.connect() as connection:
            height, cosigned = connection.execute(_NEWEST).first() or (None, 0)
            chain = self._at(connection, height)
            return Head(chain.header, chain.checkpoint, cosigned, chain.membership)

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
        header = self.header(height)
        check_quorum(self.chain().in_force_at(header), self.checkpoint(height), lines)
        return lines

    def header(self, height: int) -> Header:
        """The header of a block.

        Raises:
            LedgerMissing: if there is no block at this height.
        """
        with self._reading.connect() as connection:
            header = rows.read_header(connection, height)
        if header is None:
            raise _no_block(height)
        return header

    def checkpoint(self, height: int) -> Checkpoint:
        """The checkpoint of a block.

        Raises:
            LedgerMissing: if there is no block at this height.
        """
        return self.signed_checkpoint(height)[0]

    def signed_checkpoint(self, height: int) -> tuple[Checkpoint, str]:
        """The checkpoint of a block, and the coordinator's signature line on it.

        Raises:
            LedgerMissing: if there is no block at this height.
        """
        query = select(schema.blocks.c.checkpoint, schema.blocks.c.signature)
        with self._reading.connect() as connection:
            found = connection.execute(query.where(schema.blocks.c.height == height)).first()
        if found is None:
            raise _no_block(height)
        return Checkpoint.parse(found.checkpoint), found.signature

    def cosignatures(self, height: int) -> list[str]:
        """All cosignature lines on a block, sorted."""
        with self._reading.connect() as connection:
            return rows.read_cosignatures(connection, height)

    def member_heads(self) -> list[MemberHead]:
        """The newest checkpoint that each institution co-signed, by name."""
        members = {name for m in self.chain().memberships.values() for name in m.members}
        with self._reading.connect() as connection:
            found = connection.execute(_MEMBER_HEADS, {"members": sorted(members)})
            return [
                MemberHead(r.institution, Checkpoint.parse(r.checkpoint), r.signature, r.line)
                for r in found
            ]

    def block(self, height: int) -> Block:
        """A whole block.

        Raises:
            LedgerMissing: if there is none at this height.
        """
        with self._reading.connect() as connection:
            block = rows.read_block(connection, height)
        if block is None:
            raise _no_block(height)
        return block

    def membership_after(self, block_hash: str) -> Membership:
        """The membership in force at the block that follows the one with this hash.

        Raises:
            LedgerMissing: if no block follows it.
        """
        query = select(schema.blocks.c.header).filter_by(prev=bytes.fromhex(block_hash))
        with self._reading.connect() as connection:
            data = connection.execute(query).scalar()
        if data is None:
            raise LedgerMissing("no block follows that one", "see `consortium ledger status`")
        return self.chain().in_force_at(Header.parse(bytes(data)))

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """All blocks from a height on, oldest first, one in memory at a time."""
        height = first
        with self._reading.connect() as connection:
            while block := rows.read_block(connection, height):
                yield block
                height += 1

    def entries(
        self, type: str | None = None, job: str | None = None, round: int | None = None
    ) -> list[Entry]:
        """Entries by type, job and round, in ledger order."""
        query = select(schema.entries.c.body).order_by(schema.entries.c.idx)
        for column, value in (("type", type), ("job", job), ("round", round)):
            if value is not None:
                query = query.where(schema.entries.c[column] == value)
        with self._reading.connect() as connection:
            return [Entry(bytes(body)) for body in connection.execute(query).scalars()]

    def newest_first(self, type: str, institution: str) -> Iterator[Entry]:
        """An institution's entries of one type, newest first, read as they are asked for."""
        query = (
            select(schema.entries.c.body)
            .where(schema.entries.c.type == type, schema.entries.c.institution == institution)
            .order_by(schema.entries.c.idx.desc())
        )
        with self._engine.connect() as connection:
            found = connection.execute(query, execution_options={"yield_per": 64}).scalars()
            for body in found:
                yield Entry(bytes(body))

    def consistency_proof(self, old_size: int, size: int) -> list[bytes]:
        """Proof that the tree of ``old_size`` leaves is the beginning of that of ``size``.

        Raises:
            ProofInvalid: if there are no such trees.
        """
        path = merkle.consistency_path(old_size, size)
        if size > (stored := self.chain().checkpoint.size):
            raise ProofInvalid(f"the tree has {stored} leaves so far", "ask for no larger one")
        with self.snapshot() as snapshot:
            return snapshot.subtrees(path)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One unmoving view of everything stored, for as long as the context is open."""
        with self._engine.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            yield Snapshot(connection)

    # disclosures: the one erasable table

    def disclose(self, disclosure: Disclosure) -> None:
        """Keeps what opens a salted digest, until it is erased."""
        row = insert(schema.disclosures).values(
            commitment=bytes.fromhex(disclosure.digest), salt=disclosure.salt,
            value=disclosure.value,
        )  # fmt: skip
        with self._engine.begin() as connection:
            connection.execute(row.on_conflict_do_nothing())

    def disclosures(self) -> list[Disclosure]:
        """All that have not been erased."""
        query = select(schema.disclosures).order_by(schema.disclosures.c.commitment)
        with self._engine.connect() as connection:
            return [Disclosure(bytes(r.salt), r.value) for r in connection.execute(query)]

    def erase(self, digest: str) -> bool:
        """Deletes what opens a salted digest, for good; says whether there was anything."""
        gone = schema.disclosures.delete().where(
            schema.disclosures.c.commitment == bytes.fromhex(digest)
        )
        with self._engine.begin() as connection:
            return connection.execute(gone).rowcount > 0

    def _refresh(self, connection: Connection) -> Chain:
        return self._at(connection, connection.execute(_HEIGHT).scalar())

    def _at(self, connection: Connection, newest: int | None) -> Chain:
        """The state after the block at this height, the newest one."""
        if newest is None:
            raise LedgerMissing(
                "there is no ledger here yet", "found one: `consortium demo` does, in a --home"
            )
        if self._chain is None or self._chain.header.height != newest:
            genesis, header = rows.read_block(connection, 0), rows.read_header(connection, newest)
            assert genesis is not None
            assert header is not None
            changes = (
                select(schema.entries.c.body)
                .where(schema.entries.c.type.in_(("change", "approval")))
                .order_by(schema.entries.c.idx)
            )
            entries = [Entry(bytes(body)) for body in connection.execute(changes).scalars()]
            frontier = rows.read_frontier(connection, newest)
            self._chain = Chain.resume(genesis.entries[0], entries, header, frontier)
        return self._chain


def _lock_sequence(connection: Connection) -> None:
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SEQUENCER})


def _conflicts(connection: Connection, height: int, name: str) -> list[str]:
    table = schema.conflicts.c
    query = select(table.line).where(table.height == height, table.institution == name)
    return [str(line) for line in connection.execute(query).scalars()]


def _no_block(height: int) -> LedgerMissing:
    return LedgerMissing(
        f"there is no block at height {height}", "see `consortium ledger status` for the newest"
    )
