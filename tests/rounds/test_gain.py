"""What a hospital gains: known answers, and an interval that holds the truth often enough."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, norm
from sklearn.metrics import roc_auc_score, roc_curve

from consortium import gain as gains
from consortium.gain import auroc_difference, gain
from consortium.intervals import auroc_interval

OUTCOMES = np.repeat([1.0, 0.0], [10, 20])


@pytest.fixture
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gains, "RESAMPLES", 300)


def with_alarms(found: int, alarms: int) -> np.ndarray:
    """Logits that find so many of 10 cases with so many of 20 false alarms, no two alike.

    Among those with an alarm, and among those without, cases lie above others.
    """
    called = np.where(np.arange(30) < 10, np.arange(30) < found, np.arange(30) - 10 < alarms)
    return np.where(called, 1.0, -1.0) - np.arange(30) / 100


def test_a_perfect_model_beside_one_that_guesses() -> None:
    perfect = np.where(OUTCOMES > 0, 3.0, -3.0) + np.arange(30) / 100
    guess = np.random.default_rng(1).normal(size=30)
    found = gain(perfect, guess, OUTCOMES)
    assert found is not None
    assert found.federated == 1
    assert found.false_alarms == int((guess[10:] > 0).sum())
    curve = roc_curve(OUTCOMES, guess, drop_intermediate=False)
    ends = curve[1][np.isclose(curve[0], found.false_alarms / 20)]
    assert found.alone == pytest.approx((ends.min() + ends.max()) / 2)
    assert found.more.value == pytest.approx(1 - found.alone)
    found = gain(perfect, with_alarms(2, 5), OUTCOMES)
    assert found is not None
    assert found.more.low > 0


def test_a_worse_model_finds_fewer() -> None:
    found = gain(with_alarms(0, 20), with_alarms(10, 2), OUTCOMES)
    assert found is not None
    assert (found.federated, found.alone) == (0, 1)
    assert found.more.high < 0
    assert -1 <= found.more.low <= found.more.value == -1


@pytest.mark.parametrize("seed", range(6))
def test_equal_models_gain_nothing_and_that_is_not_certain(seed: int) -> None:
    alone = np.random.default_rng(seed).integers(-9, 9, 30).astype(float)  # many are tied
    found = gain(alone, alone, OUTCOMES)
    assert found is not None
    assert found.more.value == 0
    assert found.more.low < -0.04
    assert found.more.high > 0.04
    # A federated model on another scale, with another threshold, ranks as before.
    assert gain(0.25 * alone - 2, alone, OUTCOMES) == found


def test_at_no_false_alarm_the_cases_above_all_others_count() -> None:
    alone = with_alarms(6, 0)
    alone[6] = alone[10:].max() / 2  # below one half, and above all others
    alone[7:10] -= 5
    found = gain(with_alarms(10, 0), alone, OUTCOMES)
    assert found is not None
    assert (found.false_alarms, found.alone, found.federated) == (0, 0.7, 1)


def test_between_two_thresholds_the_middle_counts() -> None:
    outcomes = np.array([1.0, 1, 1, 1, 0, 0, 0])
    alone = np.array([5, -0.5, -0.6, -3, 4.0, -1, -2])  # one alarm at 4; the next would be at -1
    federated = np.array([5, 3, -9, -9.5, 4.0, 2, 1])
    found = gain(federated, alone, outcomes)
    assert found is not None
    # At the alarm one is found; just above the next three, and of the federated model's two.
    assert (found.alone, found.federated) == (0.5, 0.375)


def test_tied_patients_are_divided_as_the_curve_divides_them() -> None:
    tells_nothing = np.zeros(30)
    found = gain(tells_nothing, with_alarms(8, 5), OUTCOMES)
    assert found is not None
    assert found.federated == pytest.approx(5 / 20)  # chance: as many cases as false alarms
    two_groups = np.where(np.isin(np.arange(30), [0, 1, 2, 3, 10, 11]), 1.0, -1.0)
    found = gain(two_groups, with_alarms(8, 5), OUTCOMES)
    assert found is not None
    curve = roc_curve(OUTCOMES, two_groups)
    assert found.federated == pytest.approx(np.interp(5 / 20, curve[0], curve[1]))


@pytest.mark.parametrize("outcomes", [np.ones(5), np.zeros(5)])
def test_of_one_class_there_is_none(outcomes: np.ndarray) -> None:
    logits = np.linspace(-1, 1, 5)
    assert gain(logits, logits, outcomes) is None
    assert auroc_difference(logits, logits, outcomes) is None


def test_beside_a_model_that_alarms_for_everybody_there_is_none() -> None:
    assert gain(with_alarms(8, 2), np.full(30, 2.0), OUTCOMES) is None


def test_the_same_patients_give_the_same_interval() -> None:
    federated, alone = np.random.default_rng(3).normal(size=(2, 30)) + OUTCOMES
    assert gain(federated, alone, OUTCOMES) == gain(federated, alone, OUTCOMES)


def test_what_is_drawn_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    federated, alone = np.random.default_rng(3).normal(size=(2, 30)) + OUTCOMES
    at_once = gain(federated, alone, OUTCOMES)
    monkeypatch.setattr(gains, "_AT_ONCE", 30 * 70)
    in_parts = gain(federated, alone, OUTCOMES)
    assert at_once is not None
    assert in_parts is not None
    assert in_parts.more.low == pytest.approx(at_once.more.low, abs=0.06)


# the interval

CASES = {  # cases, others, how far both models separate them, false alarms, correlation
    "alike": (20, 20, 1.5, 1.5, 0.2, 0.5),
    "far apart": (20, 20, 3.0, 0.0, 0.3, 0.0),
    "few others": (50, 10, 2.0, 0.8, 0.2, 0.3),
    "worse": (10, 20, 1.0, 2.0, 0.1, 0.6),
    "near each other": (50, 50, 1.5, 1.2, 0.2, 0.95),
}


def holds(name: str, interval: Callable[..., tuple[float, float]], runs: int) -> list[bool]:
    """Whether intervals hold the difference of the two curves at the own model's false alarms."""
    cases, others, ours, own, alarms, correlation = CASES[name]
    random, outcomes = np.random.default_rng(7), np.repeat([1.0, 0.0], [cases, others])
    threshold = norm.isf(alarms)
    truth = norm.sf(threshold - ours) - norm.sf(threshold - own)
    found = []
    for _ in range(runs):
        one, other = random.normal(size=(2, cases + others))
        federated = one + ours * outcomes
        other = correlation * one + math.sqrt(1 - correlation**2) * other
        low, high = interval(federated, other + own * outcomes - threshold, outcomes)
        found.append(low <= truth <= high)
    return found


