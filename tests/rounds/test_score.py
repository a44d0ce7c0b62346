import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from consortium.rounds import score

PATIENTS = st.lists(
    st.tuples(st.booleans(), st.integers(-5, 5) | st.floats(-10, 10)), min_size=2, max_size=60
).filter(lambda patients: len({label for label, _ in patients}) == 2)


@given(PATIENTS)
def test_auroc_is_scikit_learns_ties_included(patients: list[tuple[bool, float]]) -> None:
    labels = np.array([float(label) for label, _ in patients])
    logits = np.array([float(logit) for _, logit in patients])
    assert score.auroc(labels, logits) == pytest.approx(roc_auc_score(labels, logits), abs=1e-12)


def test_auroc_of_known_orders() -> None:
    labels = np.array([0.0, 0, 1, 1])
    assert score.auroc(labels, np.array([1.0, 2, 3, 4])) == 1
    assert score.auroc(labels, np.array([4.0, 3, 2, 1])) == 0
    assert score.auroc(labels, np.zeros(4)) == 0.5
    assert score.auroc(labels, np.array([1.0, 3, 2, 4])) == 0.75


@pytest.mark.parametrize(
    ("positive", "negative", "can"),
    [(5, 5, True), (4, 50, False), (50, 4, False), (0, 9, False), (5, 500, True)],
)
def test_fewer_than_five_of_a_class_give_no_score(positive: int, negative: int, can: bool) -> None:
    assert score.can_score(np.array([1.0] * positive + [0.0] * negative)) is can


@given(st.floats(0, 1))
def test_a_score_is_banded_and_stays_near(value: float) -> None:
    banded = score.banded_score(value)
    assert banded % 200 == 0
    assert 0 <= banded <= 10_000
    assert abs(banded - value * 10_000) <= 100 + 1e-6


@given(st.floats(-1, 1))
def test_a_shapley_value_is_banded_and_within_what_a_record_holds(value: float) -> None:
    banded = score.banded_shapley(value)
    assert banded % 25 == 0
    assert -10_000 <= banded <= 10_000
    assert abs(banded - value * 10_000) <= 12.5 + 1e-6


@pytest.mark.parametrize(
    ("values", "median"),
    [([], None), ([7], 7), ([1, 9], 1), ([9, 1, 5], 5), ([1, 2, 3, 4], 2), ([5, 1, 4, 2, 3], 3)],
)
def test_lower_median(values: list[int], median: int | None) -> None:
    assert score.lower_median(values) == median


@given(st.lists(st.integers(0, 100), min_size=3, max_size=9), st.data())
def test_a_minority_of_liars_cannot_move_a_median_beyond_the_honest(
    honest: list[int], data: st.DataObject
) -> None:
    liars = data.draw(st.lists(st.integers(0, 10**6), max_size=(len(honest) - 1) // 2))
    median = score.lower_median(honest + liars)
    assert median is not None
    assert min(honest) <= median <= max(honest)
