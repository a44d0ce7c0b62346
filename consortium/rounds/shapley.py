"""What each proof contributed to a round: Shapley values over coalitions of its updates.

phi_i = sum over S without i of |S|! (n-|S|-1)! / n! * (v(S + i) - v(S)).
Source: Shapley 1953; per round of federated learning: Wang et al., arXiv:2009.06192. Coalitions are
re-aggregated, not re-trained, so 2**n small evaluations are all that an exact value takes. That is
done up to `EXACT_LIMIT` proofs; beyond, orders of joining are drawn (`gtg_shapley`).
It does not see copies: two equal updates share what one would have earned.

Each value is a weighted mean of differences of two coalitions' values. What is said of patients
with noise (`privacy.noised_release`) needs weights that do not depend on them: then one patient
moves a value by no more than the difference of two coalitions' values. The exact weights are such,
those of sampling with ``fixed`` too.
"""

from collections.abc import Callable
from hashlib import sha256
from math import factorial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consortium.rounds.aggregation import Coalitions

Array = NDArray[np.float64]
Value = Callable[[Coalitions], Array]
"""Values [m] of coalitions [m, n]; a row says who is in one, and may be empty."""

EXACT_LIMIT: Final = 12
MOST_TURNS: Final = 50
MOST_EVALUATIONS: Final = 50_000
_NEAR: Final = 0.001  # of AUROC: of the coalition of all, to say that who is left adds nothing
_LATE: Final = 0.75  # of all have joined by then
_CONVERGED: Final = 0.005


def shapley_values(n: int, value: Value, seed: bytes, *, fixed: bool) -> Array:
    """Shapley values [n]: exact up to `EXACT_LIMIT` players, else as `gtg_shapley` has them."""
    if n <= EXACT_LIMIT:
        return exact_shapley(n, value)
    return gtg_shapley(n, value, seed, fixed=fixed)


def exact_shapley(n: int, value: Value) -> Array:
    """Exact Shapley values [n]; each of the 2**n coalitions is evaluated once, all in one call."""
    numbers = np.arange(2**n)
    coalitions = (numbers[:, None] >> np.arange(n)) & 1 == 1
    values, sizes = value(coalitions), coalitions.sum(axis=1)
    weights = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)])
    found = np.zeros(n)
    for player in range(n):
        without = numbers[~coalitions[:, player]]
        added = values[without | 1 << player] - values[without]
        found[player] = weights[sizes[without]] @ added
    return found


def gtg_shapley(n: int, value: Value, seed: bytes, *, fixed: bool) -> Array:
    """Sampled Shapley values [n]: GTG-Shapley (Liu et al. 2022, arXiv:2109.02053).

    A turn draws n orders of joining, one led by each player (guided sampling), and each player is
    credited with what it adds where it joins. An order is cut short when the coalition's value is
    near that of all (within-round truncation), and turns end once the estimate moves by less than
    .5 % of its size in one of them, after `MOST_TURNS`, or before `MOST_EVALUATIONS`.

    Unlike the paper, an order is cut in its last quarter only, and a round in which the model got
    no better is not skipped: near the end of a job a coalition of none, or of one, is by chance as
    good as all, and everybody would get nothing, whatever each did to the model.

    Args:
        n: players, at least 1.
        value: called for many coalitions at once; one may be asked for more than once.
        seed: decides the orders. Made of public values, so that anybody with the same patients
            finds the same.
        fixed: no order is cut, and as many turns are played as the limits allow: the estimate's
            weights do not depend on any value.
    """
    random = np.random.RandomState(np.frombuffer(sha256(seed).digest(), dtype="<u4"))  # frozen
    nobody, everybody = value(np.array([[False] * n, [True] * n]))
    turns = max(1, min(MOST_TURNS, (MOST_EVALUATIONS - 2) // n**2))
    total, before = np.zeros(n), np.zeros(n)
    for turn in range(1, turns + 1):
        orders = np.stack([_led_by(player, n, random) for player in range(n)])
        total += _added(orders, value, nobody, everybody, cut=not fixed)
        estimate = total / (turn * n)
        moved = float(np.abs(estimate - before).sum())
        if not fixed and moved < _CONVERGED * np.abs(estimate).sum():
            break
        before = estimate
    return estimate


def _led_by(player: int, n: int, random: np.random.RandomState) -> NDArray[np.int64]:
    others = random.permutation(n - 1)
    return np.concatenate([[player], others + (others >= player)])


def _added(
    orders: NDArray[np.int64], value: Value, nobody: float, everybody: float, *, cut: bool
) -> Array:
    """What each player adds, summed over orders [m, n]; all orders go on in step."""
    m, n = orders.shape
    coalitions, rows = np.zeros((m, n), dtype=np.bool_), np.arange(m)
    total, before, going = np.zeros(n), np.full(m, nobody), np.ones(m, dtype=np.bool_)
    for place in range(n):
        joining = orders[:, place]
        coalitions[rows, joining] = True
        after = before.copy()
        if place == n - 1:
            after[going] = everybody
        elif going.any():
            after[going] = value(coalitions[going])
        np.add.at(total, joining, after - before)
        before = after
        if cut and place + 1 >= _LATE * n:
            going &= np.abs(everybody - before) >= _NEAR
    return total