def told(federated: np.ndarray, alone: np.ndarray, outcomes: np.ndarray) -> tuple[float, float]:
    found = gain(federated, alone, outcomes)
    return (-1, 1) if found is None else (found.more.low, found.more.high)


@pytest.mark.usefixtures("few_resamples")
@pytest.mark.parametrize("name", CASES)
def test_the_interval_holds_the_truth(name: str) -> None:
    held = holds(name, told, 150)
    assert binomtest(sum(held), len(held), 0.95, alternative="less").pvalue > 1e-3, np.mean(held)


def test_an_interval_that_forgets_who_set_the_thresholds_would_fail_this_test() -> None:
    def forgetful(
        federated: np.ndarray, alone: np.ndarray, outcomes: np.ndarray
    ) -> tuple[float, float]:
        sick, well = (np.stack([federated, alone])[:, outcomes == y] for y in (1, 0))
        found = gains._found(sick, well, np.full(2, (well[1] > 0).sum()))
        one, other = found.mean(axis=1)
        of = [gains.share_interval(float(share), sick.shape[1]) for share in (one, other)]
        return gains._joined((one, of[0]), (other, of[1]), gains._correlation(found, sick.shape[1]))

    held = holds("few others", forgetful, 200)
    assert binomtest(sum(held), len(held), 0.95, alternative="less").pvalue < 1e-3


# the AUROC


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 15), st.integers(2, 15))
def test_a_difference_of_aurocs_is_that_of_the_usual_ones(seed: int, sick: int, well: int) -> None:
    random, outcomes = np.random.default_rng(seed), np.repeat([1.0, 0.0], [sick, well])
    federated, alone = np.round(random.normal(size=(2, sick + well)) + outcomes, 1)
    found = auroc_difference(federated, alone, outcomes)
    assert found is not None
    expected = roc_auc_score(outcomes, federated) - roc_auc_score(outcomes, alone)
    assert found.value == pytest.approx(expected)
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9


def test_delongs_correlation_makes_the_interval_of_alike_models_narrow() -> None:
    random, outcomes = np.random.default_rng(0), np.repeat([1.0, 0.0], [100, 200])
    federated = random.normal(size=300) + outcomes
    near = auroc_difference(federated, federated + 0.01 * random.normal(size=300), outcomes)
    apart = auroc_difference(federated, random.normal(size=300) + outcomes, outcomes)
    assert near is not None
    assert apart is not None
    assert near.high - near.low < (apart.high - apart.low) / 2


def test_two_perfect_models_do_not_differ_and_that_is_not_certain() -> None:
    perfect = np.where(OUTCOMES > 0, 3.0, -3.0)
    found = auroc_difference(perfect, perfect, OUTCOMES)
    assert found is not None
    assert (found.value, found.high) == (0, pytest.approx(1 - auroc_interval(1.0, 10, 20)[0]))
