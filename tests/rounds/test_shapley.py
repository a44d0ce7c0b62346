"""Exact Shapley values by their axioms; sampled ones against them, and what truncation may not."""

from collections.abc import Callable
from itertools import permutations
from math import factorial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from consortium.rounds.shapley import (
    EXACT_LIMIT,
    MOST_EVALUATIONS,
    exact_shapley,
    gtg_shapley,
    shapley_values,
)

N = 4
GAMES = st.lists(st.integers(-1000, 1000), min_size=2**N, max_size=2**N)
Coalitions = np.ndarray


def number(coalitions: Coalitions) -> np.ndarray:
    return coalitions @ (1 << np.arange(coalitions.shape[1]))


def game(values: list[int]) -> Callable[[Coalitions], np.ndarray]:
    table = np.array(values, dtype=np.float64)
    return lambda coalitions: table[number(coalitions)]


def counted(value: Callable[[Coalitions], np.ndarray]) -> tuple[Callable[..., np.ndarray], list]:
    asked: list[int] = []

    def counting(coalitions: Coalitions) -> np.ndarray:
        asked.extend(number(coalitions).tolist())
        return value(coalitions)

    return counting, asked


@given(GAMES)
@settings(max_examples=30)
def test_it_is_the_mean_marginal_contribution_over_all_orders(values: list[int]) -> None:
    found = exact_shapley(N, game(values))
    for player in range(N):
        total = 0.0
        for order in permutations(range(N)):
            before = sum(1 << p for p in order[: order.index(player)])
            total += values[before | 1 << player] - values[before]
        assert found[player] == pytest.approx(total / factorial(N), abs=1e-9)


@given(GAMES)
@settings(max_examples=30)
def test_efficiency(values: list[int]) -> None:
    assert exact_shapley(N, game(values)).sum() == pytest.approx(values[-1] - values[0], abs=1e-9)


@given(GAMES)
@settings(max_examples=30)
def test_symmetry_and_null_player(values: list[int]) -> None:
    def value(coalitions: Coalitions) -> np.ndarray:
        """The fourth adds nothing; the first two are interchangeable."""
        a, b, c, _ = coalitions.T
        return game(values)(np.stack([a | b, a & b, c, np.zeros_like(c)], axis=1))

    found = exact_shapley(N, value)
    assert found[3] == pytest.approx(0)
    assert found[0] == pytest.approx(found[1])


def test_the_glove_game() -> None:
    """One left glove, two right ones: Shapley 1953, as in every textbook: 2/3, 1/6, 1/6."""
    found = exact_shapley(3, lambda c: (c[:, 0] & c[:, 1:].any(axis=1)).astype(float))
    assert found == pytest.approx([2 / 3, 1 / 6, 1 / 6])


def test_a_copy_takes_half_of_what_it_copies() -> None:
    """Shapley does not see copies: that is check 7's task."""
    assert exact_shapley(2, lambda c: c.any(axis=1).astype(float)) == pytest.approx([0.5, 0.5])


def test_each_coalition_is_evaluated_once_up_to_the_limit() -> None:
    value, asked = counted(lambda c: c.sum(axis=1).astype(float))
    found = shapley_values(EXACT_LIMIT, value, b"", fixed=False)
    assert found == pytest.approx(np.ones(EXACT_LIMIT))
    assert sorted(asked) == list(range(2**EXACT_LIMIT))


def test_one_alone_is_all_the_difference() -> None:
    assert exact_shapley(1, lambda c: np.where(c[:, 0], 3.0, 1.0)) == pytest.approx([2.0])


# sampled


def learning(n: int, seed: int = 0) -> Callable[[Coalitions], np.ndarray]:
    """Returns that diminish, as of federated learning; the last player does harm."""
    random = np.random.default_rng(seed)
    worth = random.uniform(0.1, 1, n)
    worth[-1] = -0.5

    def value(coalitions: Coalitions) -> np.ndarray:
        together = (coalitions * worth).sum(axis=1)
        return 0.5 + 0.4 * (1 - np.exp(-np.maximum(together, 0))) - 0.02 * (together < 0)

    return value


@pytest.mark.parametrize("fixed", [False, True])
def test_sampling_comes_near_the_exact_values(fixed: bool) -> None:
    for seed in range(3):
        value = learning(EXACT_LIMIT, seed)
        exact = exact_shapley(EXACT_LIMIT, value)
        found = gtg_shapley(EXACT_LIMIT, value, b"seed", fixed=fixed)
        assert np.abs(found - exact).max() < 0.2 * np.abs(exact).max()
        assert np.argmin(found) == EXACT_LIMIT - 1
        assert found[-1] < 0


def test_beyond_the_limit_values_are_sampled_and_add_up() -> None:
    n = EXACT_LIMIT + 1
    value = learning(n)
    found = shapley_values(n, value, b"seed", fixed=True)
    assert (found == gtg_shapley(n, value, b"seed", fixed=True)).all()
    ends = value(np.array([[False] * n, [True] * n]))
    assert found.sum() == pytest.approx(ends[1] - ends[0], abs=1e-12)


