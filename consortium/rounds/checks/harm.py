"""Check 8, what validators attest: a proof that does harm on the patients of others.

Nobody counts for their own proof. What is tolerated rises with the noise: s sqrt(p), the length of
the noise in an update of p parameters, over the length of the current model. Where both are alike
an honest update of a small hospital orders patients as a coin does, and nothing is said; what is
told apart there is `opposition`.

And what they attest for a hospital that `opposition` names. Sums of steps tell who goes against
whom, not who is right: a cheat that answers to what is public can make an honest hospital go
against it and the rest. Without all that an honest one taught, though, the model does worse; so
validators compare on their patients the model that holds it, and its step of this round, with one
that does not (`is_missed`), and it stands accepted if enough of them would lose much
(`held_missed`).
"""

from collections.abc import Sequence
from math import ceil, sqrt

from consortium import weights as weight_forms
from consortium.rounds.checks.context import RoundContext
from consortium.rounds.checks.opposition import length
from consortium.rounds.checks.terms import step_noise
from ledger.records import Finding

_ALL = 10_000

MISSED = 1_000
"""A hospital is missed where the model is better with its steps by more of AUROC (basis points)."""


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


def is_missed(with_: float, without: float, deviation: float = 0.0) -> bool:
    """Whether the AUROC without a hospital's steps lies more than `MISSED` below that with them.

    ``deviation``: of the noise on each of the two, which alone gets there once in 700 times.
    """
    return (with_ - without) * 10_000 > MISSED + 3 * sqrt(2) * deviation * 10_000


def held_missed(others: Sequence[Finding], liars: int) -> bool:
    """Whether at least half of the other validators that judged would miss what it taught.

    And more than ``liars``, of how many may lie among them: where the one that is named is a
    validator too, it is one of the f, if it cheats. Half is enough: where it is honest, one of the
    others is the cheat.
    """
    votes = [finding.harmful for finding in others if finding.harmful is not None]
    missed = votes.count(False)
    return missed > liars and missed >= len(votes) / 2


def held_harmful(others: Sequence[Finding], liars: int) -> bool:
    """Whether more than half of at least two other validators found it harmful.

    And more than may lie (``liars``): what only liars may have said is held against nobody.
    """
    votes = [finding.harmful for finding in others if finding.harmful is not None]
    return len(votes) >= 2 and sum(votes) > max(liars, len(votes) / 2)
