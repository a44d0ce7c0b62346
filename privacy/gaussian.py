"""Gaussian differential privacy: what full-batch noisy steps cost.

One step releases a sum of norm-clipped gradients plus N(0, (sigma * clip)^2 I). With add-or-
remove-one neighbours its sensitivity is clip, so the step is (1 / sigma)-GDP, and T steps are
sqrt(T) / sigma-GDP (Dong, Roth, Su 2022, "Gaussian differential privacy", theorem 2.7 and
corollary 3.3). So mu^2 = steps / sigma^2 adds up exactly; it is kept as an exact fraction, and
epsilon is derived from it, never stored (summing epsilons overstates, a new accountant per round
understates).

Jobs are chosen in view of earlier results. A sum of mu^2 that stays below a limit fixed beforehand
is a valid filter even then (Smith, Thakurta 2022, "Fully adaptive composition for Gaussian
differential privacy", arXiv 2210.17520); a stopping rule on a privacy loss distribution is not.

The curve (Dong, Roth, Su, corollary 2.13):

    delta(mu, epsilon) = Phi(-epsilon / mu + mu / 2) - exp(epsilon) Phi(-epsilon / mu - mu / 2)
"""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from privacy.contract import PrivacyTerms, check_delta, check_epsilon
from privacy.errors import EpsilonInvalid, NoiseInvalid, SampleRateInvalid, StepsInvalid

SIGMA_PLACES: Final = 6
_LARGEST_MU: Final = 60.0
_SMALLEST_MU: Final = 1e-9


def mu_squared(terms: PrivacyTerms) -> Fraction:
    """Exact mu^2 of a whole job: rounds * steps / sigma^2. Raises NoiseInvalid without noise."""
    return terms.rounds * mu_squared_of_round(terms)


def mu_squared_of_round(terms: PrivacyTerms) -> Fraction:
    """Exact mu^2 of one round: steps / sigma^2.

    Raises NoiseInvalid without noise, SampleRateInvalid for sampled batches, whose cost is none.
    """
    if not terms.private:
        raise no_noise()
    if not terms.full_batch:
        raise SampleRateInvalid(
            f"sample_rate is {terms.sample_rate}; mu^2 is of full batches only",
            "use `privacy.accounting.cost_of_round`",
        )
    return terms.steps / Fraction(terms.noise_multiplier) ** 2


def no_noise() -> NoiseInvalid:
    """The error for a cost that is asked of a job without noise."""
    return NoiseInvalid(
        "noise_multiplier is 0: this job has no privacy cost because it has no privacy",
        "give the job an epsilon, or run it as a comparison on data that needs no protection",
    )


def delta(mu: float, epsilon: float) -> float:
    """Smallest delta at which a mu-GDP mechanism is (epsilon, delta)-DP."""
    from scipy.special import log_ndtr, ndtr  # slow to load, and most commands ask for no delta

    if mu == 0.0:
        return 0.0
    a = -epsilon / mu + mu / 2
    b = -epsilon / mu - mu / 2
    # exp(epsilon) overflows where Phi(b) underflows: their logarithms do not.
    return max(0.0, float(ndtr(a)) - math.exp(min(700.0, epsilon + float(log_ndtr(b)))))


@lru_cache(maxsize=1024)
def epsilon(mu: float, delta_: float) -> float:
    """Smallest epsilon at which a mu-GDP mechanism is (epsilon, delta_)-DP; 0 when mu is 0.

    Rounded outward. What floating point leaves: at it delta is exceeded by less than one part in
    10^7 (mu from 1e-6, delta from 1e-12; held against 60 digits).
    """
    check_delta(Decimal(repr(delta_)))
    if not 0.0 <= mu <= _LARGEST_MU:
        raise NoiseInvalid(
            f"mu is {mu}; allowed: 0 to {_LARGEST_MU:g}",
            "so little noise protects nobody: choose a larger noise multiplier or fewer steps",
        )
    if delta(mu, 0.0) <= delta_:
        return 0.0
    high = mu * mu / 2 + mu * 10
    while delta(mu, high) > delta_:
        high *= 2
    root = _root(lambda e: delta(mu, e) - delta_, 0.0, high, 1e-13)
    step = max(root * 1e-13, 1e-15)
    while delta(mu, root) > delta_:
        root, step = root + step, step * 2
    return root


@lru_cache(maxsize=1024)
def mu_for(epsilon_: float, delta_: float) -> float:
    """Largest mu whose mechanism is still (epsilon_, delta_)-DP, rounded inward as `epsilon`.

    At most 60, where noise protects nobody. Raises EpsilonInvalid, DeltaInvalid, DeltaTooLarge.
    """
    check_epsilon(Decimal(repr(epsilon_)))
    check_delta(Decimal(repr(delta_)))
    if delta(_LARGEST_MU, epsilon_) <= delta_:
        return _LARGEST_MU
    if delta(_SMALLEST_MU, epsilon_) > delta_:
        raise EpsilonInvalid(
            f"epsilon {epsilon_} at delta {delta_} asks for more noise than can be computed",
            "choose an epsilon such as 1",
        )
    root = _root(lambda m: delta(m, epsilon_) - delta_, _SMALLEST_MU, _LARGEST_MU, 1e-14)
    while delta(root, epsilon_) > delta_:
        root = math.nextafter(root * (1 - 1e-13), 0.0)
    return root


def _root(of: Callable[[float], float], low: float, high: float, tolerance: float) -> float:
    from scipy.optimize import brentq  # slow to load

    return float(brentq(of, low, high, xtol=tolerance, rtol=1e-14))


def mu_squared_limit(epsilon_: Decimal, delta_: Decimal) -> Fraction:
    """The mu^2 that a lifetime guarantee of (epsilon_, delta_) allows, as an exact fraction."""
    check_epsilon(epsilon_)
    check_delta(delta_)
    return Fraction(mu_for(float(epsilon_), float(delta_))) ** 2


def calibrate(epsilon_: Decimal, delta_: Decimal, compositions: int) -> Decimal:
    """Noise multiplier at which `compositions` full-batch steps keep (epsilon_, delta_).

    Rounded up to six decimals, so the claim is never exceeded.
    """
    if type(compositions) is not int or compositions < 1:
        raise StepsInvalid(
            f"compositions is {compositions!r}; allowed: a whole number of at least 1",
            "calibrate for rounds * steps of the job",
        )
    limit = mu_squared_limit(epsilon_, delta_)
    sigma = Decimal(math.sqrt(compositions / limit))
    unit = Decimal(1).scaleb(-SIGMA_PLACES)
    rounded = sigma.quantize(unit, rounding=ROUND_CEILING)
    while compositions / Fraction(rounded) ** 2 > limit:
        rounded += unit
    return rounded


def epsilon_of(mu2: Fraction, delta_: Decimal) -> float:
    """Epsilon at `delta_` of a total cost mu^2, rounded outward."""
    return epsilon(_root_up(mu2), float(delta_))


def _root_up(mu2: Fraction) -> float:
    if mu2 == 0:
        return 0.0
    root = math.sqrt(mu2)
    while Fraction(root) ** 2 < mu2:
        root = math.nextafter(root, math.inf)
    return root
