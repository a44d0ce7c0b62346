"""What a budget shows: its status, the cost card of a job, and the public record of a spend.

Everything is derived from exact mu^2 values. Displayed epsilons are rounded so that they never
flatter: what is spent is rounded up, what is left is rounded down, to four decimals.
"""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Final

from privacy.accounting import (
    Accountant,
    Cost,
    RenyiAccountant,
    cost_of_job,
    decimal_up,
    epsilon_of_job,
    fits,
    shown_down,
    shown_up,
)
from privacy.contract import PrivacyTerms, decimal_text
from privacy.gaussian import epsilon_of

COVERS: Final = (
    "Covers each patient's training record at this hospital. Does not cover validation scores and "
    "test results, nor what is true of the hospital as a whole (its prevalence, say); a patient of "
    "two hospitals is covered by the two epsilons together. All members and the coordinator see "
    "this hospital's noised updates."
)


@dataclass(frozen=True)
class JobStatus:
    """One job's part in a cohort's budget; costs are exact."""

    job: str
    terms: PrivacyTerms
    rounds_charged: int
    rounds_reserved: int
    spent: Cost
    reserved: Cost


@dataclass(frozen=True)
class BudgetStatus:
    """A cohort's lifetime budget: epsilons at `delta` for people, costs as exact fractions.

    epsilon_left_for_a_next_job is what a job on full batches may claim at the cohort's delta so
    that it still fits; spent and left do not add up to the limit, because epsilons do not add.
    limit: what the accountant may count over the cohort's life.
    """

    cohort: str
    accountant: Accountant
    delta: Decimal
    epsilon_limit: Decimal
    limit: Fraction
    spent: Cost
    reserved: Cost
    jobs: tuple[JobStatus, ...]

    @property
    def left(self) -> Fraction:
        """What a next job may count."""
        taken = self.accountant.counted(self.spent + self.reserved)
        return max(Fraction(0), self.limit - taken)

    @property
    def epsilon_spent(self) -> Decimal:
        """Of all rounds charged, rounded up."""
        return self.epsilon(self.spent)

    @property
    def epsilon_reserved(self) -> Decimal:
        """Of all rounds reserved, by themselves, rounded up."""
        return self.epsilon(self.reserved)

    @property
    def epsilon_left_for_a_next_job(self) -> Decimal:
        """What a next job on full batches may claim, rounded down."""
        return shown_down(epsilon_of(self.accountant.full_batch(self.left), self.delta))

    def epsilon(self, cost: Cost) -> Decimal:
        """What the cohort's accountant shows for a cost, rounded up."""
        return shown_up(self.accountant.epsilon(cost, self.delta))


@dataclass(frozen=True)
class Reservation:
    """Budget set aside for one job: `rounds` may be charged, of this cost together."""

    cohort: str
    job: str
    rounds: int
    cost: Cost


@dataclass(frozen=True)
class Spend:
    """One charged round, as the public ledger records it.

    before, after: the cohort's lifetime cost, exact. epsilon: of `after` at the cohort's delta,
    rounded up. `replayed`: it was charged before.
    """

    cohort: str
    job: str
    round: int
    attempt: int
    accountant: Accountant
    before: Cost
    after: Cost
    delta: Decimal
    replayed: bool

    @property
    def epsilon(self) -> Decimal:
        """Of all that the cohort has spent with this round, at its delta, rounded up."""
        return shown_up(self.accountant.epsilon(self.after, self.delta))

    def to_record(self) -> dict[str, object]:
        """Integers and decimal strings for the ledger; the same for a replay.

        Costs are rounded up to 18 places. A cohort under the Rényi accountant declares its order
        and both curves, at `privacy.renyi.ORDERS`.
        """
        record: dict[str, object] = {
            "cohort": self.cohort,
            "job": self.job,
            "round": self.round,
            "attempt": self.attempt,
            "mu2_before": decimal_up(self.before.mu2),
            "mu2_after": decimal_up(self.after.mu2),
            "epsilon": decimal_text(self.epsilon),
            "delta": decimal_text(self.delta),
        }
        if isinstance(self.accountant, RenyiAccountant):
            record["order"] = self.accountant.order
            record["sampled_before"] = tuple(map(decimal_up, self.before.sampled))
            record["sampled_after"] = tuple(map(decimal_up, self.after.sampled))
        return record


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
    """The cost of a job under `terms` to a cohort in `status`.

    All epsilons are at the cohort's delta, so they can be compared; a job that claims its epsilon
    at another delta shows another number here than in its contract. Raises NoiseInvalid without
    noise, AccountantFixed for sampled batches where the cohort cannot count them.
    """
    before, cost = status.spent + status.reserved, cost_of_job(terms)
    counted = status.accountant.counted
    return CostCard(
        job_epsilon=shown_up(epsilon_of_job(terms, status.delta)),
        left=status.epsilon_left_for_a_next_job,
        epsilon_before=status.epsilon(before),
        epsilon_after=status.epsilon(before + cost),
        epsilon_limit=status.epsilon_limit,
        delta=status.delta,
        fits=fits(counted(status.spent), counted(status.reserved), counted(cost), status.limit),
    )


def epsilon_up(mu2: Fraction, delta: Decimal) -> Decimal:
    """Epsilon of mu^2 for display, rounded up to four decimals."""
    return shown_up(epsilon_of(mu2, delta))
