from itertools import permutations
from math import factorial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.rounds.shapley import EXACT_LIMIT, shapley_values

PLAYERS = ["a", "b", "c", "d"]
GAMES = st.lists(st.integers(-1000, 1000), min_size=16, max_size=16)


def game(values: list[int]):
    def value(coalition: frozenset[str]) -> float:
        return float(values[sum(1 << PLAYERS.index(p) for p in coalition)])

    return value


@given(GAMES)
def test_it_is_the_mean_marginal_contribution_over_all_orders(values: list[int]) -> None:
    value, found = game(values), shapley_values(PLAYERS, game(values))
    for player in PLAYERS:
        total = 0.0
        for order in permutations(PLAYERS):
            before = frozenset(order[: order.index(player)])
            total += value(before | {player}) - value(before)
        assert found[player] == pytest.approx(total / factorial(len(PLAYERS)), abs=1e-9)


@given(GAMES)
def test_efficiency(values: list[int]) -> None:
    value = game(values)
    shared = value(frozenset(PLAYERS)) - value(frozenset())
    assert sum(shapley_values(PLAYERS, value).values()) == pytest.approx(shared, abs=1e-9)


@given(GAMES)
def test_symmetry_and_null_player(values: list[int]) -> None:
    inner = game(values)

    def value(coalition: frozenset[str]) -> float:
        """d adds nothing; a and b are interchangeable."""
        kept = coalition - {"d"}
        if "a" in kept or "b" in kept:
            kept = (kept - {"a", "b"}) | ({"a", "b"} if {"a", "b"} <= kept else {"a"})
        return inner(frozenset(kept))

    found = shapley_values(PLAYERS, value)
    assert found["d"] == pytest.approx(0)
    assert found["a"] == pytest.approx(found["b"])


def test_the_glove_game() -> None:
    """One left glove, two right ones: Shapley 1953, as in every textbook: 2/3, 1/6, 1/6."""
    found = shapley_values(
        ["left", "right-1", "right-2"], lambda s: float("left" in s and len(s) > 1)
    )
    assert found == pytest.approx({"left": 2 / 3, "right-1": 1 / 6, "right-2": 1 / 6})


def test_a_copy_takes_half_of_what_it_copies() -> None:
    """Shapley does not see copies: that is check 7's task."""
    found = shapley_values(["a", "copy"], lambda s: float(bool(s)))
    assert found == pytest.approx({"a": 0.5, "copy": 0.5})


def test_each_coalition_is_evaluated_once_up_to_the_limit() -> None:
    asked: list[frozenset[str]] = []
    players = [str(i) for i in range(EXACT_LIMIT)]
    shapley_values(players, lambda s: float(asked.append(s) or len(s)))  # type: ignore[func-returns-value]
    assert len(asked) == len(set(asked)) == 2**EXACT_LIMIT
    with pytest.raises(ValueError, match="exact"):
        shapley_values([*players, "more"], lambda s: 0.0)


def test_nobody_and_one() -> None:
    assert shapley_values([], lambda s: 3.0) == {}
    assert shapley_values(["a"], lambda s: 3.0 if s else 1.0) == {"a": 2.0}
