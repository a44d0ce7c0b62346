"""Budgets of cohorts that serve sampled batches too, and what no sequence of jobs gets past."""

import contextlib
import multiprocessing as mp
import random
import sqlite3
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from privacy_examples import example_terms

from privacy import accounting, budget_events, errors
from privacy.accounting import Cost, GaussianAccountant, RenyiAccountant
from privacy.budget import Budget
from privacy.budget_events import CohortState, Event
from privacy.contract import PrivacyTerms
from privacy.pld import Steps

LIMIT, DELTA = Decimal(3), Decimal("0.00001")
FORK = mp.get_context("fork")


def terms_of(rate: str, noise: str, rounds: int = 4, steps: int = 5) -> PrivacyTerms:
    terms = example_terms(
        rounds=rounds, steps=steps, sample_rate=Decimal(rate), noise_multiplier=Decimal(noise),
        delta=DELTA,
    )  # fmt: skip
    return accounting.claiming(terms)


SAMPLED, FULL = terms_of("0.1", "1.5"), terms_of("1", "15")


@pytest.fixture
def budget(tmp_path: Path, cohort: str) -> Budget:
    budget = Budget(tmp_path / "budget.sqlite")
    budget.open_cohort(cohort, LIMIT, DELTA)
    return budget


def test_a_first_sampled_job_fixes_how_the_cohort_counts(budget: Budget, cohort: str) -> None:
    assert budget.status(cohort).accountant == GaussianAccountant()
    budget.reserve(cohort, "full", FULL)  # reserved is not released: the choice is still free
    card = budget.quote(cohort, SAMPLED)
    assert budget.status(cohort).accountant == GaussianAccountant()
    budget.reserve(cohort, "sampled", SAMPLED)
    status = budget.status(cohort)
    assert isinstance(status.accountant, RenyiAccountant)
    assert status.epsilon(status.reserved) == card.epsilon_after > card.epsilon_before
    sampled = budget.charge(cohort, "sampled", 1, 1, "u")
    full = budget.charge(cohort, "full", 1, 1, "u")
    assert sampled.before == Cost()
    assert full.before == sampled.after
    assert full.after.sampled == sampled.after.sampled
    assert full.epsilon > sampled.epsilon > 0
    record = full.to_record()
    assert record["order"] == status.accountant.order
    assert record["sampled_after"] == record["sampled_before"] != ()
    assert record["mu2_after"] != record["mu2_before"] == "0"
    again = budget.charge(cohort, "sampled", 1, 1, "u")
    assert (again.replayed, again.to_record()) == (True, sampled.to_record())
    budget.reserve(cohort, "more", terms_of("0.05", "1.5"))
    assert budget.status(cohort).accountant == status.accountant


def test_a_choice_in_view_of_results_is_refused(budget: Budget, cohort: str) -> None:
    budget.reserve(cohort, "full", FULL)
    budget.charge(cohort, "full", 1, 1, "u")
    before = budget.status(cohort)
    for refused in (budget.quote, budget.card):
        with pytest.raises(errors.AccountantFixed):
            refused(cohort, SAMPLED)
    with pytest.raises(errors.AccountantFixed):
        budget.reserve(cohort, "sampled", SAMPLED)
    assert budget.status(cohort) == before


def test_a_history_with_such_a_choice_does_not_hold(
    budget: Budget, cohort: str, tmp_path: Path
) -> None:
    """Somebody wrote the event behind the budget's back, with a chain that holds."""
    budget.reserve(cohort, "full", FULL)
    budget.charge(cohort, "full", 1, 1, "u")
    with sqlite3.connect(tmp_path / "budget.sqlite") as connection:
        number, previous = connection.execute("SELECT number, digest FROM head").fetchone()
        forged = Event.chained(number + 1, cohort, budget_events.RENYI, {"order": 6}, previous)
        row = (forged.number, cohort, forged.kind, '{"order":6}', previous, forged.digest)
        connection.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
        connection.execute("UPDATE head SET number = ?, digest = ?", (row[0], forged.digest))
    with pytest.raises(errors.BudgetTampered):
        budget.status(cohort)


