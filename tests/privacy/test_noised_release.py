"""The release gate's second mode: how far one patient moves a number, and what an attack finds."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from consortium.rounds.score import auroc
from consortium.rounds.shapley import exact_shapley
from privacy.accounting import check_claim, cost_of_job
from privacy.errors import PrivacyError
from privacy.noise import SecureNoise
from privacy.noised_release import ReleaseNoise

Array = NDArray[np.float64]
LOGITS = st.integers(-3, 3)  # few values, so many ties
PATIENTS = st.lists(st.tuples(st.booleans(), LOGITS, LOGITS, LOGITS), max_size=14)


def drawn(gate: ReleaseNoise, labels: Array, logits: Array) -> float:
    positives = int(labels.sum())
    negatives = len(labels) - positives
    exact = auroc(labels, logits) if positives and negatives else 0.5
    return gate.drawn(exact, positives, negatives)


def table(patients: list[tuple[bool, int, int, int]]) -> tuple[Array, Array]:
    return (
        np.array([p[0] for p in patients], dtype=np.float64),
        np.array([p[1:] for p in patients], dtype=np.float64).reshape(-1, 3),
    )


@given(PATIENTS, st.tuples(st.booleans(), LOGITS, LOGITS, LOGITS), st.integers(1, 8))
def test_one_patient_moves_a_score_by_one_over_fewest_and_a_shapley_value_by_two(
    patients: list[tuple[bool, int, int, int]], one: tuple[bool, int, int, int], fewest: int
) -> None:
    gate = ReleaseNoise(fewest, Decimal(1))
    worlds = [table(patients), table([*patients, one])]
    scores = [[drawn(gate, labels, logits[:, i]) for i in range(3)] for labels, logits in worlds]
    assert np.abs(np.subtract(*scores)).max() <= 1 / fewest + 1e-12

    def value(labels: Array, logits: Array) -> Callable[[NDArray[np.bool_]], Array]:
        return lambda coalitions: np.array(
            [drawn(gate, labels, logits @ coalition) if coalition.any() else 0.5
             for coalition in coalitions]
        )  # fmt: skip

    values = [exact_shapley(3, value(*world)) for world in worlds]
    assert np.abs(np.subtract(*values)).max() <= 2 / fewest + 1e-12


def test_the_bound_is_reached() -> None:
    """So that no smaller noise would do."""
    gate = ReleaseNoise(50, Decimal(1))
    labels, logits = np.array([1.0] * 50 + [0.0] * 50), np.array([1.0] * 50 + [0.0] * 50)
    more = np.append(labels, 1.0), np.append(logits, -1.0)
    moved = drawn(gate, labels, logits) - drawn(gate, *more)
    assert moved == pytest.approx(1 / 51)


def test_enough_patients_keep_their_auroc_and_none_say_nothing() -> None:
    gate = ReleaseNoise(50, Decimal(1))
    assert gate.drawn(0.87, 50, 60) == pytest.approx(0.87)
    assert gate.drawn(0.9, 25, 100) == pytest.approx(0.7)
    assert gate.drawn(0.5, 0, 60) == 0.5


@dataclass
class Fixed:
    """Noise that can be looked at."""

    stds: list[float]
    private = True

    def normal(self, shape: tuple[int, ...], std: float) -> torch.Tensor:
        self.stds.append(std)
        return torch.ones(shape, dtype=torch.float64)


def test_noise_is_as_wide_as_the_contract_says() -> None:
    gate, noise = ReleaseNoise(200, Decimal(10)), Fixed([])
    assert gate.score(0.5, noise) == 1.5  # type: ignore[arg-type]
    assert gate.difference(0.5, noise) == 1.5  # type: ignore[arg-type]
    assert noise.stds == [pytest.approx(10 / 200), pytest.approx(20 / 200)]


def test_the_best_attack_on_a_score_reaches_its_bound_and_does_not_pass_it() -> None:
    """n against n - 1 validation patients, the one moving the score as far as any can."""
    gate, noise = ReleaseNoise(100, Decimal(1)), SecureNoise()
    labels, logits = np.array([1.0] * 100 + [0.0] * 100), np.array([1.0] * 100 + [0.0] * 100)
    more = np.append(labels, 1.0), np.append(logits, -1.0)
    with_one, without = (
        np.sort([gate.score(drawn(gate, *world), noise) for _ in range(4000)])
        for world in (more, (labels, logits))
    )
    ranks = np.searchsorted(with_one, without)  # how many of the lower world lie below
    auc = ranks.mean() / len(with_one)
    bound = float(norm.cdf(1 / 2**0.5))
    assert bound - 0.05 < auc < bound + 0.02


def test_numbers_count_as_so_many_steps() -> None:
    terms = ReleaseNoise(500, Decimal(50)).counted_as(10, 7, Decimal("0.00001"))
    check_claim(terms)
    assert float(cost_of_job(terms).mu2) == pytest.approx(70 / 2500)
    with pytest.raises(PrivacyError):
        ReleaseNoise(500, Decimal(0)).counted_as(10, 7, Decimal("0.00001"))
