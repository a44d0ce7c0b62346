"""The new model of a round's accepted updates, the same to the bit at every member.

| rule | the model is | a job may name it from |
|---|---|---|
| ``weighted-mean`` | the mean, weighted by the contract's public weights | 1 participant |
| ``median`` | each coordinate's median (Yin et al. 2018, arXiv:1803.01498) | 3 |
| ``trimmed-mean`` | each coordinate's mean without its f lowest and f highest (ibid.) | 4 |
| ``krum`` | the one update nearest to its n - f - 2 neighbours (Blanchard et al. 2017) | 5 |

f is how many of the job's n participants may lie (`ledger.quorum.faulty`); Krum needs n >= 2f + 3,
and neither it nor trimming does anything at f = 0. The last three weigh all hospitals alike: a
weight that an institution declares for itself would be a lever on what bounds its influence.

Where fewer updates were accepted than a rule needs (2f + 1 for the trimmed mean, 2f + 3 for Krum),
the median is taken: it is defined for any number, of all of them it bears the largest share of
liars, and whoever keeps others away gains no mean to pull at. A void round would throw away the
privacy that the others have spent. Coalitions for Shapley values (`consortium.rounds.shapley`) are
aggregated by the very same function, so that the largest one is worth what the round's model is
(before what a harmful hospital taught is taken out of it: `consortium.rounds.unlearning`).

Sums run in float64 in the order of the institutions' names, or of sorted values, one addition at a
time, and are rounded to float32: no library call whose order of summation could differ between
machines or with the number of threads. A zero is never negative: sorting does not order the two.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ledger.content import Weights
from ledger.quorum import faulty
from ledger.records import Aggregation, Job

Coalitions = NDArray[np.bool_]
Array = NDArray[np.float64]

FEWEST: Final[Mapping[Aggregation, int]] = {
    "weighted-mean": 1, "median": 3, "trimmed-mean": 4, "krum": 5,
}  # fmt: skip
"""Participants from which on a rule differs from a mean, and keeps what it promises."""


def new_model(job: Job, updates: Mapping[str, Weights]) -> Weights:
    """The model that a round makes of its accepted updates (float32 arrays by name).

    Raises:
        ValueError: if there is no update.
    """
    everybody = np.ones((1, len(updates)), dtype=np.bool_)
    return {name: stack[0] for name, stack in coalition_models(job, updates, everybody).items()}


def coalition_models(job: Job, updates: Mapping[str, Weights], coalitions: Coalitions) -> Weights:
    """What the job's rule makes of each coalition's updates.

    Args:
        job: its rule, its participants and their weights.
        updates: un-mapped updates (float32 arrays by name) by institution.
        coalitions: [m, n], who of the n updates, in the order of their institutions' names, is in
            each; none is empty.

    Returns:
        float32 arrays by name, each with a leading axis of m models.

    Raises:
        ValueError: if a coalition is empty.
    """
    names = sorted(updates)
    if not names or not coalitions.any(axis=1).all():
        raise ValueError("no update to aggregate")
    stacked = {
        tensor: np.stack([updates[name][tensor].astype(np.float64) for name in names])
        for tensor in updates[names[0]]
    }
    sizes, tolerated = coalitions.sum(axis=1), faulty(len(job.participants))
    if job.aggregation == "weighted-mean":
        public = {p.institution: p.weight for p in job.participants}
        shares = _shares(coalitions, [public[name] for name in names])
        return {tensor: _float32(_sum(shares, values)) for tensor, values in stacked.items()}
    middle = (sizes - 1) // 2  # so many from either end leave the median
    trim = np.minimum(tolerated, middle) if job.aggregation == "trimmed-mean" else middle
    models = {t: _float32(_trimmed(values, coalitions, trim)) for t, values in stacked.items()}
    enough = sizes >= 2 * tolerated + 3
    if job.aggregation == "krum" and enough.any():
        chosen = _krum(stacked, coalitions[enough], tolerated)
        for tensor, values in stacked.items():
            models[tensor][enough] = _float32(values[chosen])
    return models


def weighted_mean(updates: Mapping[str, Weights], weights: Mapping[str, int]) -> Weights:
    """Mean of the institutions' models (float32 arrays by name), weighted by ``weights``.

    Raises:
        ValueError: if there is no update.
    """
    names = sorted(updates)
    if not names:
        raise ValueError("no update to average")
    shares = _shares(np.ones((1, len(names)), np.bool_), [weights[name] for name in names])
    return {
        tensor: _float32(
            _sum(shares, np.stack([updates[name][tensor].astype(np.float64) for name in names]))
        )[0]
        for tensor in updates[names[0]]
    }


def _shares(coalitions: Coalitions, weights: Sequence[int]) -> Array:
    held = np.where(coalitions, np.array(weights, dtype=np.float64), 0.0)
    totals = coalitions.astype(np.int64) @ np.array(weights, dtype=np.int64)
    shares: Array = held / totals.astype(np.float64)[:, None]
    return shares


def _sum(shares: Array, values: Array) -> Array:
    """Sums of ``values`` [n, ...] by each row of ``shares`` [m, n], one update at a time."""
    running = np.zeros((len(shares), *values.shape[1:]))
    for own, value in zip(shares.T, values, strict=True):
        running += value * own.reshape(-1, *[1] * value.ndim)
    return running


def _trimmed(values: Array, coalitions: Coalitions, trim: NDArray[np.int64]) -> Array:
    """Each coordinate's mean without the ``trim`` [m] lowest and highest of each coalition."""
    absent = ~coalitions.reshape(*coalitions.shape, *[1] * (values.ndim - 1))
    ordered = np.sort(np.where(absent, np.inf, values), axis=1)  # who is absent comes last
    sizes, running = coalitions.sum(axis=1), np.zeros((len(coalitions), *values.shape[1:]))
    for place in range(values.shape[0]):
        kept = (trim <= place) & (place < sizes - trim)
        running[kept] += ordered[kept, place]
    divisor: Array = (sizes - 2 * trim).astype(np.float64)
    return running / divisor.reshape(-1, *[1] * (values.ndim - 1))


