"""Gaussian-DP accounting against dp-accounting, closed forms and the design's reference values."""

import math
import time
from decimal import Decimal
from fractions import Fraction

import pytest
from dp_accounting import dp_event
from dp_accounting.pld import PLDAccountant
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_examples import example_terms
from scipy.stats import norm

from privacy import accounting, gaussian
from privacy.errors import EpsilonInvalid, EpsilonOutOfPolicy, NoiseInvalid, StepsInvalid


def test_reference_values_of_five_jobs() -> None:
    total = sum(
        (Fraction(20) / Fraction(sigma) ** 2 for sigma in (10, 12, 14, 16, 20)), Fraction(0)
    )
    assert math.sqrt(total) == pytest.approx(0.75436, abs=5e-6)
    assert gaussian.epsilon_of(total, Decimal("0.001")) == pytest.approx(2.221, abs=5e-4)


def test_two_jobs_of_epsilon_one_compose_to_less_than_two() -> None:
    one = gaussian.mu_squared_limit(Decimal(1), Decimal("0.00001"))
    assert gaussian.epsilon_of(2 * one, Decimal("0.00001")) == pytest.approx(1.47, abs=0.005)


@pytest.mark.parametrize(("sigma", "steps"), [(10, 20), (4, 3), (30, 500)])
@pytest.mark.parametrize("delta", [1e-3, 1e-5])
def test_agrees_with_the_privacy_loss_distribution(sigma: int, steps: int, delta: float) -> None:
    accountant = PLDAccountant()
    accountant.compose(dp_event.GaussianDpEvent(float(sigma)), steps)
    own = gaussian.epsilon(math.sqrt(steps) / sigma, delta)
    assert own == pytest.approx(accountant.get_epsilon(delta), rel=2e-3)


@given(mu=st.floats(0.01, 8), epsilon=st.floats(0.01, 30))
def test_delta_is_the_neyman_pearson_integral(mu: float, epsilon: float) -> None:
    cut = epsilon / mu + mu / 2
    direct = norm.sf(cut - mu) - math.exp(epsilon) * norm.sf(cut)
    assert gaussian.delta(mu, epsilon) == pytest.approx(max(direct, 0.0), abs=1e-12)


@settings(deadline=None)
@given(
    epsilon=st.decimals("0.05", "20", places=3),
    delta=st.sampled_from([Decimal("0.001"), Decimal("0.00001"), Decimal("0.00000001")]),
    compositions=st.integers(1, 100_000),
)
def test_calibrated_noise_never_exceeds_the_claim(
    epsilon: Decimal, delta: Decimal, compositions: int
) -> None:
    sigma = gaussian.calibrate(epsilon, delta, compositions)
    spent = compositions / Fraction(sigma) ** 2
    assert spent <= gaussian.mu_squared_limit(epsilon, delta)
    assert gaussian.delta(math.sqrt(spent), float(epsilon)) <= float(delta) * (1 + 1e-12)
    less = Fraction(sigma) - Fraction(2, 10**gaussian.SIGMA_PLACES)
    assert compositions / less**2 > gaussian.mu_squared_limit(epsilon, delta)


@pytest.mark.parametrize("mu", [1e-3, 0.1, 1.0, 5.0, 20.0])
def test_epsilon_and_mu_invert_each_other(mu: float) -> None:
    epsilon = gaussian.epsilon(mu, 1e-6)
    if epsilon > 0:
        assert gaussian.mu_for(epsilon, 1e-6) == pytest.approx(mu, rel=1e-9)
        assert gaussian.delta(mu, epsilon) <= 1e-6


def test_nothing_spent_is_epsilon_zero() -> None:
    assert gaussian.epsilon_of(Fraction(0), Decimal("0.00001")) == 0.0


def test_filter_is_exact_at_the_limit() -> None:
    third = Fraction(1, 3)
    assert accounting.fits(third, third, third, Fraction(1))
    assert not accounting.fits(third, third, third, Fraction(1) - Fraction(1, 10**40))


def test_a_claim_lower_than_the_truth_is_refused_by_name() -> None:
    terms = example_terms(noise_multiplier=Decimal("1"), epsilon=Decimal("0.1"))
    with pytest.raises(EpsilonOutOfPolicy, match="noise_multiplier 1 ") as caught:
        accounting.check_claim(terms)
    needed = caught.value.resolve.rsplit(" ", 1)[1]
    accounting.check_claim(example_terms(noise_multiplier=Decimal(needed), epsilon=Decimal("0.1")))


def test_a_job_without_noise_has_no_cost_to_add_up() -> None:
    with pytest.raises(NoiseInvalid):
        gaussian.mu_squared(example_terms(noise_multiplier=Decimal(0), epsilon=None))


@pytest.mark.parametrize("epsilon", ["0.000001", "0.01", "50", "1000", "100000"])
def test_extreme_epsilons_are_computed_and_never_exceeded(epsilon: str) -> None:
    sigma = gaussian.calibrate(Decimal(epsilon), Decimal("0.00001"), 10)
    spent = 10 / Fraction(sigma) ** 2
    assert gaussian.delta(math.sqrt(spent), float(epsilon)) <= 1e-5 * (1 + 1e-12)


def test_an_epsilon_beyond_computation_is_refused() -> None:
    with pytest.raises(EpsilonInvalid):
        gaussian.mu_for(1e-12, 1e-13)


@pytest.mark.parametrize("compositions", [0, -1, 2.0, True])
def test_calibration_needs_a_count(compositions: int) -> None:
    with pytest.raises(StepsInvalid):
        gaussian.calibrate(Decimal(1), Decimal("0.00001"), compositions)


def test_a_tiny_cost_is_answered_at_once() -> None:
    """A declared cost comes from others: it must not keep the accountant busy."""
    start = time.monotonic()
    assert 0 <= gaussian.epsilon(1e-9, 3e-10) < 1e-6
    assert time.monotonic() - start < 1
