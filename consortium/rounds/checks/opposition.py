"""Check 8, what every member recomputes: does a hospital work against what the others learn?

Honest steps share a direction; they differ by noise, and a little by their patients. So all steps
of a hospital in this job so far, u of c rounds, are laid along the direction m in which the others
have gone, and compared with what its own noise and other patients explain:

    u . m / |m|  <  -(z s sqrt(c) + a c)

s is the noise at each parameter of one step (`step_noise`), z the quantile of ten times the
contract's ``false_alarm``, a = ``opposition`` times the length of a step that all patients agree
on. Evidence adds up over rounds: under strong noise one round says little, ten say much.

m is the sum of the others' pushes, each divided by the variance of its noise, and none longer then
than the median (of two in the middle the longer), so that nobody sets the direction by going far.
Two who go against each other both find the other in m, whoever of them is honest. So where
somebody is against, the one is taken out who goes furthest against the others (`outlier`), and the
rest are looked at anew, until nobody is against, or two are left: nothing tells those apart. Nor is
anybody taken out before the rest tell him from whoever else is against: an honest hospital taken
for the cheat leaves the model to the cheat, while two who pull against each other only stand still.

Steps that another check rejected count for nobody: they move no model, and would be credit to spend
on steps that do. Whose last proof was called harmful stays out of m, and is against until its push
goes along with it (u . m >= 0), and so does the sum of its accepted steps, which the model takes
back (`consortium.rounds.unlearning`). Else it would be back while the model goes where the others
want: their pushes end there, its own stands, and whoever went furthest against it would be next.

AUROC on validators' patients does not see what is seen here: noise moves an honest proof's by more
than flipped labels do, and a step back along the model does not change it at all.

Every sum that meets the threshold is exactly rounded, and steps are added in an order of their own:
all members agree.
"""

from collections.abc import Collection, Mapping, Sequence
from math import fsum, sqrt
from typing import NamedTuple

import numpy as np

from consortium.rounds.checks.near_copy import EarlierStep, Vector
from consortium.rounds.checks.step import step_cap
from consortium.rounds.checks.terms import noise_quantile, step_noise, unanimous_step
from ledger.records import Participant, Thresholds

FEWEST = 3
"""Hospitals below which nothing tells who is against whom."""

ALARMS = 10
"""Noise may pass the limit so many times as often as look like a copy: few stand out besides."""

TOLD_APART = 2.0
"""Of two who are against, how far the rest must speak against one, in deviations of their noise."""


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
        earlier: the steps of earlier rounds; those of other jobs, and those that another
            check rejected, do not count.
        participants: the job's, by institution.
        thresholds: the job's; of them ``false_alarm``, ``opposition`` and ``reach``.
        doubted: whose last proof in this job was called harmful. Where fewer than two others are
            left to judge by, nobody is.
    """
    reach = float(thresholds.reach)
    earlier = [step for step in earlier if step.judged and not step.other_job]
    pushes, rounds = _pushes(steps, earlier, participants, reach)
    quantile = noise_quantile(min(ALARMS * float(thresholds.false_alarm), 0.5))
    noise, limits = {}, {}
    for name in steps:
        participant, count = participants[name], rounds[name]
        noise[name] = step_noise(participant) * sqrt(count)
        allowed = float(thresholds.opposition) * unanimous_step(participant) * count
        limits[name] = quantile * noise[name] + allowed
    trusted = {name: push for name, push in pushes.items() if name not in doubted}
    if len(trusted) < FEWEST - 1:
        trusted = dict(pushes)
    doubted_here = sorted(pushes.keys() - trusted.keys())
    against: set[str] = set()
    while len(trusted) >= FEWEST:
        found = along_others(trusted, noise)
        if all(found[name] >= -limits[name] for name in trusted):
            break
        furthest = outlier(trusted, noise, limits)
        if furthest is None:
            break
        against.add(furthest)
        del trusted[furthest]
    if doubted_here:
        taught, _ = _pushes(steps, [s for s in earlier if s.accepted], participants, reach)
        for name in doubted_here:
            back = (pushes[name], taught[name])
            if any(along_others({**trusted, name: push}, noise)[name] < 0 for push in back):
                against.add(name)
    return frozenset(against)


class _Weighed(NamedTuple):
    """Pushes over the variance of their noise, bounded by the median; the noise left in each."""

    vectors: dict[str, Vector]
    noise: dict[str, float]
    total: Vector


def along_others(pushes: Mapping[str, Vector], noise: Mapping[str, float]) -> dict[str, float]:
    """For each of two institutions or more: how far its push goes along the others'.

    ``noise``: the standard deviation of each push at each parameter, above zero.
    """
    weighed, found = _weighed(pushes, noise), {}
    for name, own in weighed.vectors.items():
        others = weighed.total - own
        size = length(others)
        found[name] = _product(pushes[name], others) / size if size else 0.0
    return found


def outlier(
    pushes: Mapping[str, Vector], noise: Mapping[str, float], limits: Mapping[str, float]
) -> str | None:
    """Who goes furthest against the others; None if nobody does, or if it cannot be told.

    ``limits``: how far each may go against the others. Whoever goes further without one of those
    who are against too is not against for that one's sake: two cheats do not hide each other.

    With v the weighed pushes and r the sum of the rest's, (v_a - v_b) . r tells who of two is
    turned against the rest: up to a factor it is the logarithm of the likelihood ratio of the two
    (all pushes one direction, either way, under normal noise). It is v_a . (V - v_a) less the same
    of b, where V is the sum of all v; with rest of nothing but noise its deviation is |v_a - v_b|
    times that of r at each parameter.
    """
    vectors, left, total = _weighed(pushes, noise)
    along = {name: _product(own, total - own) for name, own in vectors.items()}
    against = sorted(name for name, value in along.items() if value < 0)
    if not against:
        return None
    furthest = min(against, key=along.__getitem__)
    for name in against:
        others = total - vectors[furthest] - vectors[name]
        if _product(pushes[furthest], others) < -limits[furthest] * length(others):
            continue
        rest = sqrt(fsum(left[n] * left[n] for n in left if n not in (name, furthest)))
        spread = length(vectors[name] - vectors[furthest]) * rest
        if name != furthest and along[name] - along[furthest] < TOLD_APART * spread:
            return None
    return furthest


def _weighed(pushes: Mapping[str, Vector], noise: Mapping[str, float]) -> _Weighed:
    factors = {name: 1 / (noise[name] * noise[name]) for name in sorted(pushes)}
    lengths = {name: length(pushes[name]) for name in factors}
    median = sorted(lengths[name] * factor for name, factor in factors.items())[len(factors) // 2]
    for name, factor in factors.items():
        if lengths[name] * factor > median:
            factors[name] = median / lengths[name]
    vectors = {name: factor * pushes[name] for name, factor in factors.items()}
    left = {name: factor * noise[name] for name, factor in factors.items()}
    return _Weighed(vectors, left, _added(list(vectors.values())))


def _product(one: Vector, other: Vector) -> float:
    return fsum((one * other).tolist())


def length(vector: Vector) -> float:
    """Euclidean norm, exactly rounded."""
    return sqrt(_product(vector, vector))


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
        if past.institution in kept:
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
