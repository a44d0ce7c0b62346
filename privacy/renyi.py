"""Rényi differential privacy: what steps on sampled batches cost, and whether they fit a limit.

A step on a Poisson sample releases a sum of norm-clipped gradients of the patients drawn, plus
N(0, (sigma * clip)^2 I). Its cost is a curve: the Rényi divergence of each order (Mironov 2017;
of the subsampled Gaussian: Mironov, Talwar, Zhang 2019, computed by `dp-accounting`), kept at the
`ORDERS`. Curves add up order by order. A full-batch step's curve is order * mu^2 / 2, exactly.

Jobs are chosen in view of earlier results. For ONE order that was fixed before anything was
released, a sum that stays below a limit fixed beforehand is a valid filter even then (Feldman,
Zrnic 2021, "Individual privacy accounting via a Rényi filter", theorem 4.3; Lécuyer 2021). The
reason: with L the privacy loss so far and s the sum so far at the order a,
exp((a - 1) (L - s)) is a supermartingale whoever chooses the next job, so that its mean stays at
most 1 and E[exp((a - 1) L)] at most exp((a - 1) limit). "Some order of several still has room" is
no such filter: which order it is depends on the results, and that costs a share of delta for each.

From one order to (epsilon, delta) (Canonne, Kamath, Steinke 2020, proposition 12):

    epsilon = rho + log(1 - 1/a) - log(delta * a) / (a - 1)
"""

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final

from privacy.contract import check_delta, check_epsilon
from privacy.errors import EpsilonInvalid, NoiseInvalid

ORDERS: Final = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16, 20, 24, 28, 32, 48, 64, 128, 256)
"""Whole numbers: at these a step's divergence is a finite sum. Stored curves name them by their
place, so they never change."""

Curve = tuple[Fraction, ...]
SIGMA_PLACES: Final = 6
_PLACES: Final = 15
_GUARD_RELATIVE, _GUARD_ABSOLUTE = 1e-9, 1e-12  # far above what the sums may err
_LARGEST: Final = 1e6
_SMALLEST_SIGMA, _LARGEST_SIGMA = 0.1, 1e6
_TINY_DELTA: Final = 1e-30


@lru_cache(maxsize=4096)
def step_curve(sample_rate: Decimal, noise_multiplier: Decimal) -> Curve:
    """Rényi divergences of one sampled step at `ORDERS`, never below the true ones.

    Neighbours: add or remove one patient. Raises NoiseInvalid where they are beyond computation.
    """
    return tuple(
        _up(_divergence(float(sample_rate), float(noise_multiplier), order)) for order in ORDERS
    )


def gaussian_curve(mu2: Fraction) -> Curve:
    """Rényi divergences at `ORDERS` of what is mu-GDP by Gaussian noise: exactly order * mu^2 / 2.

    (Mironov 2017, proposition 7.)
    """
    return tuple(order * mu2 / 2 for order in ORDERS)


def epsilon(curve: Curve, delta: Decimal) -> float:
    """Smallest epsilon at `delta` that one of the curve's orders gives; 0 for nothing at all."""
    check_delta(delta)
    if not any(curve):
        return 0.0
    pairs = zip(ORDERS, curve, strict=True)
    return max(0.0, min(float(rho) - _room(order, delta) for order, rho in pairs))


def limit(order: int, epsilon_: Decimal, delta: Decimal) -> Fraction:
    """The divergence at `order` that keeps (epsilon_, delta); 0 where the order keeps none."""
    check_epsilon(epsilon_)
    check_delta(delta)
    return max(Fraction(0), Fraction(float(epsilon_) + _room(order, delta)))


def order_for(epsilon_: Decimal, delta: Decimal, curve: Curve) -> int:
    """The order at which most jobs of this `curve` fit a limit of (epsilon_, delta).

    Only among those from half of what is best for full-batch jobs up to that: one odd job must not
    choose an order that is of no use to others.
    """
    limits = [limit(order, epsilon_, delta) for order in ORDERS]
    best = max(range(len(ORDERS)), key=lambda i: limits[i] / ORDERS[i])
    near = [i for i in range(best + 1) if 2 * ORDERS[i] >= ORDERS[best]]
    return ORDERS[max(near, key=lambda i: limits[i] / curve[i])]


def smallest_noise(
    sample_rate: Decimal, steps: int, keeps: Callable[[Curve], bool]
) -> Decimal | None:
    """Smallest noise multiplier (six decimals, rounded up) whose `steps` steps have a curve that
    `keeps` accepts; None where no noise does. `keeps` must accept less where it accepts more."""

    def kept(sigma: Decimal) -> bool:
        return keeps(tuple(steps * rho for rho in step_curve(sample_rate, sigma)))

    unit = Decimal(1).scaleb(-SIGMA_PLACES)
    low, high = Decimal(str(_SMALLEST_SIGMA)), Decimal(1)
    while not kept(high):
        low, high = high, high * 2
        if high > _LARGEST_SIGMA:
            return None
    while high - low > unit:
        middle = ((low + high) / 2).quantize(unit, rounding=ROUND_CEILING)
        low, high = (low, middle) if kept(middle) else (middle, high)
    return high.quantize(unit, rounding=ROUND_CEILING)


def calibrate(epsilon_: Decimal, delta: Decimal, sample_rate: Decimal, steps: int) -> Decimal:
    """Noise multiplier at which `steps` sampled steps keep (epsilon_, delta).

    Raises EpsilonInvalid where no noise does: one order's conversion alone costs some epsilon.
    """
    check_epsilon(epsilon_)
    sigma = smallest_noise(
        sample_rate, steps, lambda curve: epsilon(curve, delta) <= float(epsilon_)
    )
    if sigma is None:
        raise EpsilonInvalid(
            f"epsilon {epsilon_} at delta {delta} is too small for sampled batches",
            "choose an epsilon such as 1, or train on the full batch (sample_rate 1)",
        )
    return sigma


def _room(order: int, delta: Decimal) -> float:
    """How far a divergence may lie above epsilon: rho <= epsilon + room (proposition 12)."""
    return math.log(float(delta) * order) / (order - 1) - math.log1p(-1 / order)


def _divergence(sample_rate: float, noise_multiplier: float, order: int) -> float:
    from dp_accounting import dp_event  # half a second that full-batch jobs do without
    from dp_accounting.rdp import RdpAccountant

    # The accountant shows epsilons only: with one order each, the conversion is taken back.
    accountant = RdpAccountant([order])
    step = dp_event.GaussianDpEvent(noise_multiplier)
    accountant.compose(dp_event.PoissonSampledDpEvent(sample_rate, step))
    shown = float(accountant.get_epsilon(_TINY_DELTA))
    return shown + _room(order, Decimal(_TINY_DELTA))


def _up(value: float) -> Fraction:
    if not value < _LARGEST:
        raise NoiseInvalid(
            "so little noise protects nobody: its cost is beyond computation",
            "choose a larger noise multiplier",
        )
    guarded = Decimal(max(0.0, value) * (1 + _GUARD_RELATIVE) + _GUARD_ABSOLUTE)
    return Fraction(guarded.quantize(Decimal(1).scaleb(-_PLACES), rounding=ROUND_CEILING))
