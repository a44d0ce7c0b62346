"""The score: how a model does on a validator's own patients.

A score leaves the hospital, so it is banded as the release gate has it (`privacy.release`: AUROC to
.02), and there is none from fewer than five patients of either class. That is not differential
privacy; the pages that show an epsilon say so. Where a job asks for noise, what is rounded here has
had its noise before (`privacy.noised_release`).
"""

import numpy as np
from numpy.typing import NDArray

from privacy.release import AUROC_BAND, FEWEST_OF_A_CLASS, band

SHAPLEY_BAND = 25


def auroc(labels: NDArray[np.float64], logits: NDArray[np.float64]) -> float:
    """Area under the ROC curve: the Mann-Whitney statistic, ties counted half.

    Both arrays have one value a patient; labels are 0 or 1, with both present.
    """
    return float(aurocs(labels, logits[None])[0])


def aurocs(labels: NDArray[np.float64], logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """AUROC of many models at once: labels [n] as of one, logits [m, n]."""
    positive = labels > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    rank_sums = _ranks(logits)[:, positive].sum(axis=1)
    found: NDArray[np.float64] = rank_sums - n_positive * (n_positive + 1) / 2
    return found / (n_positive * n_negative)


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value's rank in its row [m, n], from 1; equal ones share their mean, exact in halves.

    A row with a NaN has none. SciPy's function does the same, and takes a second to load.
    """
    m, n = values.shape
    order = np.argsort(values, axis=1)
    in_order = np.take_along_axis(values, order, axis=1)
    first = np.ones((m, n + 1), dtype=np.bool_)  # of equal ones, and one beyond each row
    first[:, 1:n] = in_order[:, 1:] != in_order[:, :-1]
    starts = np.flatnonzero(first)
    runs = np.diff(starts)  # from each row's last run to the place beyond, and from there on
    ranks = np.empty((m, n))
    beside = np.repeat((starts[:-1] % (n + 1)) + (runs + 1) / 2, runs)
    beside = np.append(beside, 0.0).reshape(m, n + 1)[:, :n]
    np.put_along_axis(ranks, order, beside, axis=1)
    ranks[np.isnan(in_order).any(axis=1)] = np.nan
    return ranks


def can_score(labels: NDArray[np.float64]) -> bool:
    """Whether there are enough patients of both classes to give a score."""
    positive = int((labels > 0.5).sum())
    return min(positive, len(labels) - positive) >= FEWEST_OF_A_CLASS


def banded_score(value: float) -> int:
    """AUROC in basis points, rounded to the middle of its band; noise does not carry it beyond."""
    return band(min(max(value, 0.0), 1.0) * 10_000, AUROC_BAND)


def banded_shapley(value: float) -> int:
    """A Shapley value (difference of AUROC) in basis points, rounded to its band."""
    return band(min(max(value, -1.0), 1.0) * 10_000, SHAPLEY_BAND)


def lower_median(values: list[int]) -> int | None:
    """The lower median: always one of the values, so a minority cannot move it beyond them."""
    return sorted(values)[(len(values) - 1) // 2] if values else None
