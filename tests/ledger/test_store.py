"""The ledger on PostgreSQL: what is acknowledged is there, in one order, after any restart."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import pytest
from ledger_examples import (
    CREATED,
    Consortium,
    approval,
    approve,
    cosigned,
    decided,
    enrol,
    keys_of,
    propose,
    propose_submissions,
    suspend,
)
from sqlalchemy import Engine, text

from ledger.chain import Chain
from ledger.disclosure import Disclosure
from ledger.entry import sign_record
from ledger.errors import (
    CosignatureConflict,
    LedgerError,
    LedgerMissing,
    MembershipInvalid,
    NoteInvalid,
    ProofInvalid,
    QuorumMissing,
    RecordInvalid,
    SequenceConflict,
    SignatureInvalid,
)
from ledger.keys import Role
from ledger.merkle import (
    consistency_path,
    consistency_proof,
    inclusion_path,
    inclusion_proof,
    verify_consistency,
)
from ledger.note import SignatureLine, cosign, verify_cosignature
from ledger.records import Change, Erasure
from ledger.store import MOST_CONFLICTS, LedgerStore

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


def test_a_proposal_whose_answer_was_lost_is_answered_again(
    engine: Engine, store: LedgerStore
) -> None:
    entries = [FOUR.entry(), FOUR.entry("hospital-2")]
    block = store.propose(entries, FOUR.coordinator)
    assert store.propose(entries, FOUR.coordinator) == block
    assert LedgerStore(engine).propose(entries, FOUR.coordinator) == block
    finalise(store)
    assert store.propose(entries, FOUR.coordinator) == block
    store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    assert store.propose(entries, FOUR.coordinator) == block
    finalise(store)
    assert LedgerStore(engine).propose(entries, FOUR.coordinator) == block
    assert store.chain().header.height == 2
    assert len(store.entries("refusal")) == 3


def test_only_the_very_same_proposal_is_a_repeat(store: LedgerStore) -> None:
    entries = [FOUR.entry(), FOUR.entry("hospital-2")]
    store.propose(entries, FOUR.coordinator)
    others = [entries[:1], entries[1:], entries[::-1], [*entries, FOUR.entry("hospital-3")]]
    for other in others:
        with pytest.raises(QuorumMissing):
            store.propose(other, FOUR.coordinator)
    finalise(store)
    for other in others:
        with pytest.raises(SequenceConflict):
            store.propose(other, FOUR.coordinator)
    assert store.chain().header.height == 1
    store.propose([], FOUR.coordinator)
    with pytest.raises(QuorumMissing):  # an empty block has nothing to be known by
        store.propose([], FOUR.coordinator)


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
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: store.add_cosignature(1, line), range(32)))
    assert store.cosignatures(1) == [line]
    assert store.conflicts() == []
    assert store.head().cosigned == 1


def test_a_second_cosignature_by_one_member_is_kept_as_evidence_and_never_counts(
    engine: Engine, store: LedgerStore
) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    head = store.checkpoint(1)
    line, second, third = (
        FOUR.cosign(head, ["hospital-1"], time=CREATED + n)[0] for n in (9, 99, 100)
    )
    store.add_cosignature(1, line)
    for other in (second, second, third):
        with pytest.raises(CosignatureConflict, match="hospital-1 co-signed block 1 twice"):
            store.add_cosignature(1, other)
    store.add_cosignature(1, line)
    assert store.cosignatures(1) == [line]
    assert store.head().cosigned == 1
    assert sorted(store.conflicts()) == sorted([(1, second), (1, third)])
    finalise(store, ["hospital-2", "hospital-3"])
    assert second not in store.propose([FOUR.entry(round=2)], FOUR.coordinator).parent_cert
    late = FOUR.cosign(store.checkpoint(0), ["hospital-4"], time=CREATED + 1)[0]
    with pytest.raises(CosignatureConflict):
        store.add_cosignature(0, late)
    assert store.conflicts(0) == [(0, late)]
    assert [height for height, _ in store.conflicts()] == [0, 1, 1]
    assert len(LedgerStore(engine).conflicts(1)) == 2


def test_one_members_many_second_cosignatures_neither_pile_up_nor_hide_anothers(
    store: LedgerStore,
) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    for name, count in (("hospital-1", MOST_CONFLICTS + 4), ("hospital-2", 2)):
        for n in range(count):
            with suppress(CosignatureConflict):
                store.add_cosignature(
                    1, FOUR.cosign(store.checkpoint(1), [name], time=CREATED + n)[0]
                )
    assert len(store.conflicts(1)) == MOST_CONFLICTS + 1
    for n in (1, 2):
        line = FOUR.cosign(store.checkpoint(0), ["hospital-1"], time=CREATED + n)[0]
        with suppress(CosignatureConflict):
            store.add_cosignature(0, line)
    shown = store.newest_conflicts()
    assert [height for height, _ in shown] == [1] * (MOST_CONFLICTS + 1)
    assert sum(SignatureLine.parse(line).name == "hospital-2" for _, line in shown) == 1


def test_of_two_different_cosignatures_at_once_one_counts(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    head = store.checkpoint(1)
    lines = [FOUR.cosign(head, ["hospital-1"], time=CREATED + n)[0] for n in range(6)]

    def add(line: str) -> bool:
        try:
            store.add_cosignature(1, line)
        except CosignatureConflict:
            return False
        return True

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(add, lines)) == 1
    assert len(store.cosignatures(1)) == 1
    assert {line for _, line in store.conflicts(1)} == set(lines) - set(store.cosignatures(1))


def test_a_late_cosignature_on_an_older_block_is_kept(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-2", "hospital-3"])
    block = store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    store.add_cosignature(1, FOUR.cosign(store.checkpoint(1), ["hospital-4"])[0])
    assert len(store.cosignatures(1)) == 4
    assert len(block.parent_cert) == 3
    assert len(store.require_final(1)) == 4


def test_a_late_cosignature_counts_by_the_membership_of_its_block(store: LedgerStore) -> None:
    """Who was suspended since may still sign what it was a member for; who joined since may not."""
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-2", "hospital-3"])
    ledger, upcoming = FOUR.ledger, store.chain().upcoming
    actions = suspend("hospital-4"), enrol(ledger, "hospital-5")
    store.propose(decided(upcoming, *actions), FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-2", "hospital-3"])
    store.propose([FOUR.entry(round=2)], FOUR.coordinator)
    assert set(store.chain().membership.members) == {
        "hospital-1", "hospital-2", "hospital-3", "hospital-5",
    }  # fmt: skip
    key = keys_of("hospital-5")[Role.COSIGN]
    for height in (1, 2):
        store.add_cosignature(height, FOUR.cosign(store.checkpoint(height), ["hospital-4"])[0])
        assert len(store.require_final(height)) == 4
        line = cosign("hospital-5", key, store.checkpoint(height).text(), CREATED)
        with pytest.raises(RecordInvalid, match=f"no member at height {height}"):
            store.add_cosignature(height, line)
    with pytest.raises(RecordInvalid):
        store.add_cosignature(3, FOUR.cosign(store.checkpoint(3), ["hospital-4"])[0])
    store.add_cosignature(3, cosign("hospital-5", key, store.checkpoint(3).text(), CREATED))


# what is resumed


def test_a_cold_store_resumes_from_the_stored_tree(
    engine: Engine, superuser_engine: Engine, store: LedgerStore
) -> None:
    """And where a block was stored before the column was there, from the leaves."""
    for round in range(1, 7):
        store.propose([FOUR.entry(round=round)], FOUR.coordinator)
        finalise(store)
    expected = store.chain()
    warm = LedgerStore(engine).chain()
    with superuser_engine.begin() as connection:
        connection.execute(text("ALTER TABLE blocks DISABLE TRIGGER ALL"))
        connection.execute(text("UPDATE blocks SET frontier = NULL WHERE height < 9"))
    cold = LedgerStore(engine)
    for chain in (warm, cold.chain(), followed(cold)):
        assert chain.frontier == expected.frontier
        assert chain.checkpoint == expected.checkpoint
        assert chain.header == expected.header
    assert cold.propose([FOUR.entry(round=7)], FOUR.coordinator).header.height == 7
    finalise(cold)
    assert LedgerStore(engine).chain().frontier == followed(cold).frontier


def test_a_cold_store_resumes_the_membership(engine: Engine, store: LedgerStore) -> None:
    upcoming = store.chain().upcoming
    proposed, *approvals = decided(upcoming, enrol(FOUR.ledger, "hospital-5"))
    for entries in ([proposed], approvals[:1], approvals[1:], []):
        store.propose(entries, FOUR.coordinator)
        for line in cosigned(store.chain()):
            store.add_cosignature(store.chain().header.height, line)
        warm, cold = store.chain(), LedgerStore(engine).chain()
        assert cold.upcoming == warm.upcoming == followed(store).upcoming
        assert cold.memberships.keys() == warm.memberships.keys()
    assert "hospital-5" in store.chain().membership.members
    assert store.head().quorum == 4


# what members hand in


def test_what_is_submitted_waits_for_a_block(engine: Engine, store: LedgerStore) -> None:
    proposed = propose(store.chain().upcoming, suspend("hospital-4"))
    key = store.submit(proposed)
    assert key.startswith("change/")
    assert store.submit(proposed) == LedgerStore(engine).submit(proposed) == key
    assert store.submissions() == [proposed]
    block = propose_submissions(store, FOUR.coordinator)
    assert block is not None
    assert block.entries == (proposed,)
    assert store.submissions() == []
    assert store.submit(proposed) == key  # it stands on the ledger
    assert store.submissions() == []
    assert propose_submissions(store, FOUR.coordinator) is None


def test_submissions_go_into_blocks_in_their_order(store: LedgerStore) -> None:
    upcoming = store.chain().upcoming
    proposed = propose(upcoming, suspend("hospital-4"))
    store.submit(proposed)
    propose_submissions(store, FOUR.coordinator)
    finalise(store)
    approvals = approve(upcoming, proposed, *FOUR.members)
    for entry in approvals:
        store.submit(entry)
    assert store.submissions() == approvals
    block = propose_submissions(store, FOUR.coordinator)
    assert block is not None
    assert list(block.entries) == approvals[:3]  # the third decides: nothing may follow
    finalise(store)
    assert store.chain().upcoming.members.keys() == {"hospital-1", "hospital-2", "hospital-3"}
    assert store.submissions() == approvals[3:]  # lapsed: it applies to nothing any more
    assert propose_submissions(store, FOUR.coordinator) is None


def test_submissions_wait_for_the_block_before(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    store.submit(propose(store.chain().upcoming, suspend("hospital-4")))
    with pytest.raises(QuorumMissing):
        propose_submissions(store, FOUR.coordinator)
    finalise(store)
    assert propose_submissions(store, FOUR.coordinator) is not None


def test_what_does_not_hold_is_not_taken_in(store: LedgerStore) -> None:
    upcoming = store.chain().upcoming
    proposed = propose(upcoming, suspend("hospital-4"))
    record = proposed.record
    strangers = sign_record(record, [keys_of("stranger")[Role.RECORD]])
    [unknown] = approve(upcoming, proposed, "hospital-1")
    for entry, error in [
        (FOUR.entry(), RecordInvalid),
        (FOUR.founding_entry, RecordInvalid),
        (strangers, SignatureInvalid),
        (unknown, MembershipInvalid),
    ]:
        with pytest.raises(error):
            store.submit(entry)
    assert store.submissions() == []


def test_one_member_hands_in_one_approval(store: LedgerStore) -> None:
    upcoming = store.chain().upcoming
    proposed = propose(upcoming, suspend("hospital-4"))
    store.propose([proposed], FOUR.coordinator)
    finalise(store)
    [first] = approve(upcoming, proposed, "hospital-1")
    assert isinstance(proposed.record, Change)
    other = sign_record(
        approval(proposed.record, "hospital-1", "9" * 64),
        [FOUR.members["hospital-1"][Role.APPROVAL]],
    )
    store.submit(first)
    with pytest.raises(RecordInvalid, match="another record"):
        store.submit(other)
    assert store.submissions() == [first]
    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(store.submit, [first] * 12))) == 1
    assert store.submissions() == [first]


# what opens salted digests


def test_disclosures_are_kept_until_they_are_erased(engine: Engine, store: LedgerStore) -> None:
    kept, gone = (Disclosure(bytes([n]) * 32, f"A name, {n}") for n in (1, 2))
    for disclosure in (kept, gone, kept):
        store.disclose(disclosure)
    by_digest = sorted([kept, gone], key=lambda d: d.digest)
    assert store.disclosures() == LedgerStore(engine).disclosures() == by_digest
    assert store.erase(gone.digest)
    assert not store.erase(gone.digest)
    assert store.disclosures() == [kept]
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT value FROM disclosures")).scalars().all()
    assert rows == [kept.value]


def test_an_erasure_is_submitted_once(store: LedgerStore) -> None:
    record = Erasure(
        v=1, type="erasure", ledger=FOUR.ledger, author="hospital-2", disclosure="a" * 64
    )
    entry = sign_record(record, [FOUR.members["hospital-2"][Role.RECORD]])
    assert store.submit(entry) == store.submit(entry)
    block = propose_submissions(store, FOUR.coordinator)
    assert block is not None
    assert block.entries == (entry,)
    with store.snapshot() as snapshot:
        assert snapshot.erased() == ["a" * 64]


# reading


def test_a_snapshot_does_not_move(store: LedgerStore) -> None:
    with store.snapshot() as snapshot:
        assert snapshot.newest() == 0
        store.propose([FOUR.entry()], FOUR.coordinator)
        finalise(store)
        assert snapshot.newest() == 0
        assert [len(lines) for _, lines in snapshot.blocks(0, 9)] == [4]
        assert snapshot.leaf(2) is None
    with store.snapshot() as snapshot:
        assert snapshot.newest() == 1
        assert snapshot.leaf(2) == (1, FOUR.entry().data)
        assert snapshot.leaf(3) == (1, store.header(1).data())
        assert snapshot.leaf(1) == (0, store.header(0).data())


def test_any_two_heads_are_proved_consistent(store: LedgerStore) -> None:
    for round in range(1, 5):
        store.propose([FOUR.entry(round=round)], FOUR.coordinator)
        finalise(store)
    heads = [store.checkpoint(height) for height in range(5)]
    for new in heads:
        for old in heads:
            if old.size <= new.size:
                proof = store.consistency_proof(old.size, new.size)
                verify_consistency(old.size, old.root, new.size, new.root, proof)
    with pytest.raises(ProofInvalid):
        store.consistency_proof(heads[4].size, heads[3].size)


def test_subtrees_are_hashed_from_the_blocks_in_which_they_end(store: LedgerStore) -> None:
    counts = [1, 6, 1, 2, 9]  # of entries; the tree has 25 leaves with the headers
    for round, count in enumerate(counts, 1):
        entries = [FOUR.entry(job=f"job-{i}", round=round) for i in range(count)]
        store.propose(entries, FOUR.coordinator)
        finalise(store)
    blocks = list(store.blocks())
    leaves = [leaf for b in blocks for leaf in (*(e.leaf for e in b.entries), b.header.leaf)]
    heads = [b.checkpoint for b in blocks]
    with store.snapshot() as snapshot:
        for head in heads:
            for index in range(head.size):
                proof = snapshot.subtrees(inclusion_path(index, head.size))
                assert proof == inclusion_proof(leaves[: head.size], index)
            for old in range(head.size + 1):
                proof = snapshot.subtrees(consistency_path(old, head.size))
                assert proof == consistency_proof(leaves[: head.size], old)
    with pytest.raises(ProofInvalid):
        store.consistency_proof(1, heads[-1].size + 1)


def test_an_institutions_entries_come_newest_first(store: LedgerStore) -> None:
    entries = [FOUR.entry(round=round) for round in range(1, 4)]
    store.propose([*entries, FOUR.entry("hospital-2")], FOUR.coordinator)
    assert list(store.newest_first("refusal", "hospital-1")) == entries[::-1]
    assert next(store.newest_first("refusal", "hospital-1")) == entries[-1]
    assert list(store.newest_first("refusal", "hospital-3")) == []


def test_the_heads_that_members_signed_are_their_newest(store: LedgerStore) -> None:
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store, ["hospital-1", "hospital-3"])
    heads = store.member_heads()
    assert [head.institution for head in heads] == list(FOUR.members)
    assert [head.checkpoint.height for head in heads] == [1, 0, 1, 0]
    for head in heads:
        key = FOUR.members[head.institution][Role.COSIGN].public
        verify_cosignature(head.line, head.institution, key, head.checkpoint.text())


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
    engine: Engine, superuser_engine: Engine, store: LedgerStore
) -> None:
    """Nothing in the database stops its owner; the co-signed heads do."""
    store.propose([FOUR.entry()], FOUR.coordinator)
    finalise(store)
    forged = FOUR.entry("hospital-1", "job-9")
    with superuser_engine.begin() as connection:
        connection.execute(text("ALTER TABLE entries DISABLE TRIGGER ALL"))
        connection.execute(
            text("UPDATE entries SET body = :body, leaf_hash = :leaf WHERE type = 'refusal'"),
            {"body": forged.data, "leaf": forged.leaf},
        )
    with pytest.raises(LedgerError, match="root"):
        followed(LedgerStore(engine))
