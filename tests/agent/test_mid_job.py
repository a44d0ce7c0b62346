"""What the data owner changes while a job runs holds from then on, and undoes nothing."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from consortium_in_memory import TASK, Consortium

from consortium.phases import Phase, Reply
from hospital_agent.cohort import Cohort
from hospital_agent.decisions import REFUSE, Decisions
from hospital_agent.folder import HospitalFolder
from hospital_agent.job_card import job_card
from hospital_agent.policy import Policy, change_policy
from ledger.content import digest
from ledger.entry import Entry
from ledger.records import Refusal, Result
from privacy.budget_status import BudgetStatus
from privacy.errors import EpsilonOutOfPolicy
from privacy.noise import SecureNoise

ONE, OTHERS = "hospital-1", {"hospital-2", "hospital-3", "hospital-4"}


def status(four: Consortium) -> BudgetStatus:
    folder = HospitalFolder(four.folders[ONE].path)
    return folder.budget.status(Cohort.open(folder, TASK).id)


def charged(four: Consortium) -> int:
    return sum(job.rounds_charged for job in status(four).jobs)


def last_result(four: Consortium) -> Result:
    record = four.api.blocks[-1].entries[-1].record
    assert isinstance(record, Result)
    return record


def denies_the_task(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"tasks": ()})


def allows_less(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"job_epsilon": "0.5"})


def wants_more_institutions(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"fewest_institutions": 5})


def asks_a_person(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"approval": "always"})


def a_person_refuses(four: Consortium) -> None:
    path = four.folders[ONE].path / "decisions.sqlite"
    Decisions(path).decide(four.job, REFUSE, "A. Person")


CHANGES = [
    (denies_the_task, "PolicyRefused"), (allows_less, "PolicyRefused"),
    (wants_more_institutions, "PolicyRefused"), (asks_a_person, "ApprovalPending"),
    (a_person_refuses, "JobRefusedByPerson"),
]  # fmt: skip
Change = Callable[[Consortium], None]


@pytest.mark.parametrize(("change", "code"), CHANGES[-1:])
def test_before_a_round(four: Consortium, change: Change, code: str) -> None:
    """The next round is refused by a signed code; what was spent stays spent."""
    four.play_round(1)
    spent = status(four).spent
    change(four)
    four.play_round(2)
    absent = [(a.institution, a.phase, a.code) for a in last_result(four).absent]
    assert absent == [(ONE, "train", code)]
    assert {proof.institution for proof in last_result(four).proofs} == OTHERS
    assert (status(four).spent, charged(four)) == (spent, 1)


@pytest.mark.parametrize(("change", "code"), CHANGES[::2])
def test_before_the_reveal(four: Consortium, change: Change, code: str) -> None:
    """What was trained and committed to stays at the hospital: nothing leaves, nothing is paid."""
    four.play(1, Phase.CLOSE)
    change(four)
    replies = four.ask(Phase.REVEAL)
    assert replies[ONE] == Reply(ONE, (), (), code)
    assert charged(four) == 0
    four.ask(Phase.VERIFY)
    four.add(four.result(1)[0])
    assert {proof.institution for proof in last_result(four).proofs} == OTHERS
    assert [(a.institution, a.phase) for a in last_result(four).absent] == [(ONE, "reveal")]
    assert set(four.api.cosignatures[four.newest.header.height]) == {ONE, *OTHERS}


@pytest.mark.parametrize(("change", "code"), CHANGES[:1])
def test_after_the_reveal(four: Consortium, change: Change, code: str) -> None:
    """What has left cannot be taken back: the same bytes are shown, and the verdict is given."""
    four.play(1, Phase.REVEAL)
    shown = four.participant(ONE).answer(four.request(Phase.REVEAL))
    change(four)
    assert four.participant(ONE).answer(four.request(Phase.REVEAL)) == shown
    assert four.ask(Phase.VERIFY)[ONE].error == ""
    assert charged(four) == 1


def test_whoever_lost_what_it_trained_shows_no_second_update(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a backup, which holds the budget and not `rounds.sqlite`; the others help."""
    monkeypatch.setattr("hospital_agent.participant.SecureNoise", SecureNoise)
    four.play(1, Phase.REVEAL)
    first = four.updates[ONE]
    for folder in four.folders.values():
        (folder.path / "rounds.sqlite").unlink()
    four.play(1, Phase.TRAIN)
    four.ask(Phase.CLOSE)
    committed = four.participant(ONE).memory.trained((four.job.job, 1, 1))
    assert committed is not None
    assert committed.update != digest(first)  # trained anew, with other noise
    assert four.ask(Phase.REVEAL)[ONE] == Reply(ONE, (), (), "RoundReplay")
    assert charged(four) == 1


def test_a_change_that_is_taken_back(four: Consortium) -> None:
    denies_the_task(four)
    refused = four.ask(Phase.TRAIN)[ONE]
    assert isinstance(Entry(refused.entries[0]).record, Refusal)
    change_policy(four.folders[ONE], {"tasks": (TASK,)})
    # One answer to a place: who refused this attempt takes part from the next one on.
    assert four.participant(ONE).answer(four.request(Phase.TRAIN)).entries == refused.entries
    four.play_round(1)
    assert four.ask(Phase.TRAIN, 2)[ONE].error == ""
    assert charged(four) == 0


def test_a_lifetime_below_what_a_running_job_holds_is_refused(four: Consortium) -> None:
    four.ask(Phase.TRAIN)
    with pytest.raises(EpsilonOutOfPolicy):
        change_policy(four.folders[ONE], {"lifetime_epsilon": "1.9"})
    change_policy(four.folders[ONE], {"lifetime_epsilon": "2.5"})
    four.ask(Phase.CLOSE)
    assert four.ask(Phase.REVEAL)[ONE].error == ""
    assert charged(four) == 1


def test_a_policy_written_by_hand_does_not_promise_less_than_is_enforced(four: Consortium) -> None:
    """The budget went on up to its own limit, 3, while the policy said 2."""
    folder = four.folders[ONE]
    replace(Policy.read(folder.path / "policy.json"), lifetime_epsilon="2").write(
        folder.path / "policy.json"
    )
    assert job_card(folder, four.job).answer == "PolicyRefused"
    assert four.ask(Phase.TRAIN)[ONE].error == "PolicyRefused"
    change_policy(folder, {"lifetime_epsilon": "2"})
    assert status(four).epsilon_limit == 2
    assert job_card(folder, four.job).answer == "takes part"
