"""What PostgreSQL's superuser does to the rows is found, though the database cannot prevent it.

Found by `verify_export` with the pinned genesis and a head known from elsewhere, or by whoever
followed the ledger before: here a `Chain`, as every member keeps one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_examples import CREATED, Consortium, cosigned, decided, enrol, keys_of
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from ledger.block import Block
from ledger.chain import Chain
from ledger.disclosure import Disclosure
from ledger.entry import Entry, sign_record
from ledger.errors import (
    GenesisMismatch,
    HeadDiffers,
    HeadNotReached,
    LedgerError,
    LedgerMissing,
    QuorumMissing,
    SignatureInvalid,
)
from ledger.export import export_ledger
from ledger.keys import Role
from ledger.note import SignedHead, cosign
from ledger.sequencer import next_block
from ledger.store import LedgerStore
from ledger.verify import Verified, verify_export

FOUR = Consortium(4)
GUARDED = ("entries", "blocks", "cosignatures", "submissions", "conflicts")


def finalise(store: LedgerStore) -> None:
    for line in cosigned(store.chain()):
        store.add_cosignature(store.chain().header.height, line)


def grow(store: LedgerStore, *entries: Entry) -> Block:
    block = store.propose(list(entries), FOUR.coordinator)
    finalise(store)
    return block


@pytest.fixture
def store(engine: Engine) -> LedgerStore:
    """Three final blocks of two entries each, after the genesis."""
    store = LedgerStore(engine)
    store.found(FOUR.founding_entry, FOUR.coordinator)
    finalise(store)
    for round in range(1, 4):
        grow(store, FOUR.entry("hospital-1", round=round), FOUR.entry("hospital-2", round=round))
    return store


@pytest.fixture
def head(store: LedgerStore) -> SignedHead:
    """As a member printed it before anything was changed."""
    checkpoint, line = store.signed_checkpoint(3)
    return SignedHead(checkpoint, (line, *store.cosignatures(3)))


@pytest.fixture
def member(store: LedgerStore) -> Chain:
    """What a member knows that followed the ledger up to block 3."""
    return follow(store)


Tamper = Callable[[], AbstractContextManager[Connection]]


@pytest.fixture
def tamper(superuser_engine: Engine) -> Tamper:
    @contextmanager
    def tampering() -> Iterator[Connection]:
        with superuser_engine.begin() as connection:
            for table in GUARDED:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
            yield connection
            for table in GUARDED:
                for trigger in ("refuse_change", "refuse_truncate"):
                    connection.execute(text(f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"))

    return tampering


def follow(store: LedgerStore, chain: Chain | None = None) -> Chain:
    """Reads on from what is known, checking everything, as a member does."""
    first = 0 if chain is None else chain.header.height + 1
    known = None if chain is None else replace(chain)
    for block in store.blocks(first):
        if known is None:
            known = Chain.begin(block, FOUR.ledger)
        else:
            known.follow(block)
    assert known is not None
    return known


def audit(engine: Engine, out: Path, head: SignedHead | None = None) -> Verified:
    """An export by a coordinator that has just started, verified with the pin."""
    with LedgerStore(engine).snapshot() as snapshot:
        key = FOUR.coordinator[Role.RECORD]
        exported = export_ledger(snapshot, "coordinator", key, out)
    return verify_export(exported.folder, FOUR.ledger, head)


def rewrite_entry(connection: Connection, index: int, entry: Entry) -> None:
    connection.execute(
        text("UPDATE entries SET body = :body, leaf_hash = :leaf WHERE idx = :index"),
        {"body": entry.data, "leaf": entry.leaf, "index": index},
    )


def rewrite_block(connection: Connection, block: Block, frontier: bytes) -> None:
    """A block's row, and its header among the leaves, all coherent."""
    header = block.header
    connection.execute(
        text(
            "UPDATE blocks SET header = :header, hash = :hash, checkpoint = :checkpoint, "
            "signature = :signature, frontier = :frontier WHERE height = :height"
        ),
        {
            "header": header.data(),
            "hash": bytes.fromhex(header.hash),
            "checkpoint": block.checkpoint.text(),
            "signature": block.signature,
            "frontier": frontier,
            "height": header.height,
        },
    )
    connection.execute(
        text("UPDATE entries SET body = :body, leaf_hash = :leaf WHERE idx = :index"),
        {"body": header.data(), "leaf": header.leaf, "index": header.size},
    )


def delete_from(connection: Connection, height: int) -> None:
    for table in ("cosignatures", "conflicts", "entries", "blocks"):
        connection.execute(text(f"DELETE FROM {table} WHERE height >= :height"), {"height": height})


