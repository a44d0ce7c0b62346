"""Check 8, what every member recomputes: does a hospital work against what the others learn?

Honest steps share a direction; they differ by noise, and a little by their patients. So all steps
of a hospital in this job so far, u of c rounds, are laid along the direction m in which the others
have gone, and compared with what its own noise and other patients explain:

    u . m / |m|  <  -(z s sqrt(c) + a c)

s is the noise at each parameter of one step (`step_noise`), z the quantile of the contract's
``false_alarm``, a = ``opposition`` times the length of a step that all patients agree on. Evidence
adds up over rounds: under strong noise one round says little, ten say much.

m is the sum of the others' pushes, each times its public weight, and none longer than the median
(of two in the middle the longer), so that nobody sets the direction by going far. Two who go
against each other both find the other in m, whoever of them is honest. So where somebody is
against, the one is taken out without whom the rest are least at odds, and they are looked at anew,
until nobody is against, or two are left: nothing tells those apart.

Whose last proof was called harmful stays out of m, and is against until its push goes along with it
(u . m >= 0). Else it would be back while the model goes where the others want: their pushes end
there, its own stands, and whoever went furthest against it would be next.

AUROC on validators' patients does not see what is seen here: noise moves an honest proof's by more
than flipped labels do, and a step back along the model does not change it at all.

Every sum that meets the threshold is exactly rounded, and steps are added in an order of their own:
all members agree.
"""

from collections.abc import Collection, Mapping, Sequence
from math import fsum, sqrt

import numpy as np

from consortium.rounds.checks.near_copy import EarlierStep, Vector
from consortium.rounds.checks.step import step_cap
from consortium.rounds.checks.terms import noise_quantile, step_noise, unanimous_step
from ledger.records import Participant, Thresholds

FEWEST = 3
"""Hospitals below which nothing tells who is against whom."""


def opposed(
    steps: Mapping[str, Vector],
    earlier: Sequence[EarlierStep],
    participants: Mapping[str, Participant],
    thresholds: Thresholds,
    doubted: Collection[str] = (),
) -> frozenset[str]:
    """Who works against the others.

    Args:
        steps: each institution's step (update minus current model) of this round.
        earlier: the steps of earlier rounds; those of other jobs do not count.
        participants: the job's, by institution.
        thresholds: the job's; of them ``false_alarm``, ``opposition`` and ``reach``.
        doubted: whose last proof in this job was called harmful. Where fewer than two others are
            left to judge by, nobody is.
    """
    pushes, rounds = _pushes(steps, earlier, participants, float(thresholds.reach))
    noise, limits = {}, {}
    for name in steps:
        participant, count = participants[name], rounds[name]
        noise[name] = step_noise(participant) * sqrt(count)
        allowed = float(thresholds.opposition) * unanimous_step(participant) * count
        limits[name] = noise_quantile(float(thresholds.false_alarm)) * noise[name] + allowed
    weights = {name: participants[name].weight for name in steps}
    trusted = {name: push for name, push in pushes.items() if name not in doubted}
    if len(trusted) < FEWEST - 1:
        trusted = dict(pushes)
    doubted_here = sorted(pushes.keys() - trusted.keys())
    against: set[str] = set()
    while len(trusted) >= FEWEST:
        found = along_others(trusted, weights)
        if all(found[name] >= -limits[name] for name in trusted):
            break
        odds = {
            name: _at_odds({n: trusted[n] for n in trusted if n != name}, weights, noise)
            for name in sorted(trusted)
            if found[name] < 0
        }
        outlier = min(odds, key=odds.__getitem__)
        against.add(outlier)
        del trusted[outlier]
    for name in doubted_here:
        if along_others({**trusted, name: pushes[name]}, weights)[name] < 0:
            against.add(name)
    return frozenset(against)


def _at_odds(
    pushes: Mapping[str, Vector], weights: Mapping[str, int], noise: Mapping[str, float]
) -> float:
    """How far all who go against the others do, together: each in its own noise."""
    found = along_others(pushes, weights)
    return fsum(-along / noise[name] for name, along in found.items() if along < 0)


def along_others(pushes: Mapping[str, Vector], weights: Mapping[str, int]) -> dict[str, float]:
    """For each of two institutions or more: how far its push goes along the others'."""
    weighted = {name: weights[name] * pushes[name] for name in sorted(pushes)}
    lengths = {name: length(vector) for name, vector in weighted.items()}
    median = sorted(lengths.values())[len(lengths) // 2]
    bounded = {
        name: vector if lengths[name] <= median else vector * (median / lengths[name])
        for name, vector in weighted.items()
    }
    total = _added(list(bounded.values()))
    found = {}
    for name, own in bounded.items():
        others = total - own
        size = length(others)
        found[name] = fsum((pushes[name] * others).tolist()) / size if size else 0.0
    return found


def length(vector: Vector) -> float:
    """Euclidean norm, exactly rounded."""
    return sqrt(fsum((vector * vector).tolist()))


def _pushes(
    steps: Mapping[str, Vector],
    earlier: Sequence[EarlierStep],
    participants: Mapping[str, Participant],
    reach: float,
) -> tuple[dict[str, Vector], dict[str, int]]:
    """The sum of each institution's steps, and how many; an earlier one counts up to its cap."""
    kept: dict[str, list[Vector]] = {name: [step] for name, step in sorted(steps.items())}
    caps = {name: step_cap(participants[name], len(step), reach) for name, step in steps.items()}
    for past in earlier:
        if past.institution in kept and not past.other_job:
            kept[past.institution].append(_within(past.step, caps[past.institution]))
    pushes = {name: _added(sorted(all_, key=np.ndarray.tobytes)) for name, all_ in kept.items()}
    return pushes, {name: len(all_) for name, all_ in kept.items()}


def _within(step: Vector, cap: float) -> Vector:
    if float(np.abs(step).max(initial=0.0)) * sqrt(len(step)) < cap:
        return step  # shorter, and its exact length is not needed
    long = length(step / cap)  # divided first: what check 5 rejects may be too long to square
    return step if long <= 1 else step / (cap * long) * cap


def _added(vectors: Sequence[Vector]) -> Vector:
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total = total + vector
    return total