def test_a_refusal_names_what_would_fit_and_it_does(budget: Budget, cohort: str) -> None:
    budget.reserve(cohort, "first", terms_of("0.1", "1.5", rounds=6))
    wanted = terms_of("0.2", "1.5", rounds=20)
    with pytest.raises(errors.BudgetExceeded) as caught:
        budget.reserve(cohort, "second", wanted)
    assert not budget.card(cohort, wanted).fits
    resolve = caught.value.resolve
    rounds = int(resolve.split("at most ")[1].split(" ")[0])
    noise = Decimal(resolve.split("at least ")[1].split(" ")[0])
    epsilon = Decimal(resolve.split("epsilon of at most ")[1].split(" ")[0])
    assert f"{epsilon} is left" in caught.value.what
    by_epsilon = accounting.calibrate(epsilon, DELTA, wanted.compositions, wanted.sample_rate)
    for number, (count, sigma) in enumerate([(rounds, "1.5"), (20, noise), (20, by_epsilon)]):
        fitting = terms_of("0.2", str(sigma), rounds=count)
        budget.reserve(cohort, f"fits-{number}", fitting)
        budget.release(cohort, f"fits-{number}")
    for count, sigma in [(rounds + 1, "1.5"), (20, noise - Decimal("0.0001"))]:
        with pytest.raises(errors.BudgetExceeded):
            budget.reserve(cohort, "too much", terms_of("0.2", str(sigma), rounds=count))


def test_the_limit_may_rise_and_fall_and_the_order_stays(budget: Budget, cohort: str) -> None:
    budget.reserve(cohort, "sampled", SAMPLED)
    budget.charge(cohort, "sampled", 1, 1, "u")
    order = budget.status(cohort).accountant
    budget.set_limit(cohort, Decimal(8))
    assert budget.status(cohort).accountant == order
    with pytest.raises(errors.EpsilonOutOfPolicy):
        budget.set_limit(cohort, Decimal("0.5"))


OLD = [
    ("open", '{"delta":"0.00001","epsilon_limit":"1.5"}',
     "32690527228ef476545106947aacce2a4b5436e7550256bd451d2f48bd6b4e69"),
    ("reserve", '{"clip":"1","clipping":"flat","delta":"0.00001","epsilon":"1","job":"job-1",'
     '"learning_rate":"0.5","noise_multiplier":"12.5","normaliser":100,"rounds":2,'
     '"sample_rate":"1","steps":3}',
     "91306d8f07856cc83cedf12c8277a2ff68a73fe71eea188c722a0a4fbc93a822"),
    ("charge", '{"attempt":1,"job":"job-1","round":1}',
     "cb193e5c7831a4a87661bf6545dc7ed3ba793f5ee764d668af107549b700a8f8"),
    ("limit", '{"epsilon_limit":"2"}',
     "33ae542cb19694fbe681d5550df5e95e4d42583040c6b8a775b27b4cfd0b13bb"),
    ("charge", '{"attempt":1,"job":"job-1","round":2}',
     "8668882cefce01fec1b187c089208f155584d105c3b6c1993759112420437062"),
]  # fmt: skip
"""What the version before sampled batches wrote."""


def test_a_budget_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path, cohort, previous = tmp_path / "old.sqlite", "0123456789abcdef" * 2, "0" * 64
    Budget(path)
    with sqlite3.connect(path) as connection:
        for number, (kind, fields, digest) in enumerate(OLD, 1):
            row = (number, cohort, kind, fields, previous, digest)
            connection.execute("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?)", row)
            previous = digest
        connection.execute("UPDATE head SET number = ?, digest = ?", (len(OLD), previous))
    budget = Budget(path)
    status = budget.status(cohort)
    assert status.spent == Cost(Fraction(24, 625))
    assert status.epsilon_spent == Decimal("0.7096")
    assert status.epsilon_left_for_a_next_job == Decimal("1.8235")
    budget.release(cohort, "job-1")
    budget.reserve(cohort, "job-2", FULL)
    assert budget.charge(cohort, "job-2", 1, 1, "u").before == status.spent
    with pytest.raises(errors.AccountantFixed):
        budget.reserve(cohort, "job-3", SAMPLED)


# sequences of jobs, each chosen in view of what became of the others

KINDS = [terms_of("1", "30", 2, 10), terms_of("1", "18", 1, 10), terms_of("1", "50", 2, 20)]
SAMPLED_KINDS = [*KINDS, terms_of("0.1", "2", 2, 15), terms_of("0.05", "1.5", 1, 20)]


