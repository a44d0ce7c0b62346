"""A round that too few closed is tried again: it costs nothing, and nobody reveals twice."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from consortium_in_memory import TASK, Consortium, data

from consortium.errors import RoundInvalid
from consortium.phases import Phase, Reply
from consortium.rounds.replay import released_model
from consortium.rounds.result import RoundRecords
from hospital_agent.cohort import Cohort
from hospital_agent.errors import OwnRecordChanged, RevealDropped
from hospital_agent.folder import HospitalFolder
from hospital_agent.view import ReplicaView
from ledger.content import model_hash
from ledger.entry import Entry, sign_record
from ledger.keys import Role
from ledger.records import JobEnd, Proof, Result
from ledger.sequencer import next_block
from privacy.budget_status import BudgetStatus, JobStatus

ONE, TWO, THREE, FOUR = (f"hospital-{i}" for i in range(1, 5))


def status(consortium: Consortium, name: str) -> BudgetStatus:
    folder = HospitalFolder(consortium.folders[name].path)
    return folder.budget.status(Cohort.open(folder, TASK).id)


def budget(consortium: Consortium, name: str) -> JobStatus:
    (job,) = status(consortium, name).jobs
    return job


def newest(consortium: Consortium) -> Result:
    record = consortium.api.blocks[-1].entries[-1].record
    assert isinstance(record, Result)
    return record


def signers(consortium: Consortium) -> set[str]:
    return set(consortium.api.cosignatures.get(consortium.newest.header.height, {}))


def results(consortium: Consortium) -> list[Result]:
    return list(ReplicaView(consortium.folders[ONE]).results(consortium.job.job))


def too_few(consortium: Consortium, round: int, closing: Iterable[str] = (ONE, TWO)) -> Result:
    """An attempt in which all commit and too few close, final."""
    consortium.records, consortium.updates = RoundRecords(), {}
    consortium.ask(Phase.TRAIN, round)
    consortium.ask(Phase.CLOSE, round, closing)
    consortium.add(consortium.result(round)[0])
    consortium.attempt += 1
    return newest(consortium)


# honest members, an honest coordinator


@pytest.mark.parametrize("attempts", [1, 2])
def test_the_round_is_tried_again_until_a_quorum_closes(four: Consortium, attempts: int) -> None:
    committed: set[bytes] = set()
    for number in range(1, attempts + 1):
        result = too_few(four, 1)
        assert (result.round, result.attempt, result.again, result.void) == (1, number, True, True)
        assert (result.proofs, result.minted) == ((), 0)
        assert result.model_after == result.model_before == four.job.initial_model
        assert {(a.institution, a.phase) for a in result.absent} >= {(THREE, "close")}
        assert signers(four) == set(four.folders)
        committed |= set(data(four.records.commitments))
    model = four.play_round(1)
    result = newest(four)
    assert (result.round, result.attempt, result.again) == (1, attempts + 1, False)
    assert {o.code for o in result.proofs} == {"Accepted"}
    assert result.model_after == model_hash(model) != four.job.initial_model
    assert signers(four) == set(four.folders)
    # Trained anew each time, under the new base.
    assert len(committed | set(data(four.records.commitments))) == 4 * (attempts + 1)


def test_attempts_spend_nothing_and_the_job_gets_all_its_rounds(four: Consortium) -> None:
    for failing, round in ((2, 1), (0, 2), (1, 3)):
        four.attempt = 1
        for _ in range(failing):
            before = {name: status(four, name).spent.mu2 for name in four.folders}
            too_few(four, round)
            for name, spent in before.items():
                assert status(four, name).spent.mu2 == spent
                assert budget(four, name).rounds_charged == round - 1
                assert budget(four, name).rounds_reserved == 3 - (round - 1)
        four.play_round(round)
        assert {o.code for o in newest(four).proofs} == {"Accepted"}
    for name in four.folders:
        job = budget(four, name)
        assert (job.rounds_charged, job.rounds_reserved, job.reserved.mu2) == (3, 0, 0)
    view = ReplicaView(four.folders[ONE])
    assert [(r.round, r.attempt) for r in results(four)] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (3, 2),
    ]  # fmt: skip
    model = model_hash(released_model(view, four.job, view.results("job-1")))
    refuse(four, [four.end_job("stopped", 6, model)], RoundInvalid)
    four.add([four.end_job("finished", 3, model)])
    end = four.api.blocks[-1].entries[-1].record
    assert isinstance(end, JobEnd)
    assert end.rounds == 3
    assert signers(four) == set(four.folders)


def refuse(consortium: Consortium, entries: list[Entry], error: type[Exception]) -> None:
    """No hospital signs a block of these entries; it is withdrawn."""
    newest = consortium.newest
    lines = sorted(consortium.api.cosignatures[newest.header.height].values())
    block = next_block(newest, entries, lines, newest.header.time, consortium.keys)
    consortium.api.blocks.append(block)
    for name in consortium.folders:
        with pytest.raises(error):
            consortium.witness(name).step()
    assert consortium.api.blocks.pop().header.height not in consortium.api.cosignatures


@pytest.mark.parametrize("place", [(1, 1), (1, 3), (2, 1), (2, 2), (0, 2), (1, 0)])
def test_after_one_attempt_no_other_place_is_trained_for(
    four: Consortium, place: tuple[int, int]
) -> None:
    too_few(four, 1)
    request = four.request(Phase.TRAIN)
    round, attempt = place
    reply = four.participant(ONE).answer(replace(request, round=round, attempt=attempt))
    assert (reply.error, reply.entries, reply.content) == ("PhaseOutOfOrder", (), ())
    assert four.participant(ONE).answer(request).error == ""


def test_who_refused_one_attempt_may_take_part_in_the_next(four: Consortium) -> None:
    policy = four.folders[ONE].path / "policy.json"
    allowed = policy.read_bytes()
    policy.write_text("{}")
    assert too_few(four, 1, (TWO, THREE)).absent[0].code == "FolderInvalid"
    policy.write_bytes(allowed)
    four.play_round(1)
    assert [o.code for o in newest(four).proofs] == ["Accepted"] * 4


# a coordinator that lies, or forgets


def test_an_attempt_that_a_quorum_closed_is_called_again_by_no_member(
    after_verify: Consortium,
) -> None:
    four = after_verify
    entries, _ = four.result()
    result = entries[-1].record
    assert isinstance(result, Result)
    closed = RoundRecords(four.records.commitments, closes=four.records.closes[:3])
    nothing = {
        "again": True, "void": True, "proofs": (), "fees": (), "learner": None, "bonus": 0,
        "minted": 0, "model_after": result.model_before,
    }  # fmt: skip
    for records in (four.records, closed):
        absent, kept = result.absent, four.records
        four.records = records
        honest = four.result()[0][-1].record
        assert isinstance(honest, Result)
        assert not honest.again
        lie = honest.model_copy(update={**nothing, "absent": honest.absent or absent})
        refuse(four, [*records.all(), four.sign(lie)], RoundInvalid)
        four.records = kept


def revealed_to_a_liar(four: Consortium) -> Reply:
    """FOUR alone is asked to reveal; the block hides that a quorum had closed."""
    four.play(1, Phase.CLOSE)
    reply = four.participant(FOUR).answer(four.request(Phase.REVEAL))
    assert reply.content
    four.records = RoundRecords(four.records.commitments, closes=four.records.closes[:2])
    four.propose(four.result()[0])
    assert newest(four).again
    return reply


def test_who_has_revealed_does_not_sign_that_the_round_is_tried_again(four: Consortium) -> None:
    revealed_to_a_liar(four)
    four.cosign_all([ONE, TWO])
    for _ in range(2):
        with pytest.raises(RevealDropped):
            four.witness(FOUR).step()
    four.cosign_all([THREE])
    assert four.witness(FOUR).step() == four.newest.header.height  # final without it: followed
    assert signers(four) == {ONE, TWO, THREE}
    assert four.witness(FOUR).step() == four.newest.header.height
    assert signers(four) == {ONE, TWO, THREE}


def test_where_all_have_revealed_it_never_becomes_final(four: Consortium) -> None:
    four.play(1, Phase.REVEAL)
    four.records = RoundRecords(four.records.commitments, closes=four.records.closes[:2])
    four.propose(four.result()[0])
    for name in four.folders:
        with pytest.raises(RevealDropped):
            four.witness(name).step()
    assert signers(four) == set()


def test_who_has_revealed_refuses_the_next_attempts_in_public_and_goes_on_after(
    four: Consortium,
) -> None:
    revealed_to_a_liar(four)
    four.cosign_all([ONE, TWO, THREE, FOUR])
    four.attempt = 2
    four.records, four.updates = RoundRecords(), {}
    request = four.request(Phase.TRAIN)
    first = four.participant(FOUR).answer(request)
    (entry,) = first.entries
    assert (first.error, first.content) == ("RevealDropped", ())
    assert Entry(entry).record.body()["code"] == "RevealDropped"
    assert four.participant(FOUR).answer(request) == first
    assert too_few(four, 1).again  # nor in the one after
    four.play_round(1)
    assert four.attempt == newest(four).attempt == 3
    assert [(a.institution, a.phase, a.code) for a in newest(four).absent] == [
        (FOUR, "train", "RevealDropped")
    ]
    assert [o.code for o in newest(four).proofs] == ["Accepted"] * 3
    assert signers(four) == set(four.folders)
    assert budget(four, FOUR).rounds_charged == 1  # once for the round, whatever is said of it
    four.attempt = 1
    for round in (2, 3):
        four.play_round(round)
        assert {o.institution: o.code for o in newest(four).proofs}[FOUR] == "Accepted"
    assert budget(four, FOUR).rounds_charged == 3


# the reveal


def test_a_reveal_is_kept_before_it_leaves(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four.play(1, Phase.CLOSE)
    request, place = four.request(Phase.REVEAL), ("job-1", 1, 1)
    with monkeypatch.context() as patch:
        patch.setattr("hospital_agent.participant.Reply", kill)
        with pytest.raises(KeyboardInterrupt):
            four.participant(ONE).answer(request)
    kept = four.participant(ONE).memory.signed(place, "proof")
    assert kept is not None
    monkeypatch.setattr("hospital_agent.participant.Proof", kill)  # no second one is made
    reply = four.participant(ONE).answer(request)
    assert reply.entries == (kept[1],)
    assert reply.content
    assert budget(four, ONE).rounds_charged == 1


def kill(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_another_proof_in_ones_name_is_not_signed(after_verify: Consortium) -> None:
    four = after_verify
    entries, _ = four.result()
    at = next(i for i, e in enumerate(entries) if e.record.type == "proof")
    own = entries[at].record
    assert isinstance(own, Proof)
    assert own.author == ONE
    spend = own.spend.model_copy(update={"cohort": "0" * 32})
    forged = sign_record(
        own.model_copy(update={"spend": spend}), [four.folders[ONE].keys[Role.RECORD]]
    )
    four.records = RoundRecords.sort([*entries[:at], forged, *entries[at + 1 : -1]])
    four.records = replace(four.records, verdicts=())
    four.propose(four.result()[0])
    with pytest.raises(OwnRecordChanged, match="a proof"):
        four.witness(ONE).step()
