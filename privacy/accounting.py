"""What a job costs, whatever its sampling, and the two accountants that a cohort may be under.

A `Cost` keeps both currencies apart: mu^2 of full-batch steps (`privacy.gaussian`), and the Rényi
curve of steps on sampled batches (`privacy.renyi`). An accountant reads one exact number from it;
a filter is that the sum of these numbers stays below a limit.

* `GaussianAccountant`: mu^2. Exact, and knows full-batch steps only.
* `RenyiAccountant`: the Rényi divergence at one order. Knows both, for 10 to 23 % less budget at
  its best order (epsilon .5 to 5, delta 1e-7 to 1e-3).

Which one a cohort is under, and at which order, never depends on what was released of it: a cohort
begins under the Gaussian one, and its first job on sampled batches may change that as long as
nothing at all has been charged. Then the cohort's whole life is under one filter that was fixed
before its first release, so each filter's own theorem holds. A change later would be made in view
of results: those that go on under mu^2 and those that change could then use up delta twice (once
on each side of the choice), so it is refused.
"""

from dataclasses import dataclass, replace
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext
from fractions import Fraction
from typing import Final, Protocol

from privacy import gaussian, renyi
from privacy.contract import PrivacyTerms, decimal_text
from privacy.errors import AccountantFixed, EpsilonOutOfPolicy
from privacy.renyi import Curve

EPSILON_UNIT: Final = Decimal("0.0001")
_PLACES: Final = 18


@dataclass(frozen=True)
class Cost:
    """What was released costs: mu^2 of full-batch steps, and the curve of sampled ones.

    sampled: Rényi divergences at `renyi.ORDERS`, empty where no step was on a sampled batch.
    """

    mu2: Fraction = Fraction(0)
    sampled: Curve = ()

    def __post_init__(self) -> None:
        if len(self.sampled) not in (0, len(renyi.ORDERS)):
            raise ValueError("a curve has one value for each order")

    def __add__(self, other: "Cost") -> "Cost":
        if self.sampled and other.sampled:
            pairs = zip(self.sampled, other.sampled, strict=True)
            sampled = tuple(a + b for a, b in pairs)
        else:
            sampled = self.sampled or other.sampled
        return Cost(self.mu2 + other.mu2, sampled)

    def __mul__(self, count: int) -> "Cost":
        return Cost(count * self.mu2, tuple(count * rho for rho in self.sampled) if count else ())

    @property
    def curve(self) -> Curve:
        """The Rényi curve of all of it."""
        if not self.mu2 and self.sampled:
            return self.sampled
        full = renyi.gaussian_curve(self.mu2)
        if not self.sampled:
            return full
        return tuple(a + b for a, b in zip(full, self.sampled, strict=True))


class Accountant(Protocol):
    """Reads one exact number from a cost, and knows how much of it a limit allows."""

    @property
    def name(self) -> str:
        """What it is called on a card."""
        ...

    def counted(self, cost: Cost) -> Fraction:
        """The number. Raises AccountantFixed for a cost that it does not know."""
        ...

    def limit(self, epsilon: Decimal, delta: Decimal) -> Fraction:
        """The sum of numbers that keeps (epsilon, delta)."""
        ...

    def epsilon(self, cost: Cost, delta: Decimal) -> float:
        """Epsilon of a cost at `delta`, rounded outward."""
        ...

    def full_batch(self, number: Fraction) -> Fraction:
        """The mu^2 of full-batch steps that counts as this number."""
        ...


