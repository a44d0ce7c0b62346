"""Check 6 for cohorts that serve sampled batches, and the noise that uses up what proofs leave."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from rounds_examples import (
    BASE,
    DECLARED,
    LEDGER,
    Submission,
    make_context,
    make_example_job,
    names,
    reveal_all,
    submissions,
)

from consortium.contract import JobOrder, check_job, make_job
from consortium.coordinator.what_is_left import noise_for_what_is_left
from consortium.errors import JobInvalid
from consortium.rounds.checks import RoundContext, examine, privacy_terms, step_cap
from ledger.records import Job, MemberForm, Proof, SampledSpend, Spend
from privacy.accounting import Cost, RenyiAccountant, cost_of_job, cost_of_round, decimal_up
from privacy.accounting import claiming as claim
from privacy.contract import PrivacyTerms, decimal_text
from privacy.errors import AccountantFixed, BudgetExceeded
from privacy.renyi import ORDERS, epsilon

CHEAT = "hospital-2"
ORDER = JobOrder("breast-cancer", 10, Decimal(1), Decimal("0.00001"), 0, sample_rate=Decimal("0.2"))
DELTA = ORDER.delta


def sampled_job(order: JobOrder = ORDER) -> Job:
    return make_job(LEDGER, "job-1", order, dict.fromkeys(names(4), DECLARED))


def terms_in(context: RoundContext, name: str = CHEAT) -> PrivacyTerms:
    participant = context.participant(name)
    assert participant is not None
    return privacy_terms(participant)


def declared(
    terms: PrivacyTerms, before: Cost, order: int | None = 6, after: Cost | None = None
) -> dict[str, Any]:
    """What an honest hospital declares for one round under the terms."""
    after = before + cost_of_round(terms) if after is None else after
    shown = Decimal(repr(round(epsilon(after.curve, terms.delta) + 5e-5, 4)))
    known: dict[str, Any] = terms.to_record() | {
        "cohort": "c" * 32,
        "mu2_before": decimal_up(before.mu2), "mu2_after": decimal_up(after.mu2),
        "epsilon": decimal_text(shown),
    }  # fmt: skip
    if order is not None:
        known |= {
            "order": order,
            "sampled_before": tuple(map(decimal_up, before.sampled)),
            "sampled_after": tuple(map(decimal_up, after.sampled)),
        }
    form = Spend if order is None else SampledSpend
    return {name: known[name] for name in form.model_fields}


def everybody(context: RoundContext, before: Cost) -> dict[str, Submission]:
    return {
        name: replace(one, spend=declared(terms_in(context, name), before))
        for name, one in submissions(replace(context, job=make_example_job())).items()
    }


def code_of(context: RoundContext, spend: dict[str, Any], before: Cost | None = None) -> str:
    """What the cheat's reveal comes to beside three honest ones."""
    made = everybody(context, before or Cost())
    made = {n: replace(one, context=context) for n, one in made.items()}
    made[CHEAT] = replace(made[CHEAT], spend=spend)
    revealed = reveal_all(made)
    found = examine(context, revealed.commitments, revealed.reveals)
    assert {one.code for name, one in found.items() if name != CHEAT} == {"Accepted"}
    return found[CHEAT].code


@pytest.fixture(scope="module")
def context() -> RoundContext:
    return make_context(job=sampled_job())


@pytest.mark.parametrize("rounds", [0, 1, 7])
def test_an_honest_claim_passes(context: RoundContext, rounds: int) -> None:
    full = cost_of_job(terms_in(make_context()))
    for before in (Cost(), full, full + cost_of_round(terms_in(context)) * rounds):
        assert code_of(context, declared(terms_in(context), before)) == "Accepted"


def test_a_full_batch_round_of_a_cohort_that_samples_too() -> None:
    context, before = make_context(), cost_of_job(terms_in(make_context(job=sampled_job())))
    spend = declared(terms_in(context), before)
    assert code_of(context, spend) == "Accepted"
    more = tuple(text if n else decimal_up(2 * before.sampled[0]) for n, text in
                 enumerate(spend["sampled_after"]))  # fmt: skip
    assert code_of(context, {**spend, "sampled_after": more}) == "PrivacyClaimInvalid"


def test_a_claim_that_flatters(context: RoundContext) -> None:
    terms = terms_in(context)
    before = cost_of_round(terms) * 3
    spend = declared(terms, before)
    one_less = list(spend["sampled_after"])
    one_less[5] = spend["sampled_before"][5]
    changes: list[dict[str, Any]] = [
        {"sample_rate": "0.1"}, {"sample_rate": "1"}, {"noise_multiplier": "99"}, {"steps": 1},
        {"order": 11}, {"order": 1}, {"epsilon": "0.01"}, {"mu2_after": "0.01"},
        {"sampled_after": spend["sampled_before"]}, {"sampled_after": ()},
        {"sampled_after": tuple(one_less)}, {"sampled_before": spend["sampled_before"][1:]},
        {"sampled_before": spend["sampled_after"]},
    ]  # fmt: skip
    for change in changes:
        assert code_of(context, {**spend, **change}) == "PrivacyClaimInvalid", change
    # Sampled steps in a cohort that says to count full-batch ones only.
    gaussian = declared(terms, Cost(), None, Cost(cost_of_job(terms_in(make_context())).mu2))
    assert code_of(context, gaussian) == "PrivacyClaimInvalid"


