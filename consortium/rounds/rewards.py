"""Credits of one round: integers, and all of the pool is paid out, never more.

Part of the pool pays for verdicts delivered in time, a bonus goes to the learner (the accepted
proof with the best score), the rest is split among the accepted proofs by what they contributed:
the Shapley values summed over the last rounds, negative sums counted as nothing. A fee forfeited
by a rejected proof stays in the pool. Where nobody contributed, the accepted proofs share
equally: nothing is ever divided by a sum that may be zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ledger.records import CreditPolicy


@dataclass(frozen=True)
class Credits:
    """Credits of one round, by institution."""

    learning: dict[str, int]
    fees: dict[str, int]
    bonus: int

    @property
    def minted(self) -> int:
        """All credits of the round."""
        return sum(self.learning.values()) + sum(self.fees.values()) + self.bonus


def round_credits(
    policy: CreditPolicy,
    *,
    averages: Mapping[str, int],
    verdicts: Sequence[str],
    validators: int,
    learner: str | None,
) -> Credits:
    """Splits one round's pool.

    Args:
        policy: the pool and its parts.
        averages: for each accepted proof, its Shapley values summed over the window.
        verdicts: who is paid for a verdict (rejected proofs' owners are not among them).
        validators: how many give verdicts; a fee does not grow when others fail.
        learner: the accepted proof that earns the bonus.
    """
    if not averages:
        return Credits({}, {}, 0)
    fee = policy.verdicts // validators
    fees = dict.fromkeys(sorted(verdicts), fee)
    bonus = policy.learner_bonus if learner is not None else 0
    left = policy.pool - sum(fees.values()) - bonus
    return Credits(apportion(left, averages), fees, bonus)


def apportion(total: int, shares: Mapping[str, int]) -> dict[str, int]:
    """Splits ``total`` in proportion to max(0, share): largest remainders, ties by name."""
    positive = {name: max(0, share) for name, share in shares.items()}
    if not any(positive.values()):
        positive = dict.fromkeys(shares, 1)
    whole = sum(positive.values())
    parts = {name: total * share // whole for name, share in positive.items()}
    by_remainder = sorted(positive, key=lambda name: (-(total * positive[name] % whole), name))
    for name in by_remainder[: total - sum(parts.values())]:
        parts[name] += 1
    return dict(sorted(parts.items()))
