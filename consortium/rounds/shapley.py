"""What each proof contributed to a round: the exact Shapley value over coalitions.

phi_i = sum over S without i of |S|! (n-|S|-1)! / n! * (v(S + i) - v(S)).
Source: Shapley 1953; per round of federated learning: Wang et al., arXiv:2009.06192. The
coalitions are re-aggregated, not re-trained, so 2**n small evaluations are all it takes.
It does not see copies: two equal updates share what one would have earned.
"""

from collections.abc import Callable, Sequence
from math import factorial

EXACT_LIMIT = 12


def shapley_values(
    players: Sequence[str], value: Callable[[frozenset[str]], float]
) -> dict[str, float]:
    """Exact Shapley values; ``value`` is called once for each coalition, the empty one included.

    Raises:
        ValueError: for more than `EXACT_LIMIT` players.
    """
    n = len(players)
    if n > EXACT_LIMIT:
        raise ValueError(f"exact Shapley values need {2**n} evaluations")
    coalitions = [
        frozenset(player for bit, player in enumerate(players) if mask >> bit & 1)
        for mask in range(2**n)
    ]
    values = {coalition: value(coalition) for coalition in coalitions}
    weight = [factorial(s) * factorial(n - s - 1) / factorial(n) for s in range(n)]
    return {
        player: sum(
            weight[len(coalition)] * (values[coalition | {player}] - values[coalition])
            for coalition in coalitions
            if player not in coalition
        )
        for player in players
    }
