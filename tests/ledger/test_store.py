"""The ledger on PostgreSQL: what is acknowledged is there, in one order, after any restart."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from ledger_examples import CREATED, Consortium, keys_of
from sqlalchemy import Engine, text

from ledger.chain import Chain
from ledger.entry import sign_record
from ledger.errors import (
    LedgerError,
    LedgerMissing,
    NoteInvalid,
    QuorumMissing,
    RecordInvalid,
    SequenceConflict,
    SignatureInvalid,
)
from ledger.keys import Role
from ledger.note import cosign
from ledger.store import LedgerStore

FOUR = Consortium(4)


@pytest.fixture
def store(engine: Engine) -> LedgerStore:
    """With a final genesis."""
    store = LedgerStore(engine)
    store.found(FOUR.founding_entry, FOUR.coordinator)
    finalise(store)
    return store


def finalise(store: LedgerStore, names: list[str] | None = None) -> None:
    height = store.chain().header.height
    for line in FOUR.cosign(store.checkpoint(height), names):
        store.add_cosignature(height, line)


def followed(store: LedgerStore) -> Chain:
    """The chain as an outsider re-reads and checks it, every signature included."""
    chain: Chain | None = None
    for block in store.blocks():
        if chain is None:
            chain = Chain.begin(block)
        else:
            chain.follow(block)
    assert chain is not None
    return chain


def test_nothing_is_there_before_the_founding(engine: Engine) -> None:
    store = LedgerStore(engine)
    assert not store.exists()
    assert list(store.blocks()) == []
    for ask in (store.chain, store.head, store.final_height, lambda: store.block(0)):
        with pytest.raises(LedgerMissing):
            ask()
    with pytest.raises(LedgerMissing):
        store.propose([FOUR.entry()], FOUR.coordinator)


def test_founding_twice_gives_the_same_block_and_no_other_ledger_fits(engine: Engine) -> None:
    store = LedgerStore(engine)
    block = store.found(FOUR.founding_entry, FOUR.coordinator)
    assert store.found(FOUR.founding_entry, FOUR.coordinator) == block
    assert store.block(0) == block
    other = Consortium(3)
    with pytest.raises(SequenceConflict):
        store.found(other.founding_entry, other.coordinator)
    assert store.chain().ledger == FOUR.ledger


def test_a_genesis_that_does_not_hold_is_not_stored(engine: Engine) -> None:
    store = LedgerStore(engine)
    unsigned = sign_record(FOUR.genesis, [FOUR.coordinator[Role.RECORD]])
    with pytest.raises(SignatureInvalid):
        store.found(unsigned, FOUR.coordinator)
    assert not store.exists()


def test_propose_cosign_final(store: LedgerStore) -> None:
    block = store.propose([FOUR.entry(), FOUR.entry("hospital-2")], FOUR.coordinator)
    assert (store.head().final, store.head().cosigned, store.final_height()) == (False, 0, 0)
    finalise(store, ["hospital-1", "hospital-2"])
    assert not store.head().final
    with pytest.raises(QuorumMissing):
        store.require_final(1)
    finalise(store, ["hospital-4"])
    assert store.head().final
    assert store.final_height() == 1
    assert store.require_final(1) == store.cosignatures(1)
    assert len(store.cosignatures(1)) == 3
    assert store.block(1) == block
    assert followed(store).header == block.header


def test_nothing_is_proposed_on_top_of_what_is_not_final(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    with pytest.raises(QuorumMissing):
        store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-2"])
    with pytest.raises(QuorumMissing):
        store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    assert store.chain().header.height == 1
    finalise(store, ["hospital-3"])
    assert store.propose([FOUR.entry(round=2)], FOUR.coordinator).header.height == 2


def test_a_repeated_submission_is_refused_and_stores_nothing(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store)
    with pytest.raises(SequenceConflict):
        store.propose([FOUR.entry("hospital-2"), FOUR.entry()], FOUR.coordinator)
    record = FOUR.refusal().model_copy(update={"code": "JobUnknown"})
    second = sign_record(record, [FOUR.members["hospital-1"][Role.RECORD]])
    with pytest.raises(SequenceConflict):
        store.propose([second], FOUR.coordinator)
    with pytest.raises(SequenceConflict):
        store.propose([FOUR.entry("hospital-2"), FOUR.entry("hospital-2")], FOUR.coordinator)
    assert store.chain().header.height == 1
    assert [e.record.author for e in store.entries("refusal")] == ["hospital-1"]
    assert store.propose([FOUR.entry("hospital-2")], FOUR.coordinator).header.height == 2
    assert followed(store).header.height == 2


def test_an_entry_that_breaks_a_rule_stores_nothing(store: LedgerStore) -> None:
    before = store.chain()
    stranger = sign_record(FOUR.refusal(), [keys_of("stranger")[Role.RECORD]])
    with pytest.raises(SignatureInvalid, match="entry 3: "):
        store.propose([FOUR.entry("hospital-2"), stranger], FOUR.coordinator)
    assert store.chain().checkpoint == before.checkpoint
    assert len(store.entries()) == 2
    assert store.propose([FOUR.entry("hospital-2")], FOUR.coordinator).header.first == 2


def test_a_reader_keeps_the_state_that_it_was_given(store: LedgerStore) -> None:
    """Else a head would name the new block with the cosignatures of the old one."""
    chain = store.chain()
    before = (chain.header, chain.checkpoint, chain.frontier.size)
    store.propose([FOUR.entry()], FOUR.coordinator)
    assert (chain.header, chain.checkpoint, chain.frontier.size) == before
    assert store.chain().header.height == 1


def test_of_many_writers_one_wins(engine: Engine, store: LedgerStore) -> None:
    writers = [LedgerStore(engine) for _ in range(6)]

    def write(number: int) -> str:
        try:
            writers[number].propose([FOUR.entry(round=number + 1)], FOUR.coordinator)
        except (SequenceConflict, QuorumMissing) as error:
            return error.code
        return "stored"

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(write, range(6)))
    assert outcomes.count("stored") == 1
    assert store.chain().header.height == 1
    assert len(store.entries("refusal")) == 1
    finalise(store)
    for writer in writers:  # the losers' view is the winner's block, too
        assert writer.chain().header == store.chain().header


def test_a_restart_reads_the_same(engine: Engine, store: LedgerStore) -> None:
    for round in range(1, 5):
        store.propose([FOUR.entry(round=round)], FOUR.coordinator)
        finalise(store)
    again = LedgerStore(engine)
    ours, read, checked = store.chain(), again.chain(), followed(again)
    for chain in (read, checked):
        assert chain.header == ours.header
        assert chain.checkpoint == ours.checkpoint
        assert chain.frontier == ours.frontier
        assert chain.members == ours.members
    assert list(again.blocks()) == list(store.blocks())
    assert [b.header.height for b in again.blocks(3)] == [3, 4]
    assert again.propose([FOUR.entry(round=5)], FOUR.coordinator).header.height == 5


def test_a_store_notices_what_another_process_appended(engine: Engine, store: LedgerStore) -> None:
    other = LedgerStore(engine)
    assert other.chain().header.height == 0
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store)
    assert other.head().final
    assert other.propose([FOUR.entry(round=2)], FOUR.coordinator).header.height == 2
    assert store.chain().header.height == 2


# cosignatures


def test_only_a_members_own_line_on_that_very_block_is_stored(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    head = store.checkpoint(1)
    keys = FOUR.members["hospital-1"]
    stranger = cosign("stranger", keys_of("stranger")[Role.COSIGN], head.text(), CREATED)
    ours = cosign("coordinator", FOUR.coordinator[Role.COSIGN], head.text(), CREATED)
    for line, error in [
        (stranger, RecordInvalid),
        (ours, RecordInvalid),
        (cosign("hospital-1", keys[Role.RECORD], head.text(), CREATED), NoteInvalid),
        (cosign("hospital-2", keys[Role.COSIGN], head.text(), CREATED), NoteInvalid),
        (FOUR.cosign(store.checkpoint(0), ["hospital-1"])[0], SignatureInvalid),
        (FOUR.cosign(replace(head, size=9), ["hospital-1"])[0], SignatureInvalid),
        ("", NoteInvalid),
    ]:
        with pytest.raises(error):
            store.add_cosignature(1, line)
    with pytest.raises(LedgerMissing):
        store.add_cosignature(2, FOUR.cosign(head, ["hospital-1"])[0])
    assert store.cosignatures(1) == []


def test_repeats_are_harmless_one_after_another_and_at_once(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    line = FOUR.cosign(store.checkpoint(1), ["hospital-1"])[0]
    later = FOUR.cosign(store.checkpoint(1), ["hospital-1"], time=CREATED + 99)[0]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.add_cosignature(1, line), range(32)))
    store.add_cosignature(1, later)
    assert store.cosignatures(1) == [line]
    assert store.head().cosigned == 1


def test_a_late_cosignature_on_an_older_block_is_kept(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-2", "hospital-3"])
    block = store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    store.add_cosignature(1, FOUR.cosign(store.checkpoint(1), ["hospital-4"])[0])
    assert len(store.cosignatures(1)) == 4
    assert len(block.parent_cert) == 3
    assert len(store.require_final(1)) == 4


# reading


def test_entries_are_found_by_type_job_and_round(store: LedgerStore) -> None:
    entries = [
        FOUR.entry("hospital-1", "job-1", 1),
        FOUR.entry("hospital-2", "job-1", 2),
        FOUR.entry("hospital-3", "job-2", 1),
    ]
    store.propose(entries, FOUR.coordinator)
    assert store.entries("refusal") == entries
    assert store.entries("refusal", "job-1") == entries[:2]
    assert store.entries("refusal", "job-1", 2) == entries[1:2]
    assert store.entries(job="job-2") == entries[2:]
    assert store.entries("verdict") == []


def test_what_an_administrator_rewrites_is_found_by_whoever_checks(
    engine: Engine, store: LedgerStore
) -> None:
    """Nothing in the database stops its owner; the co-signed heads do."""
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store)
    forged = FOUR.entry("hospital-1", "job-9")
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE entries DISABLE TRIGGER ALL"))
        connection.execute(
            text("UPDATE entries SET body = :body, leaf_hash = :leaf WHERE type = 'refusal'"),
            {"body": forged.data, "leaf": forged.leaf},
        )
    with pytest.raises(LedgerError, match="root"):
        followed(LedgerStore(engine))
