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

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import atanh, fsum, inf, sqrt, tanh

import numpy as np
from numpy.typing import NDArray

from consortium.rounds.checks.terms import noise_quantile
from consortium.rounds.codes import HARMFUL
from ledger.records import ACCEPTED, Participant, Thresholds

Vector = NDArray[np.float64]

_CERTAIN = 0.99
_ROUGH, _TOO_LITTLE = 1e-4, 1e-3  # of a first pass in float64: far above what it may err


@dataclass(frozen=True)
class EarlierStep:
    """What an institution revealed in an earlier round: update minus the model of that round.

    ``code`` is what the round's result calls the proof.
    """

    institution: str
    round: int
    step: Vector = field(repr=False)
    code: str = ACCEPTED
    other_job: bool = False

    @property
    def accepted(self) -> bool:
        """Whether the round's rule took it."""
        return self.code == ACCEPTED

    @property
    def judged(self) -> bool:
        """Whether no check but the one for harm could have rejected it."""
        return self.code in (ACCEPTED, HARMFUL)


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
    if not names:
        return frozenset()
    size = len(steps[names[0]])
    copies: set[str] = set()
    # Fast first passes over all pairs, and over what may be thousands of earlier steps. Only what
    # comes near its threshold is decided, by the exactly rounded sums.
    stacked = np.stack([steps[name] for name in names])
    rough, places = _rough_correlations(stacked), list(participants)
    limits = _rough_thresholds([participants[name] for name in names], size, of_a_pair, signal)
    near = np.triu(rough > (limits if len(names) > 2 else _CERTAIN) - _ROUGH, k=1)
    for position, other in np.argwhere(near).tolist():
        a, b = names[position], names[other]
        limit = threshold(participants[a], participants[b], size, of_a_pair, signal)
        limit = limit if len(names) > 2 else _CERTAIN
        outside = [steps[name] for name in names if name not in (a, b)]
        if abs(correlation(residual(steps[a], outside), residual(steps[b], outside))) > limit:
            copies |= {a, b}
    if not earlier:
        return frozenset(copies)
    all_steps = np.stack([past.step for past in earlier])
    # Who takes no part in this job has steps of others only: those stand in the last column.
    whose = {name: place for place, name in enumerate(places)}
    of_whom = np.array([whose.get(past.institution, len(places)) for past in earlier])
    elsewhere = np.array([past.other_job or past.institution not in whose for past in earlier])
    limits = _rough_thresholds(list(participants.values()), size, shared, signal)
    for a in names:
        outside = [steps[name] for name in names if name != a]
        row = np.append(limits[whose[a]] if outside else np.full(len(places), _CERTAIN), _CERTAIN)
        row[whose[a]] = inf if repeats_itself(participants[a], size) else _CERTAIN
        rough_limits = row[of_whom]
        rough_limits[elsewhere & (rough_limits < inf)] = _CERTAIN

        def limit_of(index: int, a: str = a, limits: Vector = rough_limits) -> float:
            author = earlier[index].institution
            if elsewhere[index] or author == a or len(names) == 1:
                return float(limits[index])
            return threshold(participants[a], participants[author], size, shared, signal)

        if _copies_earlier(steps[a], outside, all_steps, rough_limits, limit_of):
            copies.add(a)
    return frozenset(copies)


def _rough_thresholds(
    participants: Sequence[Participant], size: int, false_alarm: float, residual_signal: float
) -> NDArray[np.float64]:
    """`threshold` of all pairs at once, [n, n], to rounding."""
    ratios = np.array([signal_to_noise(participant, size) for participant in participants])
    product = np.outer(ratios, ratios)
    tail = noise_quantile(false_alarm) / sqrt(max(size - 4, 1))
    with np.errstate(divide="ignore"):
        limits: NDArray[np.float64] = np.tanh(
            np.arctanh(product / (product + residual_signal)) + tail
        )
    return limits


def _rough_correlations(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sizes of all pairs' correlations at once, [n, n], from the inner products of steps [n, p].

    A fast first pass: what comes near its threshold is decided by the exactly rounded sums, and so
    is a pair of which the projection leaves too little to say (infinity here).
    """
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
    step: Vector, outside: Sequence[Vector], all_steps: NDArray[np.float64],
    rough_limits: Vector, limit_of: Callable[[int], float],
) -> bool:  # fmt: skip
    """Whether a step is one of the earlier ones [m, p]; their limits [m], to rounding and exact."""
    own, projected = residual(step, outside), all_steps
    if outside:
        mean = np.sum(outside, axis=0)
        square = float(mean @ mean) or 1.0
        projected = all_steps - np.outer(all_steps @ mean / square, mean)
    norms = np.linalg.norm(projected, axis=1) * np.linalg.norm(own)
    rough = np.abs(projected @ own / np.where(norms > 0, norms, 1.0))
    return any(
        abs(correlation(own, residual(all_steps[index], outside))) > limit_of(index)
        for index in np.flatnonzero(rough > rough_limits - _ROUGH).tolist()
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