def forged(job: str = "job-9") -> Entry:
    """By somebody who has no key of the hospital."""
    return sign_record(FOUR.refusal("hospital-1", job), [keys_of("stranger")[Role.RECORD]])


# what is found


def test_an_untouched_ledger_is_found_whole(
    engine: Engine, store: LedgerStore, head: SignedHead, member: Chain, tmp_path: Path
) -> None:
    assert audit(engine, tmp_path / "out", head).reaches_head == 3
    assert follow(store, member).header == store.header(3)


def test_a_rewritten_row_with_its_hash(
    engine: Engine, store: LedgerStore, head: SignedHead, tamper: Tamper, tmp_path: Path
) -> None:
    """Even one that the hospital itself signed: it stands elsewhere in the tree."""
    index = store.header(2).first
    own = FOUR.entry("hospital-1", "job-9")
    for number, (entry, place) in enumerate(
        [(own, r"height 2\): the header's root"), (forged(), rf"height 2\): entry {index}: ")]
    ):
        with tamper() as connection:
            rewrite_entry(connection, index, entry)
        with pytest.raises(LedgerError, match=place):
            audit(engine, tmp_path / str(number), head)
        with pytest.raises(LedgerError, match=r"root|entry"):
            follow(LedgerStore(engine))


def test_a_row_rewritten_behind_a_running_coordinator(
    store: LedgerStore, member: Chain, tamper: Tamper
) -> None:
    """What the members have followed is not read again; the next block still fits their tree."""
    with tamper() as connection:
        rewrite_entry(connection, store.header(1).first, forged())
    grow(store, FOUR.entry(round=4))
    assert follow(store, member).header.height == 4
    with pytest.raises(SignatureInvalid, match="entry 2"):
        follow(store)


@pytest.mark.parametrize("column", ["checkpoint", "signature", "parent_cert", "header"])
def test_a_rewritten_column_of_a_block(
    engine: Engine,
    store: LedgerStore,
    head: SignedHead,
    tamper: Tamper,
    tmp_path: Path,
    column: str,
) -> None:
    header = store.header(2)
    values: dict[str, object] = {
        "checkpoint": replace(store.checkpoint(2), root=bytes(32)).text(),
        "signature": store.signed_checkpoint(1)[1],
        "parent_cert": "\n".join(store.cosignatures(2)),
        "header": replace(header, time=header.time + 1).data(),
    }
    with tamper() as connection:
        connection.execute(
            text(f"UPDATE blocks SET {column} = :value WHERE height = 2"),
            {"value": values[column]},
        )
    with pytest.raises(LedgerError, match="height 2"):
        audit(engine, tmp_path / "out", head)
    with pytest.raises(LedgerError):
        follow(LedgerStore(engine))


def test_a_header_rewritten_in_all_that_follows_from_it(
    engine: Engine, store: LedgerStore, head: SignedHead, tamper: Tamper, tmp_path: Path
) -> None:
    """All hashes fit; the coordinator's signature, without its key, does not."""
    chain, block = follow_to(store, 1), store.block(2)
    made = next_block(chain, block.entries, block.parent_cert, block.header.time + 5,
                      keys_of("an administrator"))  # fmt: skip
    with tamper() as connection:
        rewrite_block(connection, made, tree_with(chain, made))
    with pytest.raises(LedgerError, match=r"height 2\): the note is not signed by"):
        audit(engine, tmp_path / "out", head)
    with pytest.raises(LedgerError, match="not signed"):
        follow(LedgerStore(engine))


def follow_to(store: LedgerStore, height: int) -> Chain:
    chain = Chain.begin(store.block(0))
    for at in range(1, height + 1):
        chain.follow(store.block(at))
    return chain


def tree_with(chain: Chain, block: Block) -> bytes:
    frontier = chain.frontier.copy()
    for entry in block.entries:
        frontier.append(entry.leaf)
    frontier.append(block.header.leaf)
    return b"".join(frontier.nodes)