def spend(budget: Budget, cohort: str, kinds: list[PrivacyTerms], jobs: int) -> list[Steps]:
    """What was released by so many jobs, of which some end early; most are refused."""
    draw, released = random.Random(3), []
    for number in range(jobs):
        terms = draw.choice(kinds)
        with contextlib.suppress(errors.BudgetExceeded):
            budget.reserve(cohort, f"j{number}", terms)
            rounds = draw.randint(1, terms.rounds)
            for round in range(1, rounds + 1):
                spend = budget.charge(cohort, f"j{number}", round, 1, "u")
                left = spend.epsilon < draw.uniform(1, 3)
            if left or draw.random() < 0.5:
                budget.release(cohort, f"j{number}")
            released.append(Steps.of(terms, rounds))
    return released


def epsilon_of(released: list[Steps], order: int | None = None) -> float:
    """By dp-accounting alone: of the loss distribution, or of one Rényi order."""
    accountant = (
        RdpAccountant([order]) if order else PLDAccountant(value_discretization_interval=1e-3)
    )
    counts = Counter[tuple[Decimal, Decimal]]()
    for steps in released:
        counts[steps.sample_rate, steps.noise_multiplier] += steps.count
    for (rate, noise), count in counts.items():
        gaussian = dp_event.GaussianDpEvent(float(noise))
        accountant.compose(dp_event.PoissonSampledDpEvent(float(rate), gaussian), count)
    return float(accountant.get_epsilon(float(DELTA)))


@pytest.mark.parametrize("kinds", [KINDS, SAMPLED_KINDS], ids=["full batch", "sampled too"])
def test_a_thousand_adaptive_jobs_stay_within_the_limit(
    budget: Budget, cohort: str, kinds: list[PrivacyTerms]
) -> None:
    if kinds is SAMPLED_KINDS:
        budget.reserve(cohort, "first", SAMPLED)
        budget.release(cohort, "first")
    released = spend(budget, cohort, kinds, 1000)
    status = budget.status(cohort)
    count = status.accountant.counted
    assert count(status.spent) + count(status.reserved) <= status.limit
    assert 0.7 * float(LIMIT) < epsilon_of(released) <= 1.001 * float(LIMIT)
    if isinstance(status.accountant, RenyiAccountant):
        assert epsilon_of(released, status.accountant.order) <= float(LIMIT)


def _forget_other_jobs(state: CohortState) -> None:
    state.spent = list(state.jobs.values())[-1].spent if state.jobs else Cost()


def _forget_all(state: CohortState) -> None:
    state.spent = Cost()


@pytest.mark.parametrize("forget", [_forget_other_jobs, _forget_all])
def test_an_accountant_that_starts_anew_is_found(
    budget: Budget, cohort: str, monkeypatch: pytest.MonkeyPatch,
    forget: Callable[[CohortState], None],
) -> None:  # fmt: skip
    """A planted bug: a new accountant for each job, as official examples have it, or each round."""
    replay = budget_events.replay

    def forgetting(*arguments: object) -> CohortState | None:
        state = replay(*arguments)  # type: ignore[arg-type]
        if state is not None:
            forget(state)
        return state

    monkeypatch.setattr(budget_events, "replay", forgetting)
    released = spend(budget, cohort, KINDS, 60)
    assert epsilon_of(released) > 1.2 * float(LIMIT)


def _reserve_many(path: Path, cohort: str, worker: int) -> None:
    budget = Budget(path)
    for number in range(3):
        with contextlib.suppress(errors.BudgetExceeded):
            budget.reserve(cohort, f"{worker}-{number}", (SAMPLED, FULL)[number % 2])


def test_eight_processes_never_oversubscribe(tmp_path: Path, cohort: str) -> None:
    path = tmp_path / "budget.sqlite"
    Budget(path).open_cohort(cohort, LIMIT, DELTA)
    with pytest.raises(errors.AccountantFixed):
        GaussianAccountant().counted(accounting.cost_of_job(SAMPLED))  # computed before the forks
    workers = [FORK.Process(target=_reserve_many, args=(path, cohort, w)) for w in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    status = Budget(path).status(cohort)
    count = status.accountant.counted
    assert 0 < count(status.reserved) <= status.limit
    assert status.left < max(count(accounting.cost_of_job(terms)) for terms in (SAMPLED, FULL))
    assert 1 < len(status.jobs) < 24