def _krum(stacked: Mapping[str, Array], coalitions: Coalitions, f: int) -> NDArray[np.int64]:
    """Whose update Krum takes, for each coalition; of equal ones the first by name."""
    n = coalitions.shape[1]
    vectors = np.concatenate([stacked[t].reshape(n, -1) for t in sorted(stacked)], axis=1)
    distances = np.zeros((n, n))
    for own in range(n):
        squares = (vectors[own] - vectors) ** 2
        distances[own] = np.add.accumulate(squares, axis=1)[:, -1]  # in order, unlike a sum
    np.fill_diagonal(distances, np.inf)
    chosen = np.zeros(len(coalitions), dtype=np.int64)
    for row, coalition in enumerate(coalitions):
        members = np.flatnonzero(coalition)
        nearest = np.sort(distances[np.ix_(members, members)], axis=1)[:, : len(members) - f - 2]
        chosen[row] = members[np.argmin(np.add.accumulate(nearest, axis=1)[:, -1])]
    return chosen


def _float32(values: Array) -> NDArray[np.float32]:
    return values.astype(np.float32) + np.float32(0)  # -0 + 0 is 0


def average_of_rounds(models: Sequence[Weights]) -> Weights:
    """The released model: the plain mean of several rounds' models.

    Averaging iterates lowers the noise and is post-processing: it costs no privacy
    (Polyak and Juditsky, 1992).

    Raises:
        ValueError: if there is no model.
    """
    return weighted_mean(
        {f"{index:09d}": model for index, model in enumerate(models)},
        {f"{index:09d}": 1 for index in range(len(models))},
    )


def average_from(rounds: int) -> int:
    """The first round whose model enters the released mean: the second half of the job."""
    return rounds // 2 + 1