def test_an_accountant_that_starts_anew_is_seen_by_all(context: RoundContext) -> None:
    """Planted: a new accountant for each round, or another one than at the last release."""
    terms = terms_in(context)
    last = SampledSpend.model_validate(declared(terms, Cost()))
    later = replace(context, round=2, spent={CHEAT: last})
    once = cost_of_round(terms)
    assert code_of(later, declared(terms, once)) == "Accepted"
    assert code_of(later, declared(terms, Cost())) == "PrivacyClaimInvalid"
    assert code_of(later, declared(terms, once, order=8)) == "PrivacyClaimInvalid"
    full = declared(terms_in(make_context()), Cost(), None)
    changed = replace(context, spent={CHEAT: Spend.model_validate(full)})
    assert code_of(changed, declared(terms, cost_of_job(terms))) == "PrivacyClaimInvalid"


def test_steps_of_small_batches_stay_below_the_cap() -> None:
    """The patients drawn vary the more, the fewer they are; an honest step must pass."""
    draw = np.random.default_rng(0)
    for rate, steps in [("0.01", 1), ("0.05", 4), ("0.3", 10)]:
        job = sampled_job(replace(ORDER, sample_rate=Decimal(rate)))
        participant = job.participants[0]
        terms = replace(privacy_terms(participant), steps=steps)
        small = participant.model_copy(
            update={"terms": participant.terms.model_copy(update={"steps": steps})}
        )
        drawn = draw.binomial(DECLARED * steps, float(rate), 20_000).max()
        signal = drawn * terms.learning_rate * terms.clip / terms.divisor
        assert float(signal) < step_cap(small, 31, 1.5)


def test_the_contract_of_a_job_on_sampled_batches() -> None:
    job, members = sampled_job(), make_context().members
    check_job(job, members)
    assert {p.terms.sample_rate for p in job.participants} == {"0.2"}
    given = sampled_job(replace(ORDER, noise=dict.fromkeys(names(4), Decimal(9))))
    check_job(given, members)
    (claimed,) = {p.terms.epsilon for p in given.participants}
    assert 0 < Decimal(claimed) < 1
    _refuse(given, members, sample_rate="0.9")  # more cost than is claimed
    _refuse(job, members, sample_rate="2")
    _refuse(job, members, noise_multiplier="1.1")


def _refuse(job: Job, members: dict[str, MemberForm] | Any, **changes: str) -> None:
    first = job.participants[0]
    terms = first.terms.model_copy(update=changes)
    participants = (first.model_copy(update={"terms": terms}), *job.participants[1:])
    with pytest.raises(JobInvalid):
        check_job(job.model_copy(update={"participants": participants}), members)


# what is left


@dataclass
class Declared:
    """A ledger on which some institutions have declared what they spent."""

    spends: dict[str, dict[str, Any]] = field(default_factory=dict)

    def jobs(self) -> Sequence[Job]:
        return [make_example_job()]

    def proofs(self, institution: str) -> Iterable[Proof]:
        for name, spend in self.spends.items():
            if name == institution:
                made = replace(submissions(make_context())[name], spend=spend)
                yield made.reveal(BASE).proof.record  # type: ignore[misc]


@pytest.mark.parametrize("rate", ["1", "0.2"])
def test_a_job_takes_just_what_is_left(rate: str) -> None:
    order, lifetime = replace(ORDER, sample_rate=Decimal(rate)), Decimal(3)
    full = terms_in(make_context())
    spent = cost_of_job(full) if rate == "1" else cost_of_job(terms_in(make_context(
        job=sampled_job())))  # fmt: skip
    order_kept = None if rate == "1" else 6
    ledger: Any = Declared({names(2)[0]: declared(full, spent, order_kept)})
    noise = noise_for_what_is_left(ledger, order, names(2), lifetime)
    assert noise[names(2)[0]] > noise[names(2)[1]] > 0
    for name, sigma in noise.items():
        terms = claim(
            replace(terms_in(make_context()), sample_rate=Decimal(rate), noise_multiplier=sigma)
        )
        assert terms.epsilon is not None
        if name == names(2)[0]:
            assert terms.epsilon < lifetime
            if order_kept:
                accountant = RenyiAccountant(order_kept)
                taken = accountant.counted(spent + cost_of_round(full) + cost_of_job(terms))
                limit = accountant.limit(lifetime, DELTA)
                assert float(limit) * 0.999 < float(taken) <= float(limit)
        else:
            assert Decimal("2.6") < terms.epsilon <= lifetime


def test_nothing_left_is_said_by_name() -> None:
    full = terms_in(make_context())
    ledger: Any = Declared({CHEAT: declared(full, cost_of_job(full) * 30, None)})
    with pytest.raises(BudgetExceeded, match=CHEAT):
        noise_for_what_is_left(ledger, replace(ORDER, sample_rate=Decimal(1)), names(2), Decimal(2))
    with pytest.raises(AccountantFixed):
        noise_for_what_is_left(ledger, ORDER, names(2), Decimal(2))
    assert len(ORDERS) == 20  # what stands on ledgers names them by their place
