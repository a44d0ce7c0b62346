"""Check 8, what validators attest: a proof that does harm on the patients of others.

Nobody counts for their own proof. What is tolerated rises with the noise: s sqrt(p), the length of
the noise in an update of p parameters, over the length of the current model. Where both are alike
an honest update of a small hospital orders patients as a coin does, and nothing is said; what is
told apart there is `opposition`.
"""

from collections.abc import Sequence
from math import ceil, sqrt

from consortium import weights as weight_forms
from consortium.rounds.checks.context import RoundContext
from consortium.rounds.checks.opposition import length
from consortium.rounds.checks.terms import step_noise
from ledger.records import Finding

_ALL = 10_000


def tolerated_drop(context: RoundContext, institution: str) -> int:
    """How far a proof may fall below the current model, in basis points of AUROC."""
    participant, thresholds = context.participant(institution), context.job.thresholds
    model = weight_forms.vector(context.model)
    size = length(model)
    if participant is None or size == 0:
        return _ALL
    noise = step_noise(participant) * sqrt(len(model)) / size
    return min(_ALL, thresholds.drop + ceil(min(1.0, noise) * thresholds.drop_with_noise))


def is_harmful(proof: float, current: float, drop: int) -> bool:
    """Whether a proof's AUROC lies more than ``drop`` basis points below the current model's."""
    return (current - proof) * 10_000 > drop


def held_harmful(others: Sequence[Finding], liars: int) -> bool:
    """Whether more than half of at least two other validators found it harmful.

    And more than may lie (``liars``): what only liars may have said is held against nobody.
    """
    votes = [finding.harmful for finding in others if finding.harmful is not None]
    return len(votes) >= 2 and sum(votes) > max(liars, len(votes) / 2)