def test_public_values_decide_the_orders_and_nothing_else() -> None:
    value, asked = counted(learning(14))
    first = gtg_shapley(14, value, b"round 1", fixed=False)
    before = list(asked)
    asked.clear()
    np.random.seed(5)
    assert (gtg_shapley(14, value, b"round 1", fixed=False) == first).all()
    assert asked == before
    assert (gtg_shapley(14, value, b"round 2", fixed=False) != first).any()


def test_the_orders_of_a_seed_do_not_change_with_the_version() -> None:
    """Whoever asks a validator to repeat what it said needs the same ones years later."""
    value, asked = counted(lambda c: c.sum(axis=1).astype(float))
    gtg_shapley(13, value, b"seed", fixed=True)
    seen = asked[2 : 2 + 26]
    assert seen[:13] == [1 << i for i in range(13)]  # each leads one
    assert seen[13:] == [
        33, 258, 4100, 2056, 17, 36, 2112, 192, 320, 576, 1028, 2112, 4100,
    ]  # fmt: skip


def test_each_turn_is_led_by_everybody_once_and_the_limit_is_kept() -> None:
    for n in (13, 100, 300):
        value, asked = counted(lambda c: np.random.default_rng(0).random(len(c)))
        gtg_shapley(n, value, b"", fixed=True)
        per_turn = n * (n - 1)
        assert len(asked) == 2 + per_turn * max(1, min(50, (MOST_EVALUATIONS - 2) // n**2))
        assert len(asked) <= max(MOST_EVALUATIONS, 2 + per_turn)


def test_sampling_ends_when_it_has_converged_and_orders_are_cut_late() -> None:
    def saturated(coalitions: Coalitions) -> np.ndarray:
        return np.minimum(coalitions.sum(axis=1), 10) / 10.0

    counting, asked = counted(saturated)
    found = gtg_shapley(20, counting, b"", fixed=False)
    assert found == pytest.approx(np.full(20, 0.05), abs=0.02)
    # 14 of 20 have joined without a cut, the fifteenth is the last that is looked at.
    turns = (len(asked) - 2) / (20 * 15)
    assert turns == int(turns)
    assert 2 <= turns < 50


def test_a_model_that_got_no_better_still_tells_the_players_apart() -> None:
    """Skipping such rounds, as the paper does, would pay the last one as any other."""

    def value(coalitions: Coalitions) -> np.ndarray:
        honest = coalitions[:, :-1].sum(axis=1)
        return 0.8 + 0.002 * honest - 0.002 * 13 * coalitions[:, -1]

    ends = value(np.array([[False] * 14, [True] * 14]))
    assert ends[0] == pytest.approx(ends[1])
    found = gtg_shapley(14, value, b"", fixed=False)
    assert found[-1] < 0 < found[:-1].min()


# with noise: weights must not depend on patients


DELTA = 0.001


def world(moved: float) -> Callable[[Coalitions], np.ndarray]:
    """Coalitions of three quarters are nearly as good as all; larger ones with the first are bad.

    One patient more moves those of three quarters, by ``moved``.
    """

    def value(coalitions: Coalitions) -> np.ndarray:
        sizes = coalitions.sum(axis=1)
        spoilt = coalitions[:, 0] & (sizes > 12) & (sizes < 16)
        return 0.7 - 0.3 * spoilt - (0.0005 + moved) * (sizes == 12) - 0.01 * (sizes < 12)

    return value


def test_one_patient_moves_a_value_by_two_coalitions_unless_orders_are_cut() -> None:
    moved = {
        fixed: np.abs(
            gtg_shapley(16, world(0), b"", fixed=fixed)
            - gtg_shapley(16, world(DELTA), b"", fixed=fixed)
        ).max()
        for fixed in (True, False)
    }
    assert moved[True] <= 2 * DELTA
    assert moved[False] > 8 * DELTA  # why scores with noise are never sampled so


@given(st.integers(0, 2**32 - 1), st.integers(13, 14))
@settings(max_examples=3, deadline=None)
def test_with_fixed_orders_values_are_weighted_means_of_differences(seed: int, n: int) -> None:
    """Linear in the coalitions' values, and bounded by the largest difference."""
    random = np.random.default_rng(seed)
    tables = random.uniform(-1, 1, (2, 2**n))

    def found(table: np.ndarray) -> np.ndarray:
        return gtg_shapley(n, lambda c: table[number(c)], b"public", fixed=True)

    a, b = found(tables[0]), found(tables[1])
    np.testing.assert_allclose(found(2 * tables[0] - tables[1]), 2 * a - b, atol=1e-9)
    assert np.abs(found(np.sign(tables[0]))).max() <= 2
    counting, asked = counted(lambda c: tables[0][number(c)])
    gtg_shapley(n, counting, b"public", fixed=True)
    other, too = counted(lambda c: np.zeros(len(c)))
    gtg_shapley(n, other, b"public", fixed=True)
    assert asked == too  # whatever the values are, the same ones are asked for
