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

from collections.abc import Mapping, Sequence, Set

import numpy as np

from consortium import weights as weight_forms
from consortium.rounds.aggregation import new_model
from consortium.rounds.checks.near_copy import EarlierStep, Vector
from ledger.content import Weights
from ledger.records import ACCEPTED, Job, Result


def correction(
    job: Job,
    results: Sequence[Result],
    steps: Sequence[EarlierStep],
    before: Set[str],
    after: Set[str],
) -> Vector | None:
    """What moves a model that holds these rounds, without ``before``, to one without ``after``.

    Args:
        job: its rule, its participants and their weights.
        results: the rounds that the model holds, oldest first.
        steps: those rounds' (and others', which do not count), revealed: update minus model.
        before: whom the model leaves out.
        after: whom it is to leave out.

    Returns:
        All parameters in the order of their names; None where nothing changes.

    Raises:
        KeyError: if an accepted step is not among ``steps``.
    """
    changed = before ^ after
    if not changed:
        return None
    known = {(s.round, s.institution): s.step for s in steps if not s.other_job}
    total: Vector | None = None
    for result in results:
        names = sorted(o.institution for o in result.proofs if o.code == ACCEPTED)
        if result.void or changed.isdisjoint(names):
            continue
        taught = {name: known[result.round, name] for name in names}
        moved = _aggregated(job, taught, after) - _aggregated(job, taught, before)
        total = moved if total is None else total + moved
    return total


def corrected(model: Weights, by: Vector | None) -> Weights:
    """A model (float32 arrays by name) moved by a correction."""
    if by is None:
        return model
    # -0 + 0 is 0, as in all aggregation: one model has one hash.
    return weight_forms.of_vector(weight_forms.vector(model) + by + 0.0, model)


def _aggregated(job: Job, steps: Mapping[str, Vector], without: Set[str]) -> Vector:
    kept = {name: {"step": step} for name, step in steps.items() if name not in without}
    if not kept:
        return np.zeros_like(next(iter(steps.values())))
    return new_model(job, kept)["step"].astype(np.float64)
