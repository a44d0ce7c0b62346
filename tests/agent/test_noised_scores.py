"""A job whose scores leave with noise: charged to validation patients before a verdict leaves."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from commands import ok
from consortium_in_memory import TASK, Api, Consortium, copy_of

from consortium.contract import BANDED, JobOrder, check_job, make_job
from consortium.errors import JobInvalid, RoundInvalid
from consortium.phases import Phase
from consortium.rounds.evaluation import check_evaluation, intervals
from consortium.rounds.replay import released_model
from consortium.rounds.verdict import score_terms
from hospital_agent.budget_plot import svg
from hospital_agent.budget_view import cohort_views
from hospital_agent.cohort import Cohort
from hospital_agent.errors import ApiUnreachable
from hospital_agent.evaluation import Evaluations
from hospital_agent.folder import HospitalFolder
from hospital_agent.job_card import job_card
from hospital_agent.part_budget import reserve_of_part
from hospital_agent.policy import Policy, change_policy
from hospital_agent.releases import Releases
from hospital_agent.view import ReplicaView
from ledger.content import model_hash
from ledger.entry import Entry
from ledger.records import Evaluation, Job, JobEnd, NoisedScores, Refusal, Verdict
from privacy.budget import Budget
from privacy.budget_status import BudgetStatus
from privacy.errors import CohortUnknown

ONE = "hospital-1"
NOISED = NoisedScores(kind="noised", fewest=20, noise_multiplier="12")


def noised_job(four: Consortium, scores: NoisedScores = NOISED, name: str = "job-2") -> Job:
    order = JobOrder(TASK, 2, Decimal(1), Decimal("0.00001"), 0, scores=scores)
    declared = {p.institution: p.weight for p in four.job.participants}
    return make_job(four.newest.ledger, name, order, declared)


@pytest.fixture(scope="module")
def begun(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    consortium = copy_of(founded, tmp_path_factory.mktemp("noised"))
    job = noised_job(consortium)
    consortium.add([consortium.end_job("stopped", 0, consortium.job.initial_model)])
    consortium.add([consortium.sign(job)])
    return consortium


@pytest.fixture
def noised(begun: Consortium, tmp_path: Path) -> Consortium:
    return copy_of(begun, tmp_path / "four")


def validation(four: Consortium, name: str = ONE) -> BudgetStatus:
    folder = four.folders[name]
    return folder.budget.status(Cohort.open(folder, TASK).budget_of("validation"))


def test_a_round_is_charged_before_its_verdict_and_its_result_is_accepted(
    noised: Consortium,
) -> None:
    noised.play(1, Phase.REVEAL)
    terms = score_terms(noised.job, ONE)
    assert terms is not None
    assert (terms.rounds, terms.steps) == (2, 7)
    before = validation(noised)
    assert (before.spent.mu2, before.reserved.mu2) == (0, Fraction(14, 144))
    noised.ask(Phase.VERIFY)
    assert validation(noised).spent.mu2 == Fraction(7, 144)
    for entry in noised.records.verdicts:
        record = entry.record
        assert isinstance(record, Verdict)
        said = [f for f in record.findings if f.institution != record.author]
        assert len(said) == 3
        assert all(f.score is not None and f.harmful is not None for f in said)
    noised.add(noised.result()[0])  # every witness derives it and co-signs
    assert len(noised.api.cosignatures[noised.newest.header.height]) == 4


def test_whoever_asks_again_gets_the_same_verdict_for_nothing(noised: Consortium) -> None:
    noised.play(1)
    request, spent = noised.request(Phase.VERIFY), validation(noised).spent
    first = [e.data for e in noised.records.verdicts if e.record.author == ONE]
    assert list(noised.participant(ONE).answer(request).entries) == first
    assert validation(noised).spent == spent


@pytest.mark.parametrize("paid", [False, True])
def test_killed_beside_the_charge_it_goes_on_and_pays_once(
    noised: Consortium, monkeypatch: pytest.MonkeyPatch, paid: bool
) -> None:
    """The numbers were kept before: these leave, and no others for the same charge."""
    noised.play(1, Phase.REVEAL)
    participant, request = noised.participant(ONE), noised.request(Phase.VERIFY)
    charge = Budget.charge

    def killed(*asked: Any) -> None:
        if paid:
            charge(*asked)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Budget, "charge", killed)
        with pytest.raises(KeyboardInterrupt):
            participant.answer(request)
    assert validation(noised).spent.mu2 == (Fraction(7, 144) if paid else 0)
    kept = participant.memory.signed(("job-2", 1, 1), "verdict")
    assert kept is not None
    assert noised.participant(ONE).answer(request).entries == (kept[1],)
    assert validation(noised).spent.mu2 == Fraction(7, 144)


def test_whoever_lost_a_verdict_makes_no_other_for_nothing(noised: Consortium) -> None:
    noised.play(1)
    request = noised.request(Phase.VERIFY)
    with closing(sqlite3.connect(noised.folders[ONE].path / "rounds.sqlite")) as lost, lost:
        lost.execute("DELETE FROM signed WHERE type = 'verdict'")
    again = noised.participant(ONE).answer(request)
    assert (again.entries, again.error) == ((), "RoundReplay")


def test_numbers_are_drawn_anew_and_are_not_the_exact_ones(noised: Consortium) -> None:
    """The same round verified twice from one state: other numbers, if none had left."""
    noised.play(1, Phase.REVEAL)
    said = []
    for _ in range(2):
        four = copy_of(noised, noised.root.parent / f"again-{len(said)}")
        (entry,) = four.participant(ONE).answer(four.request(Phase.VERIFY)).entries
        record = Entry(entry).record
        assert isinstance(record, Verdict)
        said.append([(f.score, f.shapley) for f in record.findings])
    assert said[0] != said[1]


def test_a_job_that_costs_validation_patients_too_much_is_refused(four: Consortium) -> None:
    dear = noised_job(four, replace_noise("2"))
    four.add([four.end_job("stopped", 0, four.job.initial_model)])
    four.add([four.sign(dear)])
    card = job_card(four.folders[ONE], dear)
    assert card.answer == "PolicyRefused"
    assert "its scores ask for epsilon" in card.policy
    (entry,) = four.participant(ONE).answer(four.request(Phase.TRAIN)).entries
    record = Entry(entry).record
    assert isinstance(record, Refusal)
    assert record.code == "PolicyRefused"
    assert [view.spent + view.reserved for view in cohort_views(four.folders[ONE])] == [0]


def test_a_policy_may_ask_for_noise(four: Consortium) -> None:
    ok("hospital-agent", "policy", "set", "--home", four.folders[ONE].path, "--scores", "noised")
    assert job_card(four.folders[ONE], four.job).answer == "PolicyRefused"
    job = noised_job(four)
    four.add([four.end_job("stopped", 0, four.job.initial_model)])
    four.add([four.sign(job)])
    card = job_card(four.folders[ONE], job)
    assert card.answer == "takes part"
    assert "with noise, epsilon " in card.scores


def ended(noised: Consortium) -> Consortium:
    """The job is over after one round, and its end is final at every hospital."""
    noised.play_round(1)
    view = ReplicaView(noised.folders[ONE])
    model = model_hash(released_model(view, noised.job, view.results(noised.job.job)))
    noised.add([noised.end_job("stopped", 1, model)])
    noised.cosign_all()
    return noised


class Desk(Api):
    """An API that takes submissions."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: list[bytes] = []

    def submit(self, entry: bytes) -> None:
        self.taken.append(entry)


