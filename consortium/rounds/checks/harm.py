"""Check 8: a proof that does harm on the patients of others. Each validator judges on its own.

Unlike checks 1 to 7 it rests on what validators attest, so nobody counts for their own proof.
"""

from collections.abc import Sequence

from ledger.records import Finding


def is_harmful(proof: float, current: float, drop: int) -> bool:
    """Check 8: whether a proof's AUROC lies more than ``drop`` basis points below the current
    model's."""
    return (current - proof) * 10_000 > drop


def held_harmful(others: Sequence[Finding], liars: int) -> bool:
    """Whether more than half of at least two other validators found it harmful.

    And more than may lie (``liars``): what only liars may have said is held against nobody.
    """
    votes = [finding.harmful for finding in others if finding.harmful is not None]
    return len(votes) >= 2 and sum(votes) > max(liars, len(votes) / 2)
