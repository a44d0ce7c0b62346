"""A job that uses up what a lifetime epsilon leaves each institution, by what its proofs declare.

A hospital's own limit is its policy, and not known here: the lifetime is what the caller says. A
reveal that the coordinator dropped is not seen before the institution's next proof; the hospital,
which counts it, then refuses the job and names what would fit.
"""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

from consortium.contract import JobOrder, make_terms
from consortium.rounds.checks import declared_spend
from consortium.rounds.replay import LedgerView
from privacy.accounting import (
    Accountant,
    Cost,
    GaussianAccountant,
    RenyiAccountant,
    what_fits,
)
from privacy.contract import PrivacyTerms
from privacy.errors import BudgetExceeded
from privacy.renyi import order_for, smallest_noise


def noise_for_what_is_left(
    view: LedgerView, order: JobOrder, institutions: Iterable[str], lifetime: Decimal
) -> dict[str, Decimal]:
    """The noise multiplier of each institution at which the job keeps its lifetime epsilon.

    All epsilons are at the order's delta.

    Raises:
        BudgetExceeded: naming the first institution that has nothing left.
        AccountantFixed: if one counts full-batch steps only, and the order samples its batches.
        PrivacyError: for a lifetime or an order that no contract may hold.
    """
    of_task = {job.job for job in view.jobs() if job.task == order.task}
    noise = {}
    for institution in institutions:
        terms = make_terms(replace(order, epsilon=lifetime), institution, 1)
        last = next((p for p in view.proofs(institution) if p.job in of_task), None)
        if last is None:
            found = _of_a_new_cohort(terms, lifetime)
        else:
            accountant, _, spent = declared_spend(last.spend)
            found = _beside(accountant, spent, terms, lifetime)
        if found is None:
            raise BudgetExceeded(
                f"{institution} has nothing left of a lifetime epsilon {lifetime} at delta "
                f"{order.delta}",
                "name a larger lifetime, or leave the institution out with --patients",
            )
        noise[institution] = found
    return noise


def _of_a_new_cohort(terms: PrivacyTerms, lifetime: Decimal) -> Decimal | None:
    if terms.full_batch:
        return _beside(GaussianAccountant(), Cost(), terms, lifetime)

    def fits(curve: tuple[Fraction, ...]) -> bool:
        chosen = RenyiAccountant(order_for(lifetime, terms.delta, curve))
        return chosen.counted(Cost(sampled=curve)) <= chosen.limit(lifetime, terms.delta)

    return smallest_noise(terms.sample_rate, terms.compositions, fits)


def _beside(
    accountant: Accountant, spent: Cost, terms: PrivacyTerms, lifetime: Decimal
) -> Decimal | None:
    left = accountant.limit(lifetime, terms.delta) - accountant.counted(spent)
    return what_fits(accountant, terms, max(Fraction(0), left), terms.delta).noise
