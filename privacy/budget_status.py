"""What a budget shows: its status, the cost card of a job, and the public record of a spend.

Everything is derived from exact mu^2 values. Displayed epsilons are rounded so that they never
flatter: what is spent is rounded up, what is left is rounded down, to four decimals.
"""

from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from typing import Final

from privacy.contract import PrivacyTerms, decimal_text
from privacy.gaussian import epsilon_of, fits, mu_squared

COVERS: Final = (
    "Covers each patient's training record at this hospital. Does not cover validation scores and "
    "test results, nor what is true of the hospital as a whole (its prevalence, say); a patient of "
    "two hospitals is covered by the two epsilons together."
)
_EPSILON_UNIT: Final = Decimal("0.0001")
_MU2_PLACES: Final = 18


@dataclass(frozen=True)
class JobStatus:
    """One job's part in a cohort's budget; mu^2 values are exact."""

    job: str
    terms: PrivacyTerms
    rounds_charged: int
    rounds_reserved: int
    mu2_spent: Fraction
    mu2_reserved: Fraction


@dataclass(frozen=True)
class BudgetStatus:
    """A cohort's lifetime budget: epsilons at `delta` for people, mu^2 as exact fractions.

    epsilon_left_for_a_next_job is what a job may claim at the cohort's delta so that it still fits;
    spent and left do not add up to the limit, because epsilons do not add.
    """

    cohort: str
    delta: Decimal
    epsilon_limit: Decimal
    epsilon_spent: Decimal
    epsilon_reserved: Decimal
    epsilon_left_for_a_next_job: Decimal
    mu2_limit: Fraction
    mu2_spent: Fraction
    mu2_reserved: Fraction
    jobs: tuple[JobStatus, ...]

    @property
    def mu2_left(self) -> Fraction:
        """mu^2 that a next job may reserve."""
        return max(Fraction(0), self.mu2_limit - self.mu2_spent - self.mu2_reserved)


@dataclass(frozen=True)
class Reservation:
    """Budget set aside for one job: `rounds` may be charged, of mu^2 `mu2` together."""

    cohort: str
    job: str
    rounds: int
    mu2: Fraction


@dataclass(frozen=True)
class Spend:
    """One charged round, as the public ledger records it.

    mu2_before, mu2_after: the cohort's lifetime mu^2, decimal strings rounded up to 18 places.
    epsilon: of mu2_after at the cohort's delta, rounded up. `replayed`: it was charged before.
    """

    cohort: str
    job: str
    round: int
    attempt: int
    mu2_before: str
    mu2_after: str
    epsilon: Decimal
    delta: Decimal
    replayed: bool

    def to_record(self) -> dict[str, int | str]:
        """Integers and decimal strings for the ledger; the same for a replay."""
        return {
            "cohort": self.cohort,
            "job": self.job,
            "round": self.round,
            "attempt": self.attempt,
            "mu2_before": self.mu2_before,
            "mu2_after": self.mu2_after,
            "epsilon": decimal_text(self.epsilon),
            "delta": decimal_text(self.delta),
        }


@dataclass(frozen=True)
class CostCard:
    """What a job costs a cohort, before anybody agrees to it.

    job_epsilon: of the job alone; left: what a next job may claim; the three lifetime epsilons
    count everything reserved as spent.
    """

    job_epsilon: Decimal
    left: Decimal
    epsilon_before: Decimal
    epsilon_after: Decimal
    epsilon_limit: Decimal
    delta: Decimal
    fits: bool

    @property
    def text(self) -> str:
        """The card in one line."""
        return (
            f"uses {decimal_text(self.job_epsilon)} of {decimal_text(self.left)} left; epsilon "
            f"after {decimal_text(self.epsilon_after)}, was {decimal_text(self.epsilon_before)}, "
            f"limit {decimal_text(self.epsilon_limit)} (delta {decimal_text(self.delta)})"
        )

    @property
    def covers(self) -> str:
        """What the epsilon says, and what it does not."""
        return COVERS


def cost_card(status: BudgetStatus, terms: PrivacyTerms) -> CostCard:
    """The cost of a job under `terms` to a cohort in `status`. Raises NoiseInvalid without noise.

    All epsilons are at the cohort's delta, so they can be compared; a job that claims its epsilon
    at another delta shows another number here than in its contract.
    """
    before = status.mu2_spent + status.mu2_reserved
    cost = mu_squared(terms)
    return CostCard(
        job_epsilon=epsilon_up(cost, status.delta),
        left=status.epsilon_left_for_a_next_job,
        epsilon_before=epsilon_up(before, status.delta),
        epsilon_after=epsilon_up(before + cost, status.delta),
        epsilon_limit=status.epsilon_limit,
        delta=status.delta,
        fits=fits(status.mu2_spent, status.mu2_reserved, cost, status.mu2_limit),
    )


def epsilon_up(mu2: Fraction, delta: Decimal) -> Decimal:
    """Epsilon of mu^2 for display, rounded up to four decimals."""
    # The bracketing of the root is good to 1e-12: a limit of 1 must not be shown as 1.0001.
    value = Decimal(epsilon_of(mu2, delta)) - Decimal("1e-9")
    return max(Decimal(0), value).quantize(_EPSILON_UNIT, rounding=ROUND_CEILING)


def epsilon_down(mu2: Fraction, delta: Decimal) -> Decimal:
    """Epsilon of mu^2 for display, rounded down to four decimals."""
    value = Decimal(epsilon_of(mu2, delta)) + Decimal("1e-9")
    return value.quantize(_EPSILON_UNIT, rounding=ROUND_FLOOR)


def mu2_text(mu2: Fraction) -> str:
    """mu^2 as a canonical decimal string, rounded up to 18 places."""
    with localcontext() as context:
        context.prec = 60
        scaled = -((-mu2.numerator * 10**_MU2_PLACES) // mu2.denominator)
        return decimal_text(Decimal(scaled).scaleb(-_MU2_PLACES))
