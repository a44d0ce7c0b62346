"""A person's word on a job: asked for by the policy, about one contract, kept for good."""

import json
import sqlite3

import pytest
from commands import call, ok, refused
from consortium_in_memory import TASK, Consortium

from consortium.phases import Phase, Reply
from consortium.rounds.checks import privacy_terms
from hospital_agent.cohort import Cohort
from hospital_agent.decisions import APPROVE, REFUSE, Decisions, contract_digest
from hospital_agent.errors import ApprovalPending, JobRefusedByPerson
from hospital_agent.folder import HospitalFolder
from hospital_agent.job_card import job_card
from hospital_agent.policy import Policy, change_policy
from ledger.entry import Entry
from ledger.records import Refusal
from privacy.budget_status import cost_card

ONE = "hospital-1"
ALWAYS = Policy("3", "0.00001", (TASK,), approval="always")
NEVER = Policy("3", "0.00001", (TASK,))


def one(four: Consortium) -> HospitalFolder:
    return four.folders[ONE]


def decisions(four: Consortium) -> Decisions:
    return Decisions(one(four).path / "decisions.sqlite")


def refusal(reply: Reply) -> Refusal:
    record = Entry(reply.entries[0]).record
    assert isinstance(record, Refusal)
    return record


def test_nobody_is_asked_where_the_policy_does_not_want_it(four: Consortium) -> None:
    decisions(four).check(four.job, NEVER)
    with pytest.raises(ApprovalPending):
        decisions(four).check(four.job, ALWAYS)


def test_the_newest_word_counts_and_a_refusal_whatever_the_policy(four: Consortium) -> None:
    decisions(four).decide(four.job, APPROVE, "Ada")
    decisions(four).check(four.job, ALWAYS)
    decisions(four).decide(four.job, REFUSE, "Bob")
    for policy in (ALWAYS, NEVER):
        with pytest.raises(JobRefusedByPerson):
            decisions(four).check(four.job, policy)
    decisions(four).decide(four.job, APPROVE, "Bob")
    decisions(four).check(four.job, ALWAYS)
    with sqlite3.connect(one(four).path / "decisions.sqlite") as connection:
        rows = connection.execute("SELECT answer, person FROM decisions ORDER BY number")
        assert rows.fetchall() == [("approve", "Ada"), ("refuse", "Bob"), ("approve", "Bob")]


def test_the_same_word_again_changes_nothing(four: Consortium) -> None:
    first = decisions(four).decide(four.job, APPROVE, "Ada")
    assert decisions(four).decide(four.job, APPROVE, "Ada") == first
    with sqlite3.connect(one(four).path / "decisions.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM decisions").fetchone() == (1,)


@pytest.mark.parametrize("field", ["rounds", "seed", "job"])
def test_an_approval_is_of_one_contract_only(four: Consortium, field: str) -> None:
    decisions(four).decide(four.job, APPROVE, "Ada")
    changed = {"job": "job-2", "rounds": 7, "seed": 9}[field]
    other = four.job.model_copy(update={field: changed})
    assert contract_digest(other) != contract_digest(four.job)
    with pytest.raises(ApprovalPending):
        decisions(four).check(other, ALWAYS)


def test_a_job_waits_for_a_person_by_a_signed_code_and_nothing_is_reserved(
    four: Consortium,
) -> None:
    change_policy(one(four), {"approval": "always"})
    replies = four.ask(Phase.TRAIN)
    assert replies[ONE].error == refusal(replies[ONE]).code == "ApprovalPending"
    assert one(four).budget.status(Cohort.open(one(four), TASK).id).jobs == ()
    assert {reply.error for name, reply in replies.items() if name != ONE} == {""}
    ok("hospital-agent", "jobs", "approve", "job-1", "--as", "Ada", "--home", one(four).path)
    again = four.participant(ONE).answer(four.request(Phase.TRAIN))
    assert again.error == "ApprovalPending"  # one answer to a place, whatever comes later


def test_one_approved_takes_part_from_the_next_round_on(four: Consortium) -> None:
    change_policy(one(four), {"approval": "always"})
    four.play_round(1)
    ok("hospital-agent", "jobs", "approve", "job-1", "--as", "Ada", "--home", one(four).path)
    four.play_round(2)
    result = four.api.blocks[-1].entries[-1].record.body()
    assert ONE in [outcome["institution"] for outcome in result["proofs"]]