@dataclass(frozen=True)
class GaussianAccountant:
    """Counts mu^2 (Dong, Roth, Su 2022); valid under adaptive choice (arXiv 2210.17520)."""

    name: Final = "Gaussian"

    def counted(self, cost: Cost) -> Fraction:
        """mu^2. Raises AccountantFixed for sampled steps."""
        if cost.sampled:
            raise AccountantFixed(
                "this cohort's budget counts full-batch steps, and the job samples its batches",
                "submit the job with sample_rate 1; how a budget counts cannot be changed any more "
                "once something was released",
            )
        return cost.mu2

    def limit(self, epsilon: Decimal, delta: Decimal) -> Fraction:
        """The largest mu^2 that keeps (epsilon, delta)."""
        return gaussian.mu_squared_limit(epsilon, delta)

    def epsilon(self, cost: Cost, delta: Decimal) -> float:
        """Exact, rounded outward."""
        return gaussian.epsilon_of(self.counted(cost), delta)

    def full_batch(self, number: Fraction) -> Fraction:
        """The number itself."""
        return number


@dataclass(frozen=True)
class RenyiAccountant:
    """Counts the Rényi divergence at one order, fixed before anything is released.

    (Feldman, Zrnic 2021; see `privacy.renyi`.) Epsilons of what is spent are shown as the best
    order of all gives them: right for steps fixed beforehand, and enforcing nothing. Near the limit
    that order is this one.
    """

    order: int
    name: Final = "Rényi"

    def __post_init__(self) -> None:
        if self.order not in renyi.ORDERS:
            raise ValueError("no order that is kept")

    def counted(self, cost: Cost) -> Fraction:
        """The divergence at the order."""
        sampled = cost.sampled[renyi.ORDERS.index(self.order)] if cost.sampled else 0
        return self.order * cost.mu2 / 2 + sampled

    def limit(self, epsilon: Decimal, delta: Decimal) -> Fraction:
        """The largest divergence that keeps (epsilon, delta)."""
        return renyi.limit(self.order, epsilon, delta)

    def epsilon(self, cost: Cost, delta: Decimal) -> float:
        """An upper bound, by the best of all orders."""
        return renyi.epsilon(cost.curve, delta)

    def full_batch(self, number: Fraction) -> Fraction:
        """order * mu^2 / 2, solved for mu^2."""
        return 2 * number / self.order


def cost_of_round(terms: PrivacyTerms) -> Cost:
    """What one round costs. Raises NoiseInvalid without noise."""
    if terms.full_batch:
        return Cost(gaussian.mu_squared_of_round(terms))
    if not terms.private:
        raise gaussian.no_noise()
    step = renyi.step_curve(terms.sample_rate, terms.noise_multiplier)
    return Cost(sampled=step) * terms.steps


def cost_of_job(terms: PrivacyTerms) -> Cost:
    """What all rounds cost together. Raises NoiseInvalid without noise."""
    return cost_of_round(terms) * terms.rounds


def epsilon_of_job(terms: PrivacyTerms, delta: Decimal) -> float:
    """Epsilon of a job alone at `delta`: by mu^2 on full batches, by its curve on sampled ones.

    Raises NoiseInvalid without noise.
    """
    cost = cost_of_job(terms)
    if terms.full_batch:
        return gaussian.epsilon_of(cost.mu2, delta)
    return renyi.epsilon(cost.curve, delta)


def claiming(terms: PrivacyTerms) -> PrivacyTerms:
    """The terms, claiming the smallest epsilon of four decimals that their noise keeps.

    Raises what `PrivacyTerms.validate` raises, NoiseInvalid without noise.
    """
    replace(terms, epsilon=Decimal(1)).validate()
    value = Decimal(epsilon_of_job(terms, terms.delta))
    claim = value.quantize(EPSILON_UNIT, rounding=ROUND_CEILING)
    return replace(terms, epsilon=max(claim, EPSILON_UNIT))


def shown_up(epsilon: float) -> Decimal:
    """An epsilon for display, rounded up to four decimals."""
    # The bracketing of the root is good to 1e-12: a limit of 1 must not be shown as 1.0001.
    value = Decimal(epsilon) - Decimal("1e-9")
    return max(Decimal(0), value).quantize(EPSILON_UNIT, rounding=ROUND_CEILING)


