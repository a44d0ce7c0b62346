"""Quality that the recipes reach with the real trainer and noise, and the figures' own rules."""

import dataclasses
import math
from decimal import Decimal

import numpy as np
import pytest
import torch
from heart_data import HEART_DATA, needs_heart_data
from scipy.stats import binomtest

from consortium import baselines, intervals, tasks
from consortium.tasks.network import Mlp
from consortium.tasks.task import Task

BREAST = tasks.get("breast-cancer")
HEART = tasks.get("heart-disease")
SEEDS = range(5)


def quality(task: Task, epsilon: str | None, delta: str, rounds: int, seed: int) -> list[float]:
    """Mean accuracy and AUROC over the hospitals' test parts."""
    sites = task.sites(HEART_DATA)
    splits = {site.id: task.split(site, seed) for site in sites}
    claimed = None if epsilon is None else Decimal(epsilon)
    terms = {s.id: task.terms(rounds, claimed, Decimal(delta), s.declared_patients) for s in sites}
    final = baselines.federated(task, splits, terms).final
    scores = [baselines.evaluate(task, final, split.test) for split in splits.values()]
    aurocs = [score.auroc for score in scores if score.auroc is not None]
    return [float(np.mean([score.accuracy for score in scores])), float(np.mean(aurocs))]


def over_seeds(task: Task, epsilon: str | None, delta: str, draws: int) -> np.ndarray:
    """Mean over the seeds and, for each, over `draws` draws of the noise."""
    rounds = task.recipe.rounds
    runs = [quality(task, epsilon, delta, rounds, seed) for seed in SEEDS for _ in range(draws)]
    return np.mean(runs, axis=0)


def test_breast_cancer_at_epsilon_one_is_close_to_no_noise() -> None:
    # One draw for each seed has a standard deviation of .006 in the mean: it takes several to see
    # what noise costs.
    without = over_seeds(BREAST, None, "0.00001", draws=1)
    lost = without - over_seeds(BREAST, "1", "0.00001", draws=8)
    assert without[0] >= 0.96
    assert lost[0] <= 0.015
    assert lost[1] <= 0.010


@needs_heart_data
@pytest.mark.parametrize(("epsilon", "accuracy"), [("3", 0.81), ("1", 0.79)])
def test_heart_disease_reaches_the_benchmark(epsilon: str, accuracy: float) -> None:
    assert over_seeds(HEART, epsilon, "0.001", draws=2)[0] >= accuracy


@pytest.mark.parametrize("rounds", [1, 3, 100])
def test_any_number_of_rounds_trains_as_well(rounds: int) -> None:
    assert quality(BREAST, None, "0.00001", rounds, 0)[0] > 0.94
    noisy = [quality(BREAST, "3", "0.00001", rounds, seed)[0] for seed in range(2)]
    assert np.mean(noisy) > 0.92


def test_comparisons_are_sane() -> None:
    sites = BREAST.sites()
    splits = [BREAST.split(site, 0) for site in sites]
    together = baselines.pooled(BREAST, splits, 370, rounds=10)
    alone = baselines.local(BREAST, splits[0], sites[0].declared_patients, rounds=10)
    for state in (together, alone):
        assert baselines.evaluate(BREAST, state, splits[0].test).accuracy > 0.9
    assert 0.6 < baselines.majority(BREAST, splits[0]) < 0.66


def test_the_released_model_is_the_mean_of_the_last_half() -> None:
    site = BREAST.sites()[0]
    terms = BREAST.terms(5, None, Decimal("0.00001"), site.declared_patients)
    done = baselines.federated(BREAST, {"one": BREAST.split(site, 0)}, {"one": terms})
    last = torch.stack([state["weight"].double() for state in done.rounds[2:]])
    torch.testing.assert_close(done.final["weight"].double(), last.mean(0), rtol=1e-6, atol=1e-7)


def test_metrics_have_intervals_and_abstain_on_few_patients() -> None:
    logits = np.array([-3.0, -2, -1, -0.5, 1, 2, 3, 0.5, 4, -0.2])
    y = np.array([0.0] * 5 + [1.0] * 5)
    found = baselines.metrics(logits, y)
    assert found.accuracy == 0.8
    assert found.accuracy_interval == pytest.approx((0.490, 0.943), abs=1e-3)
    assert found.auroc == 0.92
    assert found.auroc_interval is not None
    assert found.auroc_interval[0] < 0.92 < found.auroc_interval[1] <= 1
    few = baselines.metrics(logits[1:], y[1:])
    assert few.auroc is None
    assert few.auroc_interval is None


def test_the_deviation_is_that_of_hanley_and_mcneil() -> None:
    # Their table II: 51 abnormal and 58 normal images, area .893, standard error .032.
    deviation = intervals._auroc_variance(0.893, 51, 58) ** 0.5
    assert deviation == pytest.approx(0.032, abs=0.001)


@pytest.mark.parametrize(("right", "patients"), [(0, 5), (1, 7), (19, 20), (20, 20), (333, 999)])
def test_the_interval_of_a_share_is_wilsons(right: int, patients: int) -> None:
    known = binomtest(right, patients).proportion_ci(0.95, method="wilson")
    found = intervals.share_interval(right / patients, patients)
    assert found == pytest.approx((known.low, known.high), abs=1e-12)


def test_the_interval_is_not_empty_at_the_edge() -> None:
    low, high = intervals.auroc_interval(1.0, 8, 9)
    assert high == 1.0
    assert 0.6 < low < 0.95
    low, high = intervals.auroc_interval(0.893, 51, 58)
    assert low < 0.893 < high


def test_recipes_travel_the_same_length_whatever_the_rounds() -> None:
    for rounds in (1, 7, 10, 50, 1000):
        terms = BREAST.terms(rounds, Decimal(1), Decimal("0.00001"), 100)
        travelled = terms.learning_rate * terms.rounds * terms.steps
        assert abs(travelled - BREAST.recipe.travel) < Decimal("0.00001")
        assert terms.compositions >= BREAST.recipe.total_steps


def test_a_model_with_hidden_layers_trains_too() -> None:
    task = dataclasses.replace(BREAST, network=Mlp((8,)))
    model = task.model(3)
    assert torch.equal(model(torch.ones(2, 30)), torch.zeros(2, 1))
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), task.model(3).parameters(), strict=True)
    )
    assert math.isclose(quality(task, None, "0.00001", 10, 0)[0], 0.95, abs_tol=0.04)