def test_signed_anew_as_the_coordinator_with_its_very_keys(
    engine: Engine,
    store: LedgerStore,
    head: SignedHead,
    member: Chain,
    tamper: Tamper,
    tmp_path: Path,
) -> None:
    """The last block with an entry less: its cosignatures hold no more, and cannot be had."""
    chain, block = follow_to(store, 2), store.block(3)
    made = next_block(chain, block.entries[:1], block.parent_cert, block.header.time,
                      FOUR.coordinator)  # fmt: skip
    with tamper() as connection:
        connection.execute(text("DELETE FROM entries WHERE height = 3 AND idx > :first"),
                           {"first": made.header.first})  # fmt: skip
        connection.execute(
            text("INSERT INTO entries (idx, height, type, body, leaf_hash) "
                 "VALUES (:index, 3, 'block', :body, :leaf)"),
            {"index": made.header.size, "body": made.header.data(), "leaf": made.header.leaf},
        )  # fmt: skip
        connection.execute(text("UPDATE blocks SET count = 1 WHERE height = 3"))
        rewrite_block(connection, made, tree_with(chain, made))
    assert follow(LedgerStore(engine)).header == made.header  # the coordinator's word is good
    with pytest.raises(SignatureInvalid):
        audit(engine, tmp_path / "stale")
    with pytest.raises(SignatureInvalid):
        LedgerStore(engine).require_final(3)
    with tamper() as connection:
        connection.execute(text("DELETE FROM cosignatures WHERE height = 3"))
    assert audit(engine, tmp_path / "pending").height == 2
    with pytest.raises(HeadNotReached):
        audit(engine, tmp_path / "head", head)
    # A lying member is a minority, and whoever holds the old block has two at one height.
    lying = LedgerStore(engine)
    key = FOUR.members["hospital-4"][Role.COSIGN]
    lying.add_cosignature(3, cosign("hospital-4", key, made.checkpoint.text(), CREATED))
    with pytest.raises(QuorumMissing):
        lying.require_final(3)
    with pytest.raises(QuorumMissing):
        lying.propose([FOUR.entry(round=4)], FOUR.coordinator)
    assert lying.header(3) != member.header


def test_signed_anew_in_the_middle(
    engine: Engine, store: LedgerStore, head: SignedHead, tamper: Tamper, tmp_path: Path
) -> None:
    """With the coordinator's keys; deleting the cosignatures that do not fit does not help."""
    chain, block = follow_to(store, 1), store.block(2)
    made = next_block(chain, block.entries, block.parent_cert, block.header.time + 1,
                      FOUR.coordinator)  # fmt: skip
    with tamper() as connection:
        rewrite_block(connection, made, tree_with(chain, made))
    with pytest.raises(SignatureInvalid, match="height 2"):
        audit(engine, tmp_path / "stale", head)
    with tamper() as connection:
        connection.execute(text("DELETE FROM cosignatures WHERE height = 2"))
    with pytest.raises(QuorumMissing, match=r"height 2\): block 2 is co-signed by 0 of 4"):
        audit(engine, tmp_path / "none", head)
    with pytest.raises(SignatureInvalid):  # block 3 certifies another block 2
        follow(LedgerStore(engine))


def test_the_newest_block_deleted(
    engine: Engine,
    store: LedgerStore,
    head: SignedHead,
    member: Chain,
    tamper: Tamper,
    tmp_path: Path,
) -> None:
    with tamper() as connection:
        delete_from(connection, 3)
    assert audit(engine, tmp_path / "older").height == 2  # a valid older ledger
    with pytest.raises(HeadNotReached, match="height 2; the head given is of height 3"):
        audit(engine, tmp_path / "out", head)
    lost = LedgerStore(engine)
    assert lost.chain().header.height < member.header.height
    with pytest.raises(LedgerMissing):
        lost.header(member.header.height)
    # Grown again, with members who sign a second block 3, as honest ones never do:
    other = grow(lost, FOUR.entry(round=8))
    assert other.header.height == member.header.height
    assert other.header != member.header  # two blocks at one height: evidence
    with pytest.raises(SignatureInvalid):  # block 4 certifies another block 3
        replace(member).follow(grow(lost, FOUR.entry(round=9)))
    with pytest.raises(HeadDiffers, match="height 3"):
        audit(engine, tmp_path / "fork", head)


def test_an_old_backup_replayed(
    engine: Engine, store: LedgerStore, tamper: Tamper, tmp_path: Path
) -> None:
    """Rows as they were three blocks ago, byte for byte."""
    tables = ("blocks", "entries", "cosignatures")
    with tamper() as connection:
        for table in tables:
            connection.execute(text(f"CREATE TABLE old_{table} AS TABLE {table}"))
    for round in range(4, 7):
        grow(store, FOUR.entry(round=round))
    member = follow(store)
    checkpoint, line = store.signed_checkpoint(6)
    newest = SignedHead(checkpoint, (line, *store.cosignatures(6)))
    with tamper() as connection:
        delete_from(connection, 0)
        for table in tables:
            connection.execute(text(f"INSERT INTO {table} SELECT * FROM old_{table}"))
    assert audit(engine, tmp_path / "old").height == 3
    with pytest.raises(HeadNotReached):
        audit(engine, tmp_path / "out", newest)
    restored = LedgerStore(engine)
    with pytest.raises(LedgerMissing):
        restored.header(member.header.height)
    for round in range(11, 15):  # grown again, past the old head
        grow(restored, FOUR.entry(round=round))
    with pytest.raises(HeadDiffers, match="height 6"):
        audit(engine, tmp_path / "fork", newest)
    with pytest.raises(LedgerError):
        follow(restored, member)