def evaluation(four: Consortium) -> Entry:
    desk = Desk()
    Evaluations(HospitalFolder(four.folders[ONE].path), desk).step()  # type: ignore[arg-type]
    (data,) = desk.taken
    return Entry(data)


def test_test_results_leave_with_noise_and_are_charged_once(noised: Consortium) -> None:
    change_policy(noised.folders[ONE], {"evaluations": "noised"})
    four = ended(noised)
    entry = evaluation(four)
    record = entry.record
    assert isinstance(record, Evaluation)
    assert record.noised
    assert (record.positives, record.negatives, record.majority) == (0, 0, None)
    said = {m: v for m, v in record.federated if v is not None}
    assert set(said) == {"auroc", "accuracy"}
    assert all(value is None for form in (record.alone, record.calibrated) for _, value in form)
    assert record.gain is None
    folder = four.folders[ONE]
    test = folder.budget.status(Cohort.open(folder, TASK).budget_of("test"))
    assert (test.spent.mu2, test.reserved.mu2) == (Fraction(2, 144), 0)
    assert evaluation(four).record == record  # kept: the same numbers, for nothing
    assert folder.budget.status(test.cohort).spent == test.spent
    four.add([entry])  # every member checks and co-signs it
    shown = intervals(record)["federated"]["auroc"]
    assert shown is not None
    assert shown.low is None


def test_whoever_lost_test_results_lets_no_others_out_for_nothing(noised: Consortium) -> None:
    change_policy(noised.folders[ONE], {"evaluations": "noised"})
    four = ended(noised)
    charged = evaluation(four)
    record = charged.record
    assert isinstance(record, Evaluation)
    folder, desk = four.folders[ONE], Desk()
    for _ in range(20):
        (folder.path / "releases.sqlite").unlink()
        Evaluations(folder, desk).step()  # type: ignore[arg-type]
        if not desk.taken:
            break
        # New noise gave the same banded numbers, as it may: these are what was charged.
        assert desk.taken == [charged.data]
        desk.taken.clear()
    assert desk.taken == []
    assert Releases(folder.path / "releases.sqlite").refused() == {record.job: "RoundReplay"}


