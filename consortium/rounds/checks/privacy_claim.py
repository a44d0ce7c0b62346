"""Check 6: what the proof declares to have spent is what the contract's terms cost."""

from decimal import Decimal
from fractions import Fraction
from functools import lru_cache

from consortium.rounds.checks.context import Failed, RoundContext
from consortium.rounds.checks.terms import privacy_terms
from ledger.records import Participant, Proof, SampledSpend, Spend
from privacy.accounting import Accountant, Cost, GaussianAccountant, RenyiAccountant, cost_of_round
from privacy.errors import PrivacyError

_ROUNDED = Fraction(1, 10**18)


def check_privacy_claim(context: RoundContext, participant: Participant, proof: Proof) -> None:
    """The declared terms are the contract's, and the cohort's account adds up.

    Raises:
        Failed: ``PrivacyClaimInvalid``.
    """
    terms, spend = participant.terms, proof.spend
    declared = spend.model_dump(
        include={"steps", "sample_rate", "noise_multiplier", "clip", "normaliser", "delta"}
    )
    agreed = {name: getattr(terms, name) for name in declared}
    try:
        accountant, before, after = declared_spend(spend)
        cost = _cost(privacy_terms(participant))
        accountant.counted(cost)  # a cohort that counts full-batch steps serves no others
        flattered = accountant.epsilon(after, Decimal(terms.delta)) - float(spend.epsilon) > 2e-4
    except (PrivacyError, ValueError):
        raise Failed("PrivacyClaimInvalid") from None
    if declared != agreed or flattered or not _adds_up(before, cost, after):
        raise Failed("PrivacyClaimInvalid")
    # Within one cohort, what was spent before is at least what its last proof declared; and how it
    # counts was fixed before its first release.
    last = context.spent.get(proof.author)
    if last is not None and last.cohort == spend.cohort:
        counted_as, _, spent = declared_spend(last)
        if counted_as != accountant or not _at_least(before, spent):
            raise Failed("PrivacyClaimInvalid")


# The same in every round of a job.
_cost = lru_cache(maxsize=1024)(cost_of_round)


# Asked for when it is declared, and when the next one is compared with it.
@lru_cache(maxsize=1024)
def declared_spend(spend: Spend) -> tuple[Accountant, Cost, Cost]:
    """How a proof's cohort counts, and what it had spent before and after, as the proof declares.

    Raises:
        ValueError: if the order, or a curve's length, is none that there is.
    """
    mu2 = Fraction(spend.mu2_before), Fraction(spend.mu2_after)
    if not isinstance(spend, SampledSpend):
        return GaussianAccountant(), Cost(mu2[0]), Cost(mu2[1])
    before, after = (
        tuple(map(Fraction, curve)) for curve in (spend.sampled_before, spend.sampled_after)
    )
    return RenyiAccountant(spend.order), Cost(mu2[0], before), Cost(mu2[1], after)


def _adds_up(before: Cost, cost: Cost, after: Cost) -> bool:
    """Whether one round's cost lies between two declared ones.

    What is declared is rounded up: to 18 places, and a sampled step's divergence by more than
    members' own sums may differ. Epsilon's tolerance is wider, so that members whose last digits
    differ judge an honest claim alike.
    """
    expected = before + cost
    if len(expected.sampled) != len(after.sampled):
        return False
    if abs(after.mu2 - expected.mu2) > max(cost.mu2 / 10**12, _ROUNDED):
        return False
    if not cost.sampled:
        return after.sampled == before.sampled
    curves = zip(after.sampled, expected.sampled, cost.sampled, strict=True)
    return all(abs(a - b) <= max(rho / 10**6, _ROUNDED) for a, b, rho in curves)


def _at_least(cost: Cost, other: Cost) -> bool:
    if cost.mu2 < other.mu2 or not other.sampled:
        return cost.mu2 >= other.mu2
    same_length = len(cost.sampled) == len(other.sampled)
    return same_length and all(a >= b for a, b in zip(cost.sampled, other.sampled, strict=True))