def shown_down(epsilon: float) -> Decimal:
    """An epsilon for display, rounded down to four decimals."""
    value = Decimal(epsilon) + Decimal("1e-9")
    return value.quantize(EPSILON_UNIT, rounding=ROUND_FLOOR)


def decimal_up(value: Fraction) -> str:
    """A cost as a canonical decimal string, rounded up to 18 places."""
    with localcontext() as context:
        context.prec = 60
        scaled = -((-value.numerator * 10**_PLACES) // value.denominator)
        return decimal_text(Decimal(scaled).scaleb(-_PLACES))


def fits(spent: Fraction, reserved: Fraction, new: Fraction, limit: Fraction) -> bool:
    """The filter: whether a job that counts `new` may start beside what is spent and reserved.

    All four are of one accountant, exact. Valid under fully adaptive choice of jobs.
    """
    return spent + reserved + new <= limit


def calibrate(
    epsilon: Decimal, delta: Decimal, compositions: int, sample_rate: Decimal = Decimal(1)
) -> Decimal:
    """Noise multiplier at which `compositions` steps keep (epsilon, delta).

    Rounded up to six decimals, so the claim is never exceeded. Raises StepsInvalid, EpsilonInvalid,
    DeltaInvalid, DeltaTooLarge.
    """
    if sample_rate == 1 or type(compositions) is not int or compositions < 1:
        return gaussian.calibrate(epsilon, delta, compositions)
    return renyi.calibrate(epsilon, delta, sample_rate, compositions)


def check_claim(terms: PrivacyTerms) -> None:
    """Recompute the epsilon from the noise and refuse a claim that is lower than the truth.

    Every member can run this: it uses public constants only. Raises EpsilonOutOfPolicy, or what
    `PrivacyTerms.validate` raises.
    """
    terms.validate()
    if terms.epsilon is None:
        return
    cost = cost_of_job(terms)
    if terms.full_batch:
        kept = cost.mu2 <= gaussian.mu_squared_limit(terms.epsilon, terms.delta)
    else:
        # Members' last digits differ; what the curve is rounded up by is more than this.
        kept = renyi.epsilon(cost.curve, terms.delta) <= float(terms.epsilon) + 1e-9
    if not kept:
        needed = calibrate(terms.epsilon, terms.delta, terms.compositions, terms.sample_rate)
        raise EpsilonOutOfPolicy(
            f"epsilon {terms.epsilon} is claimed at delta {terms.delta}, but noise_multiplier "
            f"{terms.noise_multiplier} over {terms.compositions} steps does not keep it",
            f"use a noise_multiplier of at least {needed}",
        )


@dataclass(frozen=True)
class Fit:
    """What of a job fits into what is left: at most `rounds` of them, or all with this `noise`
    multiplier, which is an epsilon of `epsilon`. None where no noise is enough.
    """

    rounds: int
    noise: Decimal | None
    epsilon: Decimal


def what_fits(accountant: Accountant, terms: PrivacyTerms, left: Fraction, delta: Decimal) -> Fit:
    """How a job under `terms` would have to be smaller to cost no more than `left`."""
    rounds = int(left / accountant.counted(cost_of_round(terms)))
    if terms.full_batch:
        epsilon = shown_down(gaussian.epsilon_of(accountant.full_batch(left), delta))
        if epsilon <= 0:
            return Fit(rounds, None, Decimal(0))
        return Fit(rounds, gaussian.calibrate(epsilon, delta, terms.compositions), epsilon)
    noise = renyi.smallest_noise(
        terms.sample_rate, terms.compositions,
        lambda curve: accountant.counted(Cost(sampled=curve)) <= left,
    )  # fmt: skip
    if noise is None:
        return Fit(rounds, None, Decimal(0))
    step = renyi.step_curve(terms.sample_rate, noise)
    curve = (Cost(sampled=step) * terms.compositions).curve
    return Fit(rounds, noise, shown_down(renyi.epsilon(curve, delta)))
