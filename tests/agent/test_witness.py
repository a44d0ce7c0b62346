"""What a hospital co-signs, what it never does, and what it answers when asked again."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from consortium_in_memory import CREATED, TASK, Api, Consortium, copy_of, found, make_genesis

from consortium.errors import EnrolmentInvalid, RoundInvalid
from consortium.phases import Phase
from hospital_agent.cohort import Cohort
from hospital_agent.enrolment import enrol, sign_genesis
from hospital_agent.errors import ClocksDiffer, ForkRefused, GenesisRefused, OwnRecordChanged
from hospital_agent.folder import HospitalFolder
from hospital_agent.replica import Replica
from hospital_agent.witness import CLOCK_TOLERANCE_S, Witness
from ledger.block import Block
from ledger.content import model_hash
from ledger.entry import Entry, assemble, record_signature, sign_record
from ledger.errors import ContentInvalid, LedgerError, SignatureInvalid
from ledger.keys import KeyRing, Role
from ledger.note import verify_cosignature
from ledger.records import Close, Result
from ledger.sequencer import genesis_block, next_block

ONE = "hospital-1"


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
    assert folder.budget.status(cohort).mu2_reserved > 0
    four.propose([entry])
    with monkeypatch.context() as patch:
        patch.setattr("privacy.budget.Budget.release", kill)
        with pytest.raises(KeyboardInterrupt):
            four.witness(ONE).step()
    assert folder.budget.status(cohort).mu2_reserved > 0
    four.witnesses.clear()
    four.witness(ONE).step()
    assert folder.budget.status(cohort).mu2_reserved == 0
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


def test_a_founder_that_does_not_show_its_keys_is_refused_by_every_other(tmp_path) -> None:
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
    forged = second.model_copy(update={"possession": {**second.possession, Role.COSIGN: "00" * 64}})
    bad = genesis.model_copy(update={"founders": (genesis.founders[0], forged)})
    rings = [keys, one.keys, two.keys]
    entry = assemble(bad, [record_signature(bad, ring[Role.RECORD]) for ring in rings])
    api = Api([genesis_block(entry, keys)])
    with pytest.raises(EnrolmentInvalid):
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
    with pytest.raises((ForkRefused, LedgerError)):
        four.witness(ONE).step()