def test_a_policy_that_asks_for_noise_lets_no_banded_results_out(four: Consortium) -> None:
    change_policy(four.folders[ONE], {"evaluations": "noised"})
    ended(four)
    desk = Desk()
    Evaluations(HospitalFolder(four.folders[ONE].path), desk).step()  # type: ignore[arg-type]
    assert desk.taken == []
    releases = Releases(four.folders[ONE].path / "releases.sqlite")
    assert set(releases.refused().values()) == {"ReleaseRefused"}


def test_banded_results_that_were_kept_do_not_leave_once_the_policy_asks_for_noise(
    noised: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    four, desk = ended(noised), Desk()
    folder = four.folders[ONE]

    def unreachable(_: bytes) -> None:
        raise ApiUnreachable("no answer", "try again")

    with monkeypatch.context() as patch:
        patch.setattr(desk, "submit", unreachable)
        Evaluations(folder, desk).step()  # type: ignore[arg-type]
    kept = Releases(folder.path / "releases.sqlite").of("job-2")
    assert kept is not None
    assert not kept.evaluation.noised
    change_policy(folder, {"evaluations": "noised"})
    Evaluations(folder, desk).step()  # type: ignore[arg-type]
    assert desk.taken == []
    assert Releases(folder.path / "releases.sqlite").refused() == {"job-2": "ReleaseRefused"}


def test_a_lost_budget_is_not_opened_anew_for_another_part(noised: Consortium) -> None:
    folder = noised.folders[ONE]
    (folder.path / "budget.sqlite").unlink()
    cohort, terms = Cohort.open(folder, TASK), score_terms(noised.job, ONE)
    assert terms is not None
    policy = Policy.read(folder.path / "policy.json")
    with pytest.raises(CohortUnknown):
        reserve_of_part(HospitalFolder(folder.path), cohort, "test", "job-2", terms, policy)
    assert folder.budget.cohorts() == ()


@pytest.mark.parametrize(
    "changed",
    [{"positives": 20}, {"majority": 6000}, {"alone": {"auroc": 8000}},
     {"calibrated": {"calibration": 200}}, {"gain": {"value": 0, "low": 0, "high": 0}},
     {"federated": {"sensitivity": 8000}}],
)  # fmt: skip
def test_beside_what_has_its_noise_nothing_else_is_cosigned(
    noised: Consortium, changed: dict[str, Any]
) -> None:
    nothing = dict.fromkeys(("auroc", "accuracy", "sensitivity", "specificity", "calibration"))
    body: dict[str, Any] = {
        "v": 1, "type": "evaluation", "ledger": noised.newest.ledger, "author": ONE,
        "job": noised.job.job, "model": "00" * 32, "noised": True, "positives": 0, "negatives": 0,
        "federated": nothing | {"auroc": 8000, "accuracy": 7000}, "alone": nothing,
        "calibrated": nothing, "majority": None, "gain": None,
    }  # fmt: skip
    end = noised.end_job("stopped", 1, "00" * 32).record
    assert isinstance(end, JobEnd)
    check_evaluation(Evaluation.model_validate(body), noised.job, end)
    for name, value in changed.items():
        part = body[name]
        body[name] = part | value if isinstance(part, dict) else value
    with pytest.raises(RoundInvalid, match="more than what has its noise"):
        check_evaluation(Evaluation.model_validate(body), noised.job, end)
    banded = noised.job.model_copy(update={"scores": BANDED})
    with pytest.raises(RoundInvalid):
        check_evaluation(Evaluation.model_validate(body), banded, end)


def test_the_budget_says_whose_it_is(noised: Consortium) -> None:
    change_policy(noised.folders[ONE], {"lifetime_epsilon": "5"})
    noised.play(1)
    done = ok("hospital-agent", "budget", "--home", noised.folders[ONE].path)
    assert f"training patients of {TASK}: delta" in done.out
    assert f"validation patients of {TASK}: delta" in done.out
    # The training patients' text is not true of them.
    assert "left with noise" in " ".join(done.out.split())
    drawn = svg(cohort_views(noised.folders[ONE]))
    assert f"validation patients of {TASK}: cohort" in drawn
    assert "left with noise" in drawn
    assert validation(noised).epsilon_limit == 5


def test_members_cosign_no_scores_without_noise_that_claim_some(four: Consortium) -> None:
    for wrong in ("0", "0.0000000001"):
        with pytest.raises(JobInvalid):
            check_job(noised_job(four, replace_noise(wrong)), four.newest.upcoming.members)


def replace_noise(multiplier: str) -> NoisedScores:
    return NOISED.model_copy(update={"noise_multiplier": multiplier})
