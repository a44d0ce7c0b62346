"""Costs of sampled batches, what enforces them and what is shown, against dp-accounting."""

import math
import random
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import mpmath
import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from dp_accounting.pld.privacy_loss_distribution import from_gaussian_mechanism
from dp_accounting.rdp import compute_epsilon
from privacy_examples import example_terms

from privacy import accounting, errors, pld, renyi
from privacy.accounting import Cost, GaussianAccountant, RenyiAccountant
from privacy.pld import Steps

DELTA = Decimal("0.00001")
Kind = tuple[str, str, int]  # sample rate, noise multiplier, steps

# Five jobs of 50 rounds, one step each.
FIVE: tuple[Kind, ...] = (
    ("0.1", "2", 50), ("0.1", "2.3", 50), ("0.05", "1.6", 50), ("0.2", "3.5", 50), ("1", "40", 50),
)  # fmt: skip
# A hundred different jobs: rates of 2 to 20 %, noise of 3 to 7.95, 5 to 24 steps.
HUNDRED: tuple[Kind, ...] = tuple(
    (str((2 + number % 19) / 100), str((60 + number) / 20), 5 + 7 * number % 20)
    for number in range(100)
)


def steps_of(kinds: Iterable[Kind]) -> list[Steps]:
    return [Steps(Decimal(rate), Decimal(noise), count) for rate, noise, count in kinds]


def cost_of(kinds: Iterable[Kind]) -> Cost:
    return sum(
        (
            accounting.cost_of_round(
                example_terms(
                    steps=count, sample_rate=Decimal(rate), noise_multiplier=Decimal(noise)
                )
            )
            for rate, noise, count in kinds
        ),
        Cost(),
    )


def by_hand(kinds: Iterable[Kind], interval: float) -> float:
    """dp-accounting's distributions, composed one job after another."""
    total = None
    for rate, noise, count in kinds:
        one = from_gaussian_mechanism(
            float(noise), sampling_prob=float(rate), value_discretization_interval=interval
        ).self_compose(count)
        total = one if total is None else total.compose(one)
    assert total is not None
    return float(total.get_epsilon_for_delta(float(DELTA)))


def test_full_batch_jobs_are_exact() -> None:
    """Noise of 10, 12, 14, 16 and 20, with 20 steps each, at delta .001: epsilon 2.221."""
    kinds = [("1", noise, 20) for noise in ("10", "12", "14", "16", "20")]
    cost, delta = cost_of(kinds), Decimal("0.001")
    assert math.sqrt(cost.mu2) == pytest.approx(0.7543, abs=1e-4)
    assert GaussianAccountant().epsilon(cost, delta) == pytest.approx(2.221, abs=5e-4)
    assert pld.shown(steps_of(kinds), delta) == Decimal("2.2213")
    accountant = PLDAccountant(value_discretization_interval=1e-3)
    for _, noise, count in kinds:
        accountant.compose(dp_event.GaussianDpEvent(float(noise)), count)
    assert accountant.get_epsilon(1e-3) == pytest.approx(2.221, rel=1e-3)


@pytest.mark.parametrize(("kinds", "interval"), [(FIVE, 2e-4), (HUNDRED, 5e-3)])
def test_sampled_jobs_agree_with_the_privacy_loss_distribution(
    kinds: tuple[Kind, ...], interval: float
) -> None:
    reference = by_hand(kinds, interval)
    assert float(pld.shown(steps_of(kinds), DELTA)) == pytest.approx(reference, rel=0.01)
    enforced = renyi.epsilon(cost_of(kinds).curve, DELTA)
    assert reference <= enforced <= 1.25 * reference


def test_a_steps_divergence_is_never_below_the_true_one() -> None:
    """Against the finite sum of Mironov, Talwar and Zhang (2019) with 60 digits."""
    for rate, noise in [("0.01", "1"), ("0.1", "4"), ("0.000001", "30"), ("0.5", "0.8")]:
        curve = renyi.step_curve(Decimal(rate), Decimal(noise))
        for order, value in zip(renyi.ORDERS, curve, strict=True):
            if order > 64:
                continue
            with mpmath.workdps(60):
                q, sigma = mpmath.mpf(rate), mpmath.mpf(noise)
                moments = (
                    mpmath.binomial(order, k) * (1 - q) ** (order - k) * q**k
                    * mpmath.exp(mpmath.mpf(k * (k - 1)) / (2 * sigma**2))
                    for k in range(order + 1)
                )  # fmt: skip
                true = float(mpmath.log(mpmath.fsum(moments)) / (order - 1))
            assert true <= value <= true * (1 + 1e-8) + 5e-12


def test_the_conversion_is_the_published_one() -> None:
    curve = cost_of(FIVE).curve
    published, _ = compute_epsilon(renyi.ORDERS, [float(rho) for rho in curve], float(DELTA))
    assert renyi.epsilon(curve, DELTA) == pytest.approx(published, rel=1e-12)
    assert renyi.epsilon(renyi.gaussian_curve(Fraction(0)), DELTA) == 0
    for order in renyi.ORDERS:
        room = renyi.limit(order, Decimal(3), DELTA)
        if room:
            flat = [float(room) if order == other else 1e9 for other in renyi.ORDERS]
            assert compute_epsilon(renyi.ORDERS, flat, float(DELTA))[0] == pytest.approx(3)


