"""A hospital's own calibration: right with many patients, close to nothing with few."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.measures import calibration_error, measures
from consortium.recalibration import recalibration

SEEDS = st.integers(0, 10_000)


def drawn(
    seed: int, patients: int, slope: float, intercept: float
) -> tuple[np.ndarray, np.ndarray]:
    """Logits of a model, and outcomes of which it is wrong by this slope and intercept."""
    random = np.random.default_rng(seed)
    logits = 2 * random.normal(size=patients)
    chance = 1 / (1 + np.exp(-(slope * logits + intercept)))
    return logits, (random.random(patients) < chance).astype(float)


@pytest.mark.parametrize(("slope", "intercept"), [(0.4, 1.5), (1.0, 0.0), (2.0, -1.0)])
def test_many_patients_find_how_the_model_is_wrong(slope: float, intercept: float) -> None:
    own = recalibration(*drawn(0, 20_000, slope, intercept))
    assert own.slope == pytest.approx(slope, abs=0.06)
    assert own.intercept == pytest.approx(intercept, abs=0.06)
    logits, outcomes = drawn(1, 20_000, slope, intercept)
    assert calibration_error(own.logits(logits), outcomes) < 0.01


def test_no_patient_changes_nothing() -> None:
    own = recalibration(np.empty(0), np.empty(0))
    assert (own.slope, own.intercept) == (1, 0)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(1, 15))
def test_few_patients_change_little_and_one_outcome_does_not_run_away(
    seed: int, patients: int
) -> None:
    logits = 2 * np.random.default_rng(seed).normal(size=patients)
    own = recalibration(logits, np.ones(patients))
    assert 0 < own.slope < 3
    assert 0 <= own.intercept < 2.5


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_who_ranks_above_whom_stays(seed: int) -> None:
    logits, outcomes = drawn(seed, 40, -1, 0)  # a model that is wrong the other way round
    own = recalibration(logits, outcomes)
    assert own.slope > 0
    assert measures(own.logits(logits), outcomes)["auroc"] == measures(logits, outcomes)["auroc"]


def test_large_logits_overflow_nothing() -> None:
    with np.errstate(over="raise", invalid="raise"):
        own = recalibration(np.array([1e4, -1e4, 1e4, -1e4]), np.array([1.0, 0, 0, 1]))
    assert 0 < own.slope < 1