def test_cosignatures_moved_and_taken(
    engine: Engine, store: LedgerStore, tamper: Tamper, tmp_path: Path
) -> None:
    statements = {
        "moved": "UPDATE cosignatures AS a SET line = b.line FROM cosignatures AS b "
        "WHERE a.height = 2 AND b.height = 1 AND a.institution = b.institution",
        "taken": "DELETE FROM cosignatures WHERE height = 2 AND institution > 'hospital-2'",
    }
    for what, statement in statements.items():
        with tamper() as connection:
            connection.execute(text(statement))
        with pytest.raises(LedgerError, match="height 2"):
            audit(engine, tmp_path / what)


def test_the_genesis_rewritten(
    engine: Engine, store: LedgerStore, tamper: Tamper, tmp_path: Path
) -> None:
    """With all keys of an invented consortium: a ledger that holds, and is another."""
    other = Consortium(1)
    with tamper() as connection:
        delete_from(connection, 0)
    invented = LedgerStore(engine)
    invented.found(other.founding_entry, other.coordinator)
    finalise(invented)
    with pytest.raises(GenesisMismatch):
        audit(engine, tmp_path / "out")


def test_a_membership_rewritten(
    engine: Engine, store: LedgerStore, tamper: Tamper, tmp_path: Path
) -> None:
    """An enrolment without approvals, written into a row that held a refusal."""
    entries = decided(store.chain().upcoming, enrol(FOUR.ledger, "hospital-5"))
    first = store.header(3).first
    with tamper() as connection:
        for offset, entry in enumerate(entries[:2]):
            rewrite_entry(connection, first + offset, entry)
            connection.execute(
                text("UPDATE entries SET type = :type WHERE idx = :index"),
                {"type": entry.record.type, "index": first + offset},
            )
    with pytest.raises(LedgerError, match=r"height 3\): the header's root"):
        audit(engine, tmp_path / "out")
    assert "hospital-5" not in LedgerStore(engine).chain().members


def test_a_rewritten_tree_stops_the_sequencer(
    engine: Engine, store: LedgerStore, head: SignedHead, tamper: Tamper, tmp_path: Path
) -> None:
    """The stored frontier is a shortcut: nothing that follows from a false one is ever stored."""
    with tamper() as connection:
        connection.execute(
            text("UPDATE blocks SET frontier = :nodes WHERE height = 3"),
            {"nodes": b"".join(bytes([n]) * 32 for n in range(store.header(3).size.bit_length()))},
        )
        connection.execute(
            text("UPDATE blocks SET frontier = substring(frontier FROM 1 FOR :size)"
                 " WHERE height = 3"),
            {"size": 32 * (store.header(3).size + 1).bit_count()},
        )  # fmt: skip
    cold = LedgerStore(engine)
    with pytest.raises(SignatureInvalid):
        cold.propose([FOUR.entry(round=4)], FOUR.coordinator)
    assert cold.chain().header.height == 3
    assert audit(engine, tmp_path / "out", head).reaches_head == 3  # no row of the ledger changed


# what the triggers refuse


@pytest.mark.parametrize("role", ["origin", "replica"])
@pytest.mark.parametrize("table", GUARDED)
def test_triggers_refuse_every_change_in_every_session(
    store: LedgerStore, superuser_engine: Engine, table: str, role: str
) -> None:
    column = "key" if table == "submissions" else "height"
    with superuser_engine.begin() as connection:
        if table == "submissions":
            connection.execute(
                text("INSERT INTO submissions (key, institution, body) VALUES ('k', 'i', 'b')")
            )
        if table == "conflicts":
            connection.execute(text("INSERT INTO conflicts VALUES (1, 'hospital-1', 'x')"))
    for statement in (
        f"UPDATE {table} SET {column} = {column}",
        f"DELETE FROM {table}",
        f"TRUNCATE {table} CASCADE",
    ):
        with superuser_engine.begin() as connection:
            connection.execute(text(f"SET LOCAL session_replication_role = {role}"))
            with pytest.raises(DBAPIError, match="append-only"):
                connection.execute(text(statement))
            connection.rollback()
    with superuser_engine.connect() as connection:
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar()


def test_disclosures_can_be_erased(store: LedgerStore, superuser_engine: Engine) -> None:
    store.disclose(Disclosure(bytes(32), "A name"))
    with superuser_engine.begin() as connection:
        connection.execute(text("SET LOCAL session_replication_role = replica"))
        assert connection.execute(text("DELETE FROM disclosures")).rowcount == 1
    assert store.disclosures() == []
