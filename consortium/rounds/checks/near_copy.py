"""Check 7: is an update a near-copy of another's? The noise is the fingerprint.

Honest updates share the patients' signal, not their noise. So the signal is taken out first: from
each of a pair of steps the mean step of the members outside the pair is projected out (the mean
of all others, the pair included, would bias honest pairs to -1/3), and what is left is
correlated. A copy with added noise of relative norm f shows about 1/sqrt(1 + f**2).

What is left still holds some signal where there is little noise, so the threshold rises with the
signal-to-noise ratio that the contract's public constants allow (`threshold`). Small models leave
little to tell a copy by: with 14 parameters only near-exact copies are found, with 31 a copy with
half its norm of added noise; `docs/proof-of-learning.md` has the figures.

Every sum that meets the threshold is exactly rounded (`math.fsum`): all members agree.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import atanh, fsum, inf, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from consortium.rounds.checks.terms import noise_quantile
from ledger.records import Participant, Thresholds

Vector = NDArray[np.float64]

_CERTAIN = 0.99
_ROUGH, _TOO_LITTLE = 1e-4, 1e-3  # of a first pass in float64: far above what it may err


@dataclass(frozen=True)
class EarlierStep:
    """What an institution revealed in an earlier round: update minus the model of that round."""

    institution: str
    step: Vector = field(repr=False)
    other_job: bool = False


def threshold(
    a: Participant, b: Participant, parameters: int, false_alarm: float, residual_signal: float
) -> float:
    """The correlation, of either sign, beyond which a pair is taken for a copy.

    An honest step is signal plus noise, its ratio at most lambda = sqrt(T) q B / (sigma sqrt(p))
    for T steps, sample rate q, normaliser B, noise multiplier sigma and p parameters: each
    patient's clipped gradient has at most the clip's norm. What the projection leaves of it
    correlates by about rho = l_a l_b / (l_a l_b + ``residual_signal``), which is calibrated for the
    task. Around it the correlation spreads as Fisher's z (1921) does in p - 1 dimensions.
    """
    product = signal_to_noise(a, parameters) * signal_to_noise(b, parameters)
    centre = product / (product + residual_signal)
    tail = noise_quantile(false_alarm) / sqrt(max(parameters - 4, 1))
    return tanh(atanh(centre) + tail)


def signal_to_noise(participant: Participant, parameters: int) -> float:
    """Lambda: the most that signal can be against noise at each parameter of a step."""
    terms = participant.terms
    batch = float(terms.sample_rate) * terms.normaliser
    return sqrt(terms.steps / parameters) * batch / float(terms.noise_multiplier)


def repeats_itself(participant: Participant, parameters: int) -> bool:
    """Whether two honest steps of one hospital may correlate beyond .99.

    Two steps of one signal correlate by lambda^2 / (1 + lambda^2), its own noise being all that
    differs.
    """
    square = signal_to_noise(participant, parameters) ** 2
    return square > _CERTAIN * (1 + square)


def noise_seen_through(
    a: Participant, b: Participant, parameters: int, thresholds: Thresholds, hospitals: int
) -> float:
    """How much noise may hide a copy: up to this part of its length 19 copies of 20 are found.

    A copy with noise of f times its length correlates by about 1 / sqrt(1 + f^2).
    """
    false_alarm = float(thresholds.false_alarm) / max(1, hospitals - 1)
    limit = threshold(a, b, parameters, false_alarm, float(thresholds.residual_signal))
    needed = tanh(atanh(limit) + 1.645 / sqrt(max(parameters - 4, 1)))
    return sqrt(1 / needed**2 - 1)


def near_copies(
    steps: Mapping[str, Vector],
    earlier: Sequence[EarlierStep],
    participants: Mapping[str, Participant],
    thresholds: Thresholds,
) -> frozenset[str]:
    """Who submitted a near-copy.

    Of a pair of this round both are named: before the reveal nobody can copy without the other's
    help. Of a pair with an earlier round's step the later one is. Only a correlation beyond .99
    counts for one's own earlier steps, for those of other jobs (trained under other noise), and
    where there is nobody outside the pair to take the signal from: honest steps share more there.
    With next to no noise honest steps of one hospital go the same way round after round, so that
    nothing tells a repeated one: then its own earlier steps do not count (`repeats_itself`).

    Args:
        steps: each institution's step (update minus current model) of this round.
        earlier: the steps of earlier rounds of the job.
        participants: the job's, by institution: their public constants set the threshold.
        thresholds: the job's; of them ``false_alarm``, which an honest step's comparisons with all
            others of the round share, and those with all earlier steps once more; and
            ``residual_signal``.
    """
    false_alarm, signal = float(thresholds.false_alarm), float(thresholds.residual_signal)
    # With a dozen hospitals a pair's alarm of 1 in 10,000 would be a proof's of 1 in 900; and
    # thousands of earlier steps are thousands of chances.
    of_a_pair = false_alarm / max(1, len(participants) - 1)
    shared = false_alarm / max(1, len(earlier))
    names = sorted(steps)
    copies: set[str] = set()
    rough = _rough_correlations([steps[name] for name in names])
    for position, a in enumerate(names):
        size = len(steps[a])
        for other, b in enumerate(names[position + 1 :], start=position + 1):
            limit = threshold(participants[a], participants[b], size, of_a_pair, signal)
            limit = limit if len(names) > 2 else _CERTAIN
            if rough[position, other] <= limit - _ROUGH:
                continue
            outside = [steps[name] for name in names if name not in (a, b)]
            if abs(correlation(residual(steps[a], outside), residual(steps[b], outside))) > limit:
                copies |= {a, b}
        outside = [steps[name] for name in names if name != a]
        limits = {
            b: threshold(participants[a], participants[b], size, shared, signal)
            if outside and b != a
            else _CERTAIN
            for b in participants
        }
        if repeats_itself(participants[a], size):
            limits[a] = inf
        if _copies_earlier(steps[a], outside, earlier, limits):
            copies.add(a)
    return frozenset(copies)


def _rough_correlations(steps: Sequence[Vector]) -> NDArray[np.float64]:
    """Sizes of all pairs' correlations at once, [n, n], from the steps' inner products.

    A fast first pass: what comes near its threshold is decided by the exactly rounded sums, and so
    is a pair of which the projection leaves too little to say (infinity here).
    """
    if not steps:
        return np.zeros((0, 0))
    stacked = np.stack(steps)
    inner = stacked @ stacked.T
    own, total = np.diag(inner), inner.sum(axis=1)
    # With the others' sum m = S - a - b: its products with a, with b, and with itself.
    with_a = total[:, None] - own[:, None] - inner
    with_b = with_a.T
    square = inner.sum() - 2 * (total[:, None] + total[None, :]) + own[:, None] + own + 2 * inner
    with np.errstate(invalid="ignore", divide="ignore"):
        left_a, left_b = own[:, None] - with_a**2 / square, own - with_b**2 / square
        product = inner - with_a * with_b / square
        rough: NDArray[np.float64] = np.abs(product) / np.sqrt(left_a * left_b)
    certain = (
        (square > _TOO_LITTLE * np.abs(inner).sum())
        & (left_a > _TOO_LITTLE * own[:, None])
        & (left_b > _TOO_LITTLE * own)
    )
    return np.where(certain, rough, np.inf)


def _copies_earlier(
    step: Vector, outside: Sequence[Vector], earlier: Sequence[EarlierStep],
    limits: Mapping[str, float],
) -> bool:  # fmt: skip
    if not earlier:
        return False
    # A fast first pass over what may be thousands of steps; only what comes near the threshold
    # is decided, by the exactly rounded sums.
    all_steps = np.stack([past.step for past in earlier])
    limit = np.array([
        _CERTAIN if past.other_job and limits[past.institution] < inf else limits[past.institution]
        for past in earlier
    ])  # fmt: skip
    own = residual(step, outside)
    if outside:
        mean = np.sum(outside, axis=0)
        square = float(mean @ mean) or 1.0
        all_steps = all_steps - np.outer(all_steps @ mean / square, mean)
    norms = np.linalg.norm(all_steps, axis=1) * np.linalg.norm(own)
    rough = all_steps @ own / np.where(norms > 0, norms, 1.0)
    return any(
        abs(correlation(own, residual(earlier[i].step, outside))) > limit[i]
        for i in np.flatnonzero(np.abs(rough) > limit - _ROUGH).tolist()
    )


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
