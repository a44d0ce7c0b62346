"""The new model: a weighted mean that is the same to the bit at every member.

The weights are public constants of the job's contract. Sums run in float64 in the order of the
institutions' names, one multiplication and one addition at a time, then are rounded to float32:
no library call whose order of summation could differ between machines.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ledger.content import Weights


def weighted_mean(updates: Mapping[str, Weights], weights: Mapping[str, int]) -> Weights:
    """Mean of the institutions' models (float32 arrays by name), weighted by ``weights``.

    Raises:
        ValueError: if there is no update.
    """
    names = sorted(updates)
    if not names:
        raise ValueError("no update to average")
    total = float(sum(weights[name] for name in names))
    mean: dict[str, np.ndarray] = {}
    for tensor, first in updates[names[0]].items():
        running = np.zeros(first.shape, dtype=np.float64)
        for name in names:
            running += updates[name][tensor].astype(np.float64) * (weights[name] / total)
        mean[tensor] = running.astype(np.float32)
    return mean


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