def test_a_person_ends_the_part_in_a_job_that_runs(four: Consortium) -> None:
    four.play_round(1)
    ok("hospital-agent", "jobs", "refuse", "job-1", "--as", "Ada", "--home", one(four).path)
    replies = four.ask(Phase.TRAIN, 2)
    assert replies[ONE].error == refusal(replies[ONE]).code == "JobRefusedByPerson"
    assert b"Ada" not in b"".join(replies[ONE].entries)


def test_the_policy_is_asked_before_the_person(four: Consortium) -> None:
    change_policy(one(four), {"approval": "always", "tasks": ()})
    assert four.ask(Phase.TRAIN)[ONE].error == "PolicyRefused"


def test_the_card_says_what_the_job_would_spend(four: Consortium) -> None:
    cohort = Cohort.open(one(four), TASK)
    card = job_card(one(four), four.job)
    assert (card.answer, card.policy) == ("takes part", "allows it")
    assert card.person == "need not approve"
    status = one(four).budget.status(cohort.id)
    own = next(p for p in four.job.participants if p.institution == ONE)
    assert card.cost == cost_card(status, privacy_terms(own)).text
    assert card.cost.startswith("uses 2 of 3 left; epsilon after 2, was 0, limit 3")
    assert one(four).budget.status(cohort.id) == status  # looking costs nothing
    four.ask(Phase.TRAIN)
    assert "reserved already: 0 rounds charged, 3 to come" in job_card(one(four), four.job).cost


def test_the_card_foretells_the_answer(four: Consortium) -> None:
    change_policy(one(four), {"approval": "always"})
    assert job_card(one(four), four.job).answer == "ApprovalPending"
    change_policy(one(four), {"job_epsilon": "1"})
    card = job_card(one(four), four.job)
    assert card.answer == "PolicyRefused"
    assert card.policy.startswith("refuses it by its rule job_epsilon")
    change_policy(one(four), {"job_epsilon": "3", "approval": "never", "lifetime_epsilon": "1.9"})
    card = job_card(one(four), four.job)
    assert card.cost.startswith("does not fit: uses 2 of 1.9 left")
    answers = {job_card(one(four), four.job).answer, four.ask(Phase.TRAIN)[ONE].error}
    assert len(answers) == 1


def test_the_card_of_a_job_of_others(four: Consortium) -> None:
    others = tuple(p for p in four.job.participants if p.institution != ONE)
    card = job_card(one(four), four.job.model_copy(update={"participants": others}))
    assert (card.answer, card.declared_patients) == ("has no part", None)


def test_the_commands(four: Consortium) -> None:
    home = one(four).path
    listed = json.loads(
        ok("hospital-agent", "jobs", "list", "--home", home, "--format", "json").out
    )
    assert [(job["job"], job["state"], job["answer"]) for job in listed] == [
        ("job-1", "running", "takes part")
    ]
    assert "limit 3" in ok("hospital-agent", "jobs", "show", "job-1", "--home", home).out
    refused("JobUnknown", "hospital-agent", "jobs", "show", "job-9", "--home", home)
    refused("JobUnknown", "hospital-agent", "jobs", "approve", "job-9", "--as", "A", "--home", home)
    refused(
        "OptionInvalid", "hospital-agent", "jobs", "refuse", "job-1", "--as", " ", "--home", home
    )
    assert call("hospital-agent", "jobs", "approve", "job-1", "--home", home).code == 2  # who?
    done = ok("hospital-agent", "jobs", "refuse", "job-1", "--as", "Dr.  Ada", "--home", home)
    assert (done.value("person"), done.value("answer")) == (
        "refused by Dr. Ada",
        "JobRefusedByPerson",
    )


def test_a_job_that_is_over_is_not_decided_any_more(four: Consortium) -> None:
    four.add([four.end_job("stopped", 0, four.job.initial_model)])
    home = one(four).path
    refused("JobUnknown", "hospital-agent", "jobs", "refuse", "job-1", "--as", "A", "--home", home)
    card = job_card(one(four), four.job)
    assert (card.state, card.answer) == ("over", "is over")


def test_before_any_ledger_there_is_no_job(four: Consortium) -> None:
    folder = four.newcomer("hospital-9")
    assert json.loads(
        ok("hospital-agent", "jobs", "list", "--home", folder.path, "--format", "json").out
    ) == []  # fmt: skip
    assert not (folder.path / "replica.sqlite").exists()