@pytest.mark.parametrize("rate", ["1", "0.2", "0.03"])
@pytest.mark.parametrize("epsilon", ["0.5", "3"])
def test_calibrated_noise_keeps_the_claim_and_hardly_more(rate: str, epsilon: str) -> None:
    noise = accounting.calibrate(Decimal(epsilon), DELTA, 60, Decimal(rate))
    terms = example_terms(
        rounds=10, steps=6, sample_rate=Decimal(rate), noise_multiplier=noise,
        epsilon=Decimal(epsilon),
    )  # fmt: skip
    accounting.check_claim(terms)
    less = example_terms(**{**vars(terms), "noise_multiplier": noise - Decimal("0.00001")})
    with pytest.raises(errors.EpsilonOutOfPolicy, match="does not keep it") as caught:
        accounting.check_claim(less)
    assert caught.value.resolve.endswith(str(noise))
    assert accounting.claiming(terms).epsilon == Decimal(epsilon)


def test_terms_claim_what_their_noise_gives() -> None:
    for rate in ("1", "0.1"):
        terms = example_terms(sample_rate=Decimal(rate), noise_multiplier=Decimal("2.5"))
        claimed = accounting.claiming(terms)
        accounting.check_claim(claimed)
        assert claimed.epsilon is not None
        lower = {**vars(claimed), "epsilon": claimed.epsilon - accounting.EPSILON_UNIT}
        with pytest.raises(errors.EpsilonOutOfPolicy):
            accounting.check_claim(example_terms(**lower))
    with pytest.raises(errors.NoiseInvalid):
        accounting.claiming(example_terms(noise_multiplier=Decimal(0)))


def test_what_is_beyond_computation_is_refused() -> None:
    with pytest.raises(errors.EpsilonInvalid, match="sampled"):
        accounting.calibrate(Decimal("0.001"), DELTA, 10, Decimal("0.1"))
    with pytest.raises(errors.NoiseInvalid):
        renyi.step_curve(Decimal("0.5"), Decimal("0.001"))
    with pytest.raises(errors.StepsInvalid):
        accounting.calibrate(Decimal(1), DELTA, 0, Decimal("0.1"))


def test_an_order_is_one_that_serves_other_jobs_too() -> None:
    limits = {order: renyi.limit(order, Decimal(3), DELTA) / order for order in renyi.ORDERS}
    best = max(limits, key=lambda order: limits[order])
    assert best == 8
    chosen = {
        renyi.order_for(Decimal(3), DELTA, renyi.step_curve(Decimal(rate), Decimal(noise)))
        for rate in ("0.001", "0.05", "0.5")
        for noise in ("0.5", "1", "2", "20")
    }
    assert chosen <= {4, 5, 6, 7, 8}
    assert len(chosen) > 2


def test_each_accountant_counts_one_number_and_adds_it_up() -> None:
    kinds = list(FIVE)
    total, half = cost_of(kinds), RenyiAccountant(6)
    assert half.counted(total) == sum(half.counted(cost_of([kind])) for kind in kinds)
    assert half.full_batch(half.counted(cost_of([FIVE[-1]]))) == cost_of([FIVE[-1]]).mu2
    assert (cost_of(kinds) * 0, Cost() + total) == (Cost(), total)
    with pytest.raises(errors.AccountantFixed):
        GaussianAccountant().counted(total)
    with pytest.raises(ValueError, match="order"):
        RenyiAccountant(11)
    with pytest.raises(ValueError, match="curve"):
        Cost(sampled=(Fraction(1),))


def test_what_is_shown_is_remembered_and_a_damaged_memory_is_made_anew(tmp_path: Path) -> None:
    cache, steps = tmp_path / "pld.json", steps_of([("0.1", "3", 5)])
    shown = pld.shown(steps, DELTA, cache)
    assert shown == pld.shown(steps, DELTA)
    cache.write_text(cache.read_text().replace(str(shown), "7"))
    assert pld.shown(steps, DELTA, cache) == 7
    for damage in ("", "[]", '{"a": "x"}'):
        cache.write_text(damage)
        assert pld.shown(steps, DELTA, cache) == shown
    assert pld.shown(steps_of([("1", "3", 5)]), DELTA, tmp_path / "none" / "pld.json") > 0


def test_random_jobs_by_the_curve_are_never_below_the_distribution() -> None:
    draw = random.Random(5)
    for _ in range(6):
        kind = (str(draw.choice([0.02, 0.1, 0.3])), str(round(draw.uniform(1, 6), 2)), 40)
        assert renyi.epsilon(cost_of([kind]).curve, DELTA) >= by_hand([kind], 1e-3) * 0.999
