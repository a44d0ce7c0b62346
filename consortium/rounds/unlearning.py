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

from collections.abc import Iterable, Mapping, Sequence

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
        own = [step for step in steps if not step.other_job]
        self._steps = {(s.round, s.institution): s.step for s in own}
        accepted: dict[int, list[str]] = {}
        for step in own:
            if step.accepted:
                accepted.setdefault(step.round, []).append(step.institution)
        self._accepted = {round_: sorted(names) for round_, names in sorted(accepted.items())}
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
        rounds = {
            result.round: sorted(o.institution for o in result.proofs if o.code == ACCEPTED)
            for result in results
            if not result.void
        }
        return self._moved(rounds, before, after)

    def _moved(
        self, rounds: Mapping[int, Sequence[str]], before: frozenset[str], after: frozenset[str]
    ) -> Vector | None:
        changed = before ^ after
        total: Vector | None = None
        for round_, names in rounds.items() if changed else ():
            if changed.isdisjoint(names):
                continue
            made = [self._aggregated(round_, names, without) for without in (after, before)]
            moved = made[0] - made[1]
            total = moved if total is None else total + moved
        return total

    def with_and_without(
        self, name: str, left_out: frozenset[str]
    ) -> tuple[Vector | None, Vector | None]:
        """What moves the newest model to one that holds a hospital's steps, and to one that does
        not. The steps' own codes say which were accepted.

        Args:
            name: the hospital.
            left_out: whom the newest model leaves out.
        """
        with_ = self._moved(self._accepted, left_out, left_out - {name})
        return with_, self._moved(self._accepted, left_out, left_out | {name})

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
