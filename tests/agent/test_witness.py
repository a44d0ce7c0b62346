"""What a hospital co-signs, what it never does, and what it answers when asked again."""

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from consortium_in_memory import CREATED, TASK, Api, Consortium, copy_of, found, make_genesis

from consortium.api.tokens import check_token
from consortium.errors import EnrolmentInvalid, RoundInvalid
from consortium.phases import Phase
from hospital_agent.approvals import Approvals
from hospital_agent.approver import open_approver
from hospital_agent.cohort import Cohort
from hospital_agent.enrolment import _member_form, enrol, enrolment_action, rotation, sign_genesis
from hospital_agent.errors import (
    ApiUnreachable,
    ClocksDiffer,
    EnrolmentMissing,
    ForkRefused,
    GenesisRefused,
    MemberStopped,
    OwnRecordChanged,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from hospital_agent.replica import Replica
from hospital_agent.witness import CLOCK_TOLERANCE_S, Witness
from ledger.block import Block
from ledger.chain import Chain
from ledger.content import model_hash
from ledger.entry import Entry, assemble, record_signature, sign_record
from ledger.errors import (
    ContentInvalid,
    CosignatureConflict,
    LedgerError,
    SignatureInvalid,
)
from ledger.keys import KeyRing, Role, SecretKey
from ledger.note import Checkpoint, SignedHead, cosign, sign_note, verify_cosignature
from ledger.records import (
    Approval,
    Change,
    Close,
    Reinstate,
    Result,
    Rotate,
    Suspend,
    consent_message,
)
from ledger.sequencer import genesis_block, next_block

ONE, TWO, THREE, FOUR = (f"hospital-{i}" for i in range(1, 5))


def lines_at(consortium: Consortium, height: int) -> dict[str, str]:
    return consortium.api.cosignatures.get(height, {})


def block_of(consortium: Consortium, entries: list[Entry], time: int = CREATED + 60) -> Block:
    """A block that nobody has checked: what a lying coordinator proposes."""
    lines = sorted(lines_at(consortium, consortium.newest.header.height).values())
    return next_block(consortium.newest, entries, lines, time, consortium.keys)


def refused(consortium: Consortium, entries: list[Entry], error: type[Exception]) -> None:
    """No hospital signs it, and each goes on to sign the honest block at that height."""
    height = len(consortium.api.blocks)
    consortium.api.blocks.append(block_of(consortium, entries))
    for name in consortium.folders:
        with pytest.raises(error):
            consortium.witness(name).step()
    assert lines_at(consortium, height) == {}
    consortium.api.blocks.pop()
    consortium.add(consortium.result()[0])
    assert len(lines_at(consortium, height)) == 4


def test_every_witness_signs_an_honest_block(after_verify: Consortium) -> None:
    four = after_verify
    four.add(four.result()[0])
    block = four.api.blocks[-1]
    assert len(lines_at(four, 2)) == 4
    for name, line in lines_at(four, 2).items():
        key = four.folders[name].keys[Role.COSIGN].public
        verify_cosignature(line, name, key, block.checkpoint.text())


def test_asked_again_it_answers_with_the_same_bytes(after_verify: Consortium) -> None:
    four = after_verify
    four.add(four.result()[0])
    before = dict(lines_at(four, 2))
    four.witnesses.clear()  # a restart of each
    four.cosign_all()
    assert lines_at(four, 2) == before


def test_killed_between_storing_and_sending_it_sends_the_same_line(
    after_verify: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = after_verify
    four.propose(four.result()[0])
    witness = four.witness(ONE)
    with monkeypatch.context() as patch:
        patch.setattr(four.api, "send_cosignature", lambda at, _: kill() if at == 2 else None)
        with pytest.raises(KeyboardInterrupt):
            witness.step()
    stored = Replica(four.folders[ONE].path / "replica.sqlite").cosignature(
        four.api.blocks[-1].header
    )
    assert stored is not None
    four.witnesses.clear()
    four.witness(ONE).step()
    assert lines_at(four, 2) == {ONE: stored}


def test_killed_before_storing_it_has_signed_nothing(
    after_verify: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = after_verify
    entries = four.result()[0]
    four.propose(entries)
    with monkeypatch.context() as patch:
        patch.setattr("hospital_agent.replica._insert", kill)
        with pytest.raises(KeyboardInterrupt):
            four.witness(ONE).step()
    assert lines_at(four, 2) == {}
    four.witness(ONE).step()
    assert set(lines_at(four, 2)) == {ONE}


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_a_block_dated_ahead_of_the_clock_is_not_signed(
    after_verify: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = after_verify
    four.propose(four.result()[0])
    early = four.api.blocks[-1].header.time - CLOCK_TOLERANCE_S
    monkeypatch.setattr("hospital_agent.witness.time.time", lambda: early - 1)
    with pytest.raises(ClocksDiffer):
        four.witness(ONE).step()
    assert lines_at(four, 2) == {}
    monkeypatch.setattr("hospital_agent.witness.time.time", lambda: early)
    four.witness(ONE).step()
    assert set(lines_at(four, 2)) == {ONE}


# forks


def test_another_block_at_a_height_already_signed_is_refused(after_verify: Consortium) -> None:
    four = after_verify
    entries = four.result()[0]
    other = block_of(four, entries, CREATED + 61)
    four.propose(entries)
    four.witness(ONE).step()
    first = dict(lines_at(four, 2))
    four.api.blocks[-1] = other
    with pytest.raises(ForkRefused):
        four.witness(ONE).step()
    assert lines_at(four, 2) == first
    for name in ("hospital-2", "hospital-3"):
        four.witness(name).step()  # two blocks, and neither has the quorum of three
    assert len([n for n in lines_at(four, 2) if n != ONE]) == 2


def test_a_fork_is_refused_after_a_restart_too(after_verify: Consortium) -> None:
    four = after_verify
    entries = four.result()[0]
    other = block_of(four, entries, CREATED + 61)
    four.add(entries)
    four.witnesses.clear()
    four.api.blocks[-1] = other
    for name in four.folders:
        with pytest.raises(ForkRefused):
            four.witness(name).step()


def test_a_ledger_that_became_shorter_is_refused(after_verify: Consortium) -> None:
    """A coordinator whose backup was restored, or who hides what was signed."""
    four = after_verify
    four.add(four.result()[0])
    four.api.blocks.pop()
    for name in four.folders:
        with pytest.raises(ForkRefused, match="ends at height 1"):
            four.witness(name).step()


def test_a_replaced_history_is_refused(after_verify: Consortium, tmp_path) -> None:
    four = after_verify
    before = copy_of(four, tmp_path / "before")
    four.add(four.result()[0])
    before.api.blocks.append(block_of(before, before.result()[0], CREATED + 99))
    before.chain = before.newest
    four.api.blocks[-1:] = before.api.blocks[-1:]
    with pytest.raises(ForkRefused):
        four.witness(ONE).step()


# what a coordinator changes


def rewritten(entry: Entry, consortium: Consortium, **changed: Any) -> Entry:
    body = {**entry.record.body(), **changed}
    return consortium.sign(Result.model_validate(body))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: {"model_after": "0" * 64},
        lambda r: {"minted": r["minted"] + 1},
        lambda r: {"learner": next(n for n in ("hospital-1", "hospital-2") if n != r["learner"])},
        lambda r: {"proofs": [{**r["proofs"][0], "code": "NearCopy"}, *r["proofs"][1:]]},
        lambda r: {"proofs": [{**r["proofs"][0], "credits": 0}, *r["proofs"][1:]]},
        lambda r: {"void": True},
        lambda r: {"again": True},
        lambda r: {"attempt": 2},
    ],
)
def test_a_rewritten_result_is_not_signed(
    after_verify: Consortium, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    entries, _ = after_verify.result()
    changed = rewritten(entries[-1], after_verify, **change(entries[-1].record.body()))
    refused(after_verify, [*entries[:-1], changed], RoundInvalid)


def test_a_rewritten_verdict_is_not_signed(after_verify: Consortium) -> None:
    """The coordinator cannot sign for a hospital, nor in its own name."""
    four = after_verify
    entries, _ = four.result()
    at = next(i for i, e in enumerate(entries) if e.record.type == "verdict")
    record = entries[at].record
    findings = tuple(f.model_copy(update={"score": 0}) for f in record.findings)  # type: ignore[attr-defined]
    forged = four.sign(record.model_copy(update={"findings": findings}))
    block = [*entries[:at], forged, *entries[at + 1 :]]
    refused(four, block, SignatureInvalid)


@pytest.mark.parametrize("kind", ["commitment", "close", "verdict"])
def test_a_record_in_ones_own_name_that_one_did_not_sign(
    after_verify: Consortium, kind: str
) -> None:
    """With the stolen record key: the others cannot tell, its owner can."""
    four = after_verify
    entries, _ = four.result()
    at = next(i for i, e in enumerate(entries) if e.record.type == kind and e.record.author == ONE)
    memory = four.participant(ONE).memory
    place = ("job-1", 1, 1)
    own = entries[at]
    with memory._connect() as connection:  # what this hospital signed is something else
        if kind == "commitment":
            connection.execute("UPDATE trained SET commitment = ?", (b"other",))
        else:
            connection.execute("UPDATE signed SET entry = ? WHERE type = ?", (b"other", kind))
    four.propose(entries)
    with pytest.raises(OwnRecordChanged, match=kind):
        four.witness(ONE).step()
    assert ONE not in lines_at(four, 2)
    four.cosign_all(["hospital-2", "hospital-3", "hospital-4"])
    assert len(lines_at(four, 2)) == 3
    assert own.record.author == ONE
    assert place == (own.record.body()["job"], 1, 1)


def test_a_record_that_one_never_signed_at_all(after_verify: Consortium) -> None:
    four = after_verify
    memory = four.participant(ONE).memory
    with memory._connect() as connection:
        connection.execute("DELETE FROM signed")
    four.propose(four.result()[0])
    with pytest.raises(OwnRecordChanged):
        four.witness(ONE).step()


def test_a_close_of_another_set_is_not_signed_over(after_verify: Consortium) -> None:
    four = after_verify
    entries, _ = four.result()
    at = next(i for i, e in enumerate(entries) if e.record.type == "close")
    record = entries[at].record
    assert isinstance(record, Close)
    key = four.folders[record.author].keys[Role.RECORD]
    other = sign_record(record.model_copy(update={"digest": "0" * 64}), [key])
    refused(four, [*entries[:at], other, *entries[at + 1 :]], RoundInvalid)


def test_an_update_that_is_not_served_or_not_the_one_is_not_signed_over(
    after_verify: Consortium,
) -> None:
    four = after_verify
    entries, _ = four.result()
    name = four.records.proofs[1].record.body()["update"]
    (four.folders[ONE].path / "content" / name).unlink()
    four.propose(entries)
    kept = four.api.content.pop(("content", name))
    with pytest.raises(KeyError):
        four.witness(ONE).step()
    four.api.content["content", name] = b"something else"
    with pytest.raises(ContentInvalid):
        four.witness(ONE).step()
    assert lines_at(four, 2) == {}
    four.api.content["content", name] = kept
    four.witness(ONE).step()
    assert set(lines_at(four, 2)) == {ONE}


def test_a_block_by_another_key_than_the_coordinators(after_verify: Consortium, tmp_path) -> None:
    four = after_verify
    entries, _ = four.result()
    other = KeyRing.open(tmp_path / "other", (Role.RECORD, Role.COSIGN))
    lines = sorted(lines_at(four, 1).values())
    four.api.blocks.append(next_block(four.newest, entries, lines, CREATED + 60, other))
    with pytest.raises(LedgerError):
        four.witness(ONE).step()
    assert lines_at(four, 2) == {}


def test_a_member_that_was_away_catches_up_and_signs_each_block(four: Consortium) -> None:
    others = ["hospital-1", "hospital-2", "hospital-3"]
    for round in (1, 2):
        four.records, four.updates = type(four.records)(), {}
        for phase in Phase:
            four.ask(phase, round, others)
        four.propose(four.result(round)[0])
        four.cosign_all(others)
    late = four.witness("hospital-4")
    assert late.step() == 3
    assert [height for height, _ in four.api.sent if "hospital-4" in lines_at(four, height)]
    assert set(lines_at(four, 2)) == set(lines_at(four, 3)) == set(four.folders)
    result = four.api.blocks[-1].entries[-1].record.body()
    assert result["absent"] == [{"institution": "hospital-4", "phase": "train", "code": "NoAnswer"}]
    assert model_hash(late._view.model(result["model_after"])) == result["model_after"]


def test_what_a_job_had_reserved_is_given_back_even_after_a_crash(
    after_verify: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four = after_verify
    four.add(four.result()[0])
    released = four.api.blocks[-1].entries[-1].record.body()["model_after"]
    entry = four.end_job("stopped", 1, released)
    folder = four.folders[ONE]
    cohort = Cohort.open(folder, TASK).id
    assert folder.budget.status(cohort).reserved.mu2 > 0
    four.propose([entry])
    with monkeypatch.context() as patch:
        patch.setattr("privacy.budget.Budget.release", kill)
        with pytest.raises(KeyboardInterrupt):
            four.witness(ONE).step()
    assert folder.budget.status(cohort).reserved.mu2 > 0
    four.witnesses.clear()
    four.witness(ONE).step()
    assert folder.budget.status(cohort).reserved.mu2 == 0
    four.witness(ONE).step()
    assert ONE in lines_at(four, 3)


# the genesis


def founders_of(tmp_path, count: int = 2) -> tuple[KeyRing, list[HospitalFolder]]:
    folders = [
        HospitalFolder.create(tmp_path / f"h{i}", f"hospital-{i}", f"Hospital {i}")
        for i in range(1, count + 1)
    ]
    return KeyRing.open(tmp_path / "coordinator", (Role.RECORD, Role.COSIGN)), folders


def test_a_hospital_signs_no_genesis_that_does_not_hold_it_as_it_enrolled(tmp_path) -> None:
    keys, (one, two) = founders_of(tmp_path)
    genesis = make_genesis(keys, [one, two])
    without = genesis.model_copy(update={"founders": genesis.founders[1:]})
    renamed = genesis.founders[0].model_copy(update={"title": "Another"})
    changed = genesis.model_copy(update={"founders": (renamed, genesis.founders[1])})
    for bad in (without, changed):
        with pytest.raises(GenesisRefused):
            sign_genesis(one, bad)
    assert one.ledger is None
    sign_genesis(one, genesis)
    assert one.ledger is not None


def test_a_founder_that_does_not_show_its_keys_is_refused_by_every_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a coordinator could enrol an invented hospital under another's cosign key."""
    keys, (one, two) = founders_of(tmp_path)
    genesis = make_genesis(keys, [one, two])
    second = genesis.founders[1]
    stolen = enrol(HospitalFolder.create(tmp_path / "h3", "hospital-3", "Hospital 3"))
    for role in Role:
        forged = second.model_copy(update={"keys": {**second.keys, role: stolen.keys[role]}})
        bad = genesis.model_copy(update={"founders": (genesis.founders[0], forged)})
        with pytest.raises(EnrolmentInvalid):
            sign_genesis(one, bad)
    for role in Role:
        shown = {**second.possession, role: "00" * (80 if role is Role.VRF else 64)}
        forged = second.model_copy(update={"possession": shown})
        bad = genesis.model_copy(update={"founders": (genesis.founders[0], forged)})
        rings = [keys, one.keys, two.keys]
        entry = assemble(bad, [record_signature(bad, ring[Role.RECORD]) for ring in rings])
        with monkeypatch.context() as patch:  # a coordinator that does not check its own block
            patch.setattr("ledger.membership._check_possession", lambda member: None)
            api = Api([genesis_block(entry, keys)])
        with pytest.raises((LedgerError, EnrolmentInvalid)):
            Witness(one, api).step()  # type: ignore[arg-type]
        assert api.cosignatures == {}


def test_a_folder_follows_one_ledger_only(four: Consortium, tmp_path) -> None:
    other = found(tmp_path / "other", hospitals=2)
    four.api.blocks[:] = other.api.blocks
    for name in four.folders:
        with pytest.raises((ForkRefused, LedgerError)):
            four.witness(name).step()
    fresh = HospitalFolder(tmp_path / "other" / ONE)
    with pytest.raises(Exception, match="another ledger"):
        fresh.pin_ledger("0" * 64)


def test_a_header_of_another_epoch_at_a_signed_height_is_refused(
    after_verify: Consortium,
) -> None:
    four = after_verify
    four.add(four.result()[0])
    block = four.api.blocks[-1]
    four.api.blocks[-1] = replace(block, header=replace(block.header, epoch=1))
    four.witnesses.clear()  # which would not fetch it again
    with pytest.raises((ForkRefused, LedgerError)):
        four.witness(ONE).step()


# followed, and not signed


def replica_of(consortium: Consortium, name: str = ONE) -> Replica:
    return Replica(consortium.folders[name].path / "replica.sqlite")


def evidence_of(consortium: Consortium, name: str = ONE) -> list[tuple[int, SignedHead, str]]:
    found = replica_of(consortium, name).evidence()
    return [(height, SignedHead.parse(note), what) for height, note, what in found]


def waits(four: Consortium, name: str) -> int:
    """A newcomer that is not enrolled yet: how far it follows what it accepts no head of."""
    with pytest.raises(EnrolmentMissing):
        four.witness(name).step()
    return replica_of(four, name).height()


def test_a_newcomer_follows_and_signs_from_the_block_after_its_enrolment(four: Consortium) -> None:
    five, name = four.newcomer("hospital-5"), "hospital-5"
    action = enrolment_action(five, four.newest.ledger)
    witness = four.witness(name)
    assert waits(four, name) == 1
    four.propose(four.decided(four.change(action)))
    four.cosign_all([ONE, TWO, THREE])
    assert witness.step() == 2
    assert all(name not in lines for lines in four.api.cosignatures.values())
    assert replica_of(four, name).own_lines() == {}
    four.propose([four.erasure("one")])
    assert witness.step() == 3
    assert set(lines_at(four, 3)) == {name}  # it is a member, and signs as the others do
    four.cosign_all()
    assert set(lines_at(four, 3)) == {*four.folders}
    assert four.newest.membership.quorum == 4
    own = replica_of(four, name).chain()
    assert own is not None
    assert own.header == four.newest.header


def test_what_it_does_not_sign_it_stores_only_once_it_is_final(four: Consortium) -> None:
    five, name = four.newcomer("hospital-5"), "hospital-5"
    enrolment_action(five, four.newest.ledger)
    waits(four, name)
    four.propose([four.erasure("one")])
    for signer in (ONE, TWO):
        four.witness(signer).step()
        assert waits(four, name) == 1
    four.witness(THREE).step()
    assert waits(four, name) == 2
    assert len(replica_of(four, name).certificate(2)) == 3


def test_a_newcomer_does_not_take_a_quorum_on_the_apis_word(four: Consortium) -> None:
    five = four.newcomer("hospital-5")
    enrolment_action(five, four.newest.ledger)
    witness = four.witness("hospital-5")
    waits(four, "hospital-5")
    four.propose([four.erasure("one")])
    four.cosign_all([ONE, TWO])
    four.api.cosignatures[2][THREE] = lines_at(four, 1)[THREE]  # over another block
    with pytest.raises(SignatureInvalid):
        witness.step()
    assert replica_of(four, "hospital-5").height() == 1


def test_a_suspended_member_follows_and_signs_again_once_it_is_reinstated(four: Consortium) -> None:
    four.add(four.decided(four.change(Suspend(kind="suspend", institution=ONE))))
    assert ONE in lines_at(four, 2)  # the old membership certifies the block that changes it
    four.propose([four.erasure("one")])
    assert four.witness(ONE).step() == 2
    four.cosign_all([TWO, THREE, FOUR])
    assert four.witness(ONE).step() == 3
    assert ONE not in lines_at(four, 3)
    four.propose(four.decided(four.change(Reinstate(kind="reinstate", institution=ONE))))
    four.cosign_all([TWO, THREE, FOUR, ONE])
    assert ONE not in lines_at(four, 4)
    four.add([four.erasure("two")])
    assert ONE in lines_at(four, 5)
    assert sorted(replica_of(four).own_lines()) == [0, 1, 2, 5]


# other heads


def lines_by(consortium: Consortium, checkpoint: Checkpoint, *names: str, at: int = 9) -> list[str]:
    """Cosignatures that these members would never give."""
    return sorted(
        cosign(name, consortium.folders[name].keys[Role.COSIGN], checkpoint.text(), CREATED + at)
        for name in names
    )


def second_history(consortium: Consortium, length: int) -> list[Block]:
    """Another history from block 1 on, co-signed by everybody: more liars than any rule bears."""
    chain = Chain.begin(consortium.api.blocks[0])
    lines, blocks = sorted(lines_at(consortium, 0).values()), [consortium.api.blocks[0]]
    for height in range(1, length + 1):
        entries = [consortium.erasure(f"another {height}")]
        block = next_block(chain, entries, lines, CREATED + 60, consortium.keys)
        chain.follow(block)
        blocks.append(block)
        lines = lines_by(consortium, block.checkpoint, *consortium.folders)
    return blocks


def test_a_head_that_is_not_shown_to_extend_its_own_is_refused(four: Consortium) -> None:
    four.api.blocks[:] = second_history(four, 3)
    for _ in range(2):  # a restart between
        with pytest.raises(ForkRefused, match="not shown to extend"):
            four.witness(ONE).step()
        four.witnesses.clear()
    assert evidence_of(four) == []  # nobody signs a proof
    assert replica_of(four).height() == 1


def test_another_block_at_a_signed_height_is_kept_as_evidence(four: Consortium) -> None:
    other = block_of(four, [four.erasure("another")])
    four.add([four.erasure("one")])
    four.api.blocks[-1] = other
    with pytest.raises(ForkRefused):
        four.witness(ONE).step()
    [(height, head, _)] = evidence_of(four)
    assert (height, head) == (2, SignedHead(other.checkpoint, (other.signature,)))


def test_anothers_head_over_another_block_is_kept_and_stops_nobody(four: Consortium) -> None:
    other = block_of(four, [four.erasure("another")])
    head = SignedHead(other.checkpoint, (other.signature, *lines_by(four, other.checkpoint, TWO)))
    four.propose([four.erasure("one")])
    four.api.other_heads.append((TWO, head))
    assert four.witness(ONE).step() == 2
    assert set(lines_at(four, 2)) == {ONE}
    what = "hospital-2 signed another block at height 2"
    assert [(h, n, w) for h, n, w in evidence_of(four)] == [(2, head, what)]
    four.api.other_heads.clear()
    four.witnesses.clear()
    assert four.witness(ONE).step() == 2
    assert [(h, n) for h, n, _ in evidence_of(four)] == [(2, head)]


def test_heads_that_nobody_signed_are_no_evidence(four: Consortium) -> None:
    other = block_of(four, [four.erasure("another")])
    text = other.checkpoint.text()
    stranger, keys = SecretKey(Role.COSIGN, bytes(32)), four.folders[TWO].keys
    four.add([four.erasure("one")])
    nonsense: list[tuple[str, ...]] = [
        (),
        ("not a line",),
        (sign_note(other.checkpoint.origin, stranger, text),),
        (cosign(TWO, stranger, text, CREATED),),
        (cosign("hospital-9", stranger, text, CREATED),),
        (cosign(THREE, keys[Role.COSIGN], text, CREATED),),
        (cosign(TWO, keys[Role.RECORD], text, CREATED),),
        (cosign(TWO, keys[Role.COSIGN], text + "x", CREATED),),
        (lines_at(four, 2)[TWO],),
        (other.signature, cosign(TWO, stranger, text, CREATED)),
    ]
    four.api.other_heads += [(TWO, SignedHead(other.checkpoint, lines)) for lines in nonsense]
    assert four.witness(ONE).step() == 2
    assert evidence_of(four) == []


# a cosignature in its own name that it did not make


def clones_line(consortium: Consortium, height: int) -> str:
    checkpoint = consortium.api.blocks[height].checkpoint
    return lines_by(consortium, checkpoint, ONE, at=99)[0]


def in_block_lines(four: Consortium) -> None:
    four.api.cosignatures[2][ONE] = clones_line(four, 2)


def in_lines_of_a_block_it_does_not_hold(four: Consortium) -> None:
    four.propose([four.erasure("three")])
    four.api.cosignatures[3] = {ONE: clones_line(four, 3)}


def in_a_parents_certificate(four: Consortium) -> None:
    own = lines_at(four, 2).pop(ONE)
    lines_at(four, 2)[ONE] = clones_line(four, 2)
    four.propose([four.erasure("three")])
    four.api.cosignatures[2][ONE] = own


def in_heads(four: Consortium) -> None:
    block = four.api.blocks[1]
    head = SignedHead(block.checkpoint, (block.signature, clones_line(four, 1)))
    four.api.other_heads.append((ONE, head))


def in_conflicts(four: Consortium) -> None:
    four.api.conflicts.append((1, clones_line(four, 1)))


def in_the_answer_to_its_own(four: Consortium) -> None:
    def refuse(height: int, line: str) -> None:
        four.api.cosignatures[height][ONE] = clones_line(four, height)
        raise CosignatureConflict("another cosignature stands on that block", "")

    four.api.send_cosignature = refuse  # type: ignore[method-assign]
    four.witnesses.clear()  # which would not send it again


SHOWN = [
    in_block_lines, in_lines_of_a_block_it_does_not_hold, in_a_parents_certificate, in_heads,
    in_conflicts, in_the_answer_to_its_own,
]  # fmt: skip


@pytest.mark.parametrize("show", SHOWN)
def test_its_own_cosignature_that_it_did_not_make_stops_it_for_good(
    four: Consortium, show: Callable[[Consortium], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    four.add([four.erasure("two")])
    send = four.api.send_cosignature
    show(four)
    with pytest.raises(MemberStopped):
        four.witness(ONE).step()
    four.api.other_heads.clear()
    four.api.conflicts.clear()
    four.api.send_cosignature = send  # type: ignore[method-assign]
    four.api.cosignatures = {h: dict(ls) for h, ls in four.api.cosignatures.items() if h < 3}
    for height, line in replica_of(four).own_lines().items():
        four.api.cosignatures[height][ONE] = line  # nothing shows it any more
    sent, newest = len(four.api.sent), max(replica_of(four).own_lines())
    four.witnesses.clear()
    for _ in range(2):
        with pytest.raises(MemberStopped):
            four.witness(ONE).step()
    # Nothing but the warning, over what it had signed before.
    assert [height for height, _ in four.api.sent[sent:]] == [newest]
    assert [head.lines[-1].split()[1] for _, head, _ in evidence_of(four)] == [ONE]


@pytest.mark.parametrize("height", [2, 3])
def test_its_own_head_over_a_block_that_it_does_not_hold_stops_it(
    four: Consortium, height: int
) -> None:
    """At a height that it holds, and above: both are by its key, and not by it."""
    two, three = second_history(four, 3)[2:]
    four.add([four.erasure("two")])
    other = {2: two, 3: three}[height]
    line = lines_by(four, other.checkpoint, ONE)[0]
    four.api.other_heads.append((ONE, SignedHead(other.checkpoint, (other.signature, line))))
    with pytest.raises(MemberStopped):
        four.witness(ONE).step()


def test_a_forged_line_in_its_name_does_not_stop_it(four: Consortium) -> None:
    four.add([four.erasure("two")])
    checkpoint = four.api.blocks[2].checkpoint
    forged = cosign(ONE, SecretKey(Role.COSIGN, bytes(32)), checkpoint.text(), CREATED)
    four.api.conflicts += [(2, forged), (2, lines_at(four, 1)[ONE])]
    assert four.witness(ONE).step() == 2
    assert evidence_of(four) == []


def test_its_own_older_cosignature_shown_with_a_block_to_come_does_not_stop_it(
    four: Consortium,
) -> None:
    """Else a coordinator stops whom it likes, and a quorum of them for good."""
    four.propose([four.erasure("two")])
    two = four.api.blocks.pop()
    four.api.blocks += [two, four.api.blocks[1]]  # block 1 once more, as if it were block 3
    four.api.cosignatures[3] = dict(lines_at(four, 1))
    claimed = replace(two.checkpoint, height=3)
    four.api.newest = lambda: claimed  # type: ignore[method-assign]
    with pytest.raises((LedgerError, ForkRefused)):
        four.witness(ONE).step()
    assert replica_of(four).stopped(four.folders[ONE].keys[Role.COSIGN].public.key_id) is None


@pytest.mark.parametrize("height", [1, 2, 3])
def test_a_restored_copy_is_stopped(four: Consortium, tmp_path: Path, height: int) -> None:
    path, aside = four.folders[ONE].path / "replica.sqlite", tmp_path / "aside.sqlite"
    for at in (2, 3, 4):
        if at - 1 == height:
            shutil.copy(path, aside)
        four.add([four.erasure(f"block {at}")])
    before = set(four.api.sent)
    shutil.copy(aside, path)
    for _ in range(2):
        four.witnesses.clear()
        with pytest.raises(MemberStopped):
            four.witness(ONE).step()
        for lines in four.api.cosignatures.values():
            lines.pop(ONE, None)  # hidden from then on
    assert {at for at, _ in set(four.api.sent) - before} == {height}  # the warning
    # It follows, and signs nothing new.
    assert max(replica_of(four).own_lines(), default=0) <= height


def test_whoever_is_stopped_warns_the_other_who_stops_too(four: Consortium, tmp_path: Path) -> None:
    """The clone was faster, and has seen nothing strange: it would go on for good."""
    clone = HospitalFolder(Path(shutil.copytree(four.folders[ONE].path, tmp_path / "clone")))
    four.propose([four.erasure("two")])
    with mock.patch("hospital_agent.witness.time.time", return_value=time.time() + 5):
        other = Witness(clone, four.api)
        assert other.step() == 2
    with pytest.raises(MemberStopped):
        four.witness(ONE).step()
    with pytest.raises(MemberStopped):
        other.step()
    for each in (four.witness(ONE), other):  # once: nobody signs on and on
        with pytest.raises(MemberStopped):
            each.step()
    assert len(four.api.conflicts) == 2


def test_a_warning_that_is_not_taken_does_not_hide_why_it_stopped(four: Consortium) -> None:
    path = four.folders[ONE].path / "replica.sqlite"
    shutil.copy(path, path.with_name("aside"))
    four.add([four.erasure("two")])
    shutil.copy(path.with_name("aside"), path)
    four.witnesses.clear()
    taken = four.api.send_cosignature

    def refuse(height: int, line: str) -> None:
        if (height, line) not in four.api.sent:
            raise ApiUnreachable("the API did not accept it", "")

    four.api.send_cosignature = refuse  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises(MemberStopped):
            four.witness(ONE).step()
    four.api.send_cosignature = taken  # type: ignore[method-assign]
    with pytest.raises(MemberStopped):
        four.witness(ONE).step()
    assert len(four.api.conflicts) == 1  # tried again


def test_a_lost_copy_is_stopped(four: Consortium) -> None:
    before = set(four.api.sent)
    (four.folders[ONE].path / "replica.sqlite").unlink()
    for _ in range(2):
        four.witnesses.clear()
        with pytest.raises(MemberStopped):
            four.witness(ONE).step()
        for lines in four.api.cosignatures.values():
            lines.pop(ONE, None)
    assert set(four.api.sent) == before


# new keys


def rotated(four: Consortium, name: str = ONE) -> list[Entry]:
    """A decided change by which a hospital gives itself new keys."""
    folder = four.folders[name]
    base = four.newest.upcoming.digest
    entry = rotation(folder, base, folder.path / "approver.pem", None)
    Approvals(folder.path / "approvals.sqlite").keep(entry)
    return four.decided(entry)


def key_of(four: Consortium, name: str = ONE) -> str:
    return four.folders[name].keys[Role.COSIGN].public.key_id


def test_new_keys_are_taken_once_they_are_in_force_and_final(four: Consortium) -> None:
    old = key_of(four)
    four.propose(rotated(four))
    following = four.folders[ONE].next_keys()
    assert following is not None
    new = following[Role.COSIGN].public
    four.cosign_all([ONE, TWO])
    four.witness(ONE).step()
    assert key_of(four) == old  # two of four are no quorum
    four.cosign_all([THREE])
    four.witness(ONE).step()  # now it knows
    four.witness(ONE).step()
    assert key_of(four) == new.key_id
    four.add([four.erasure("three")])
    verify_cosignature(lines_at(four, 3)[ONE], ONE, new, four.newest.checkpoint.text())
    four.witnesses.clear()
    assert four.witness(ONE).step() == 3
    folder = HospitalFolder(four.folders[ONE].path)
    assert folder.keys[Role.COSIGN].public == new
    assert not (folder.path / "member.next.json").exists()
    assert not (folder.path / "keys.next").exists()
    assert len(list(folder.path.glob("keys.retired-*"))) == 1
    assert enrol(folder) == four.newest.members[ONE]


def test_killed_between_taking_the_keys_it_goes_on_with_the_new_ones(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four.add(rotated(four))
    following = HospitalFolder(four.folders[ONE].path).next_keys()
    assert following is not None
    new = following[Role.COSIGN].public
    with monkeypatch.context() as patch:
        patch.setattr(HospitalFolder, "_finish_rotation", kill)
        with pytest.raises(KeyboardInterrupt):
            four.witness(ONE).step()
    four.witnesses.clear()
    four.folders[ONE] = HospitalFolder(four.folders[ONE].path)
    four.add([four.erasure("three")])
    verify_cosignature(lines_at(four, 3)[ONE], ONE, new, four.newest.checkpoint.text())


def test_new_keys_are_taken_although_the_next_block_waits_for_this_hospital(
    four: Consortium,
) -> None:
    """It signed the change first, one is away, and the coordinator is quick."""
    four.propose(rotated(four))
    four.cosign_all([ONE, TWO, THREE])
    four.propose([four.erasure("three")])
    four.cosign_all([TWO, THREE])
    for _ in range(3):
        four.witness(ONE).step()
    assert set(lines_at(four, 3)) == {ONE, TWO, THREE}


def test_a_stop_is_for_the_key_that_was_misused(four: Consortium) -> None:
    misused = key_of(four)
    four.add(rotated(four))
    four.witness(ONE).step()
    replica_of(four).stop(misused, "a clone signed")
    four.add([four.erasure("three")])
    assert ONE in lines_at(four, 3)


def test_a_stopped_member_follows_until_its_new_keys_are_in_force(four: Consortium) -> None:
    four.add([four.erasure("two")])
    in_conflicts(four)
    with pytest.raises(MemberStopped):
        four.witness(ONE).step()
    four.propose(rotated(four))
    four.cosign_all([TWO, THREE, FOUR])
    for _ in range(3):
        with suppress(MemberStopped):
            four.witness(ONE).step()
    assert ONE not in lines_at(four, 3)
    four.propose([four.erasure("four")])
    four.cosign_all([TWO, THREE, FOUR])
    for _ in range(2):
        four.witness(ONE).step()
    assert ONE in lines_at(four, 4)


def test_the_api_is_shown_the_old_key_and_the_new_one(four: Consortium) -> None:
    folder, ledger = four.folders[ONE], four.newest.ledger
    before = four.newest.members
    rotated(four)
    following = folder.next_keys()
    assert following is not None
    after = {**before, ONE: _form_with(folder, following)}
    for members, calls in ((before, 1), (after, 2), ({}, 2)):
        seen: list[bool] = []

        def answer(request: httpx.Request, members=members, seen=seen) -> httpx.Response:
            token = request.headers["Authorization"].removeprefix("Bearer ")
            try:
                seen.append(check_token(token, ledger, members) == ONE)
            except Exception:
                seen.append(False)
                return httpx.Response(401)
            return httpx.Response(204)

        transport = httpx.MockTransport(answer)
        with httpx.Client(transport=transport, base_url="http://consortium") as client:
            api = LedgerApi(client, folder)
            if members:
                api.send_cosignature(1, "line")
            else:
                with pytest.raises(ApiUnreachable, match="401"):
                    api.send_cosignature(1, "line")
        assert seen == [False] * (calls - 1) + [bool(members)]


def _form_with(folder: HospitalFolder, ring: KeyRing):
    return _member_form(folder, ring, SecretKey(Role.APPROVAL, bytes(range(32))))


# records in its own name between rounds


def foreign_rotation(four: Consortium, tmp_path: Path) -> Rotate:
    """New keys for ONE by whoever stole its record key."""
    ring = KeyRing.open(tmp_path / "thief")
    form = _form_with(four.folders[ONE], ring)
    message = consent_message(four.newest.ledger, form)
    return Rotate(
        kind="rotate", member=form, consent=ring[Role.RECORD].sign(message).hex(),
        consent_of_old=four.folders[ONE].keys[Role.RECORD].sign(message).hex(),
    )  # fmt: skip


def forged_by_one(four: Consortium, theirs: Entry, key: SecretKey) -> Entry:
    """Another's record in ONE's name, by whoever stole its key."""
    record = theirs.record
    assert isinstance(record, Change | Approval)
    return sign_record(record.model_copy(update={"author": ONE}), [key])


@pytest.mark.parametrize("kind", ["change", "approval", "keys"])
def test_what_it_did_not_hand_in_is_not_signed(four: Consortium, tmp_path: Path, kind: str) -> None:
    if kind == "keys":
        entries = [four.change(foreign_rotation(four, tmp_path))]
    else:
        proposed = four.change(Suspend(kind="suspend", institution=FOUR))
        if kind == "change":
            entries = [forged_by_one(four, proposed, four.folders[ONE].keys[Role.RECORD])]
        else:
            person = open_approver(four.folders[ONE].path / "approver.pem", None)
            entries = [proposed, forged_by_one(four, *four.approvals(proposed, [TWO]), person)]
    four.propose(entries)
    with pytest.raises(OwnRecordChanged):
        four.witness(ONE).step()
    assert lines_at(four, 2) == {}
    four.cosign_all([TWO, THREE, FOUR])
    assert len(lines_at(four, 2)) == 3


# lies that must come to nothing


def test_a_forged_end_of_a_job_beside_a_known_header_releases_no_budget(
    after_verify: Consortium,
) -> None:
    four = after_verify
    four.add(four.result()[0])
    folder = four.folders[ONE]
    cohort = Cohort.open(folder, TASK).id
    held = folder.budget.status(cohort).reserved.mu2
    assert held > 0
    forged = four.end_job("stopped", 1, "0" * 64)
    four.api.blocks[-1] = replace(four.api.blocks[-1], entries=(forged,))
    with suppress(LedgerError):
        four.witness(ONE).step()
    assert folder.budget.status(cohort).reserved.mu2 == held


def test_a_genesis_with_a_parents_certificate_is_refused_with_a_code(four: Consortium) -> None:
    block = four.api.blocks[0]
    line = lines_at(four, 1)[ONE]
    four.api.blocks[:] = [replace(block, parent_cert=(line,))]
    (four.folders[ONE].path / "replica.sqlite").unlink()
    four.api.cosignatures.clear()
    with pytest.raises(LedgerError):
        four.witness(ONE).step()


def test_a_conflict_at_no_height_is_ignored_or_refused_with_a_code(four: Consortium) -> None:
    four.api.conflicts.append((-3, lines_at(four, 1)[ONE]))
    assert four.witness(ONE).step() == 1


def test_an_unsigned_header_under_its_own_head_is_no_evidence(four: Consortium) -> None:
    block = four.api.blocks[1]
    four.api.blocks[1] = replace(block, header=replace(block.header, time=block.header.time + 1))
    with pytest.raises(ForkRefused):
        four.witness(ONE).step()
    assert evidence_of(four) == []


def test_a_spoiled_proof_over_an_honest_head_is_no_evidence(four: Consortium) -> None:
    for at in (2, 3):
        four.propose([four.erasure(f"block {at}")])
        four.cosign_all([TWO, THREE, FOUR])
    four.api.consistency_proof = lambda old, size: [bytes(32)]  # type: ignore[method-assign]
    with pytest.raises((ForkRefused, LedgerError)):
        four.witness(ONE).step()
    assert evidence_of(four) == []


def test_the_coordinators_fork_is_not_laid_on_a_member(four: Consortium) -> None:
    other = block_of(four, [four.erasure("another")])
    four.add([four.erasure("one")])
    four.api.other_heads.append((TWO, SignedHead(other.checkpoint, (other.signature,))))
    with suppress(ForkRefused):
        four.witness(ONE).step()
    assert not any(TWO in what for _, _, what in evidence_of(four))
