"""The score: how a model does on a validator's own patients.

A score leaves the hospital, so it is banded as the release gate has it (`privacy.release`: AUROC to
.02), and there is none from fewer than five patients of either class. That is not differential
privacy; the pages that show an epsilon say so. Where a job asks for noise, what is rounded here has
had its noise before (`privacy.noised_release`).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

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
    rank_sums: NDArray[np.float64] = rankdata(logits, axis=1)[:, positive].sum(axis=1)
    return (rank_sums - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative)


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
