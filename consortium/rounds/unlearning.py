"""What a hospital taught leaves the model when it is found harmful, and comes back if it does.

Noise hides a cheat for some rounds, and in those its steps were accepted. So the model never only
leaves out the rejected update: after every round it is

    W = W_0 + sum over rounds of A(accepted steps of that round, without whom it leaves out now)

with A the contract's rule (`consortium.rounds.aggregation`). Whom it leaves out follows from the
results alone (`consortium.rounds.progress.left_out`): whoever's last proof was called harmful. As
long as that is nobody else than before, nothing but the round's own updates moves the model.

The others' steps are taken as they are. They were made from models that held what is taken out, so
W is not what would have been learned without it; the following rounds start from it and mend that,
as Wu, Zhu and Mitra (2022, arXiv:2201.09441) do by training on after such a subtraction.

Post-processing of what was revealed under privacy: it costs nobody anything.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from consortium import weights as weight_forms
from consortium.rounds.aggregation import new_model
from consortium.rounds.checks.near_copy import EarlierStep, Vector
from ledger.content import Weights
from ledger.records import ACCEPTED, Job, Result


class Taught:
    """The steps of a job's rounds, and what its rule makes of each round's accepted ones.

    Args:
        job: its rule, its participants and their weights.
        steps: what its rounds revealed (and others, which do not count): update minus model.
    """

    def __init__(self, job: Job, steps: Iterable[EarlierStep]) -> None:
        self._job = job
        self._steps = {(s.round, s.institution): s.step for s in steps if not s.other_job}
        self._made: dict[tuple[int, frozenset[str]], Vector] = {}

    def correction(
        self, results: Sequence[Result], before: frozenset[str], after: frozenset[str]
    ) -> Vector | None:
        """What moves a model that holds these rounds, without ``before``, to one without ``after``.

        Args:
            results: the rounds that the model holds, oldest first.
            before: whom the model leaves out.
            after: whom it is to leave out.

        Returns:
            All parameters in the order of their names; None where nothing changes.

        Raises:
            KeyError: if an accepted step is not among those that are known.
        """
        changed = before ^ after
        total: Vector | None = None
        for result in results if changed else ():
            names = sorted(o.institution for o in result.proofs if o.code == ACCEPTED)
            if result.void or changed.isdisjoint(names):
                continue
            made = [self._aggregated(result.round, names, without) for without in (after, before)]
            moved = made[0] - made[1]
            total = moved if total is None else total + moved
        return total

    def _aggregated(self, round_: int, names: Sequence[str], without: frozenset[str]) -> Vector:
        place = round_, without
        if place not in self._made:
            steps = {name: self._steps[round_, name] for name in names}
            kept = {n: {"step": step} for n, step in steps.items() if n not in without}
            nothing = np.zeros_like(steps[names[0]])
            made = new_model(self._job, kept)["step"].astype(np.float64) if kept else nothing
            self._made[place] = made
        return self._made[place]


def corrected(model: Weights, by: Vector | None) -> Weights:
    """A model (float32 arrays by name) moved by a correction."""
    if by is None:
        return model
    # -0 + 0 is 0, as in all aggregation: one model has one hash.
    return weight_forms.of_vector(weight_forms.vector(model) + by + 0.0, model)
