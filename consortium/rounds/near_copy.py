"""Check 7: is an update a near-copy of another's? The noise is the fingerprint.

Honest updates share the patients' signal, not their noise. So the signal is taken out first: from
each of a pair of steps the mean step of the members outside the pair is projected out (the mean
of all others, the pair included, would bias honest pairs to -1/3), and what is left is
correlated. A copy with added noise of relative norm f shows about 1/sqrt(1 + f**2).

The threshold is the quantile of the correlation of two independent directions in as many
dimensions as the model has parameters, less the one projected out (Student's t), at the job's
false-alarm rate per pair. Small models leave little to tell a noisy copy by.

Every sum that meets the threshold is exactly rounded (`math.fsum`): all members agree.
"""

from collections.abc import Mapping, Sequence
from math import fsum, sqrt

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student_t

Vector = NDArray[np.float64]


def threshold(parameters: int, false_alarm: float) -> float:
    """The correlation above which a pair is taken for a copy.

    For independent directions in d dimensions, r * sqrt((d-1) / (1-r**2)) has Student's t
    distribution with d-1 degrees of freedom (Fisher, 1915).
    """
    freedom = max(parameters - 2, 1)
    quantile = float(student_t.isf(false_alarm, freedom))
    return quantile / sqrt(quantile**2 + freedom)


def near_copies(
    steps: Mapping[str, Vector], earlier: Sequence[Vector], false_alarm: float
) -> frozenset[str]:
    """Who submitted a near-copy.

    Of a pair of this round both are named: before the reveal nobody can copy without the other's
    help. Of a pair with an earlier round's step the later one is.

    Args:
        steps: each institution's step (update minus current model) of this round.
        earlier: the other institutions' and one's own steps of earlier rounds of the job.
        false_alarm: per honest pair.
    """
    names = sorted(steps)
    copies: set[str] = set()
    for position, a in enumerate(names):
        limit = threshold(len(steps[a]), false_alarm)
        for b in names[position + 1 :]:
            outside = [steps[name] for name in names if name not in (a, b)]
            if correlation(residual(steps[a], outside), residual(steps[b], outside)) > limit:
                copies |= {a, b}
        outside = [steps[name] for name in names if name != a]
        if _copies_earlier(steps[a], outside, earlier, limit):
            copies.add(a)
    return frozenset(copies)


def _copies_earlier(
    step: Vector, outside: Sequence[Vector], earlier: Sequence[Vector], limit: float
) -> bool:
    if not earlier:
        return False
    # A fast first pass over what may be thousands of steps; only what comes near the threshold
    # is decided, by the exactly rounded sums.
    all_steps = np.stack(earlier)
    own = residual(step, outside)
    if outside:
        mean = np.sum(outside, axis=0)
        square = float(mean @ mean) or 1.0
        all_steps = all_steps - np.outer(all_steps @ mean / square, mean)
    norms = np.linalg.norm(all_steps, axis=1) * np.linalg.norm(own)
    rough = all_steps @ own / np.where(norms > 0, norms, 1.0)
    near = np.flatnonzero(rough > limit - 1e-6)
    return any(correlation(own, residual(earlier[i], outside)) > limit for i in near.tolist())


def residual(step: Vector, outside: Sequence[Vector]) -> Vector:
    """``step`` with the mean of ``outside`` projected out."""
    if not outside:
        return step
    mean = np.zeros_like(step)
    for other in outside:
        mean += other
    square = _dot(mean, mean)
    return step if square == 0 else step - (_dot(step, mean) / square) * mean


def correlation(a: Vector, b: Vector) -> float:
    """Cosine of the angle between two vectors; 0 where one of them is zero."""
    norms = sqrt(_dot(a, a)) * sqrt(_dot(b, b))
    return 0.0 if norms == 0 else _dot(a, b) / norms


def _dot(a: Vector, b: Vector) -> float:
    return fsum((a * b).tolist())
