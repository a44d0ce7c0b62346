"""What a hospital gains: how many more cases a federated model finds than the hospital's own, at
the same false alarms.

The hospital's own model, at probability one half, raises k false alarms among n test patients
without the outcome. Both models are read where they raise k: a model's share of cases found is
that of its empirical ROC curve there. With k from 1 on there is a step, from the threshold at the
k-th such patient to the one just above the next; the middle of what the step finds counts. On new
patients its lower end finds too few and its upper end too many: thresholds at the k-th and the next
have k / (n + 1) and (k + 1) / (n + 1) false alarms in expectation. With k = 0 the upper end counts,
for there is no lower one. Tied patients are divided as the ROC's straight line divides them. Equal
models gain exactly 0. If the own model raises the alarm for everybody, there is no gain to tell.

The 95 % interval reaches over two:

- the bootstrap's percentiles, over patients drawn within each class, with k and both thresholds
  chosen anew each time, for the same patients set them;
- Newcombe's (1998, method 10) for paired shares: both models' Wilson intervals and their corrected
  correlation, for as many patients as the smaller class has. It is not empty where all patients
  agree, and not narrow where few patients set the thresholds; the bootstrap's is.

In simulations of 70 settings (250 each; 5 to 200 patients of a class, false alarms .05 to .3) it
held the true difference in .90 to 1.00 of them, half of the settings above .97; it is lowest where
one or two false alarms are to be expected. Newcombe's for all cases held it in as few as .52, the
bootstrap's in .57. `tests/rounds/test_gain.py` repeats some. Where there are few
thresholds to choose from, the value leans towards the own model or no difference: by up to .04 with
20 patients of each class, by up to .14 with 5.

AUROCs are compared by both models' intervals and DeLong's correlation (1988), joined likewise (Zou
and Donner 2008).
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from consortium.intervals import auroc_interval, share_interval

Floats = NDArray[np.float64]

RESAMPLES: Final = 2_000
_AT_ONCE: Final = 2_000_000
_TAILS: Final = (0.025, 0.975)


@dataclass(frozen=True)
class Difference:
    """Federated minus alone, in fractions of 1 from -1 to 1, with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Gain:
    """Shares of cases that two models find where they raise the same false alarms.

    ``false_alarms``: of so many test patients without the outcome, exactly.
    """

    false_alarms: int
    alone: float
    federated: float
    more: Difference


def gain(federated: Floats, alone: Floats, outcomes: Floats) -> Gain | None:
    """The gain, from both models' logits [n] and outcomes [n] on the same test patients.

    None without patients of both classes, and if ``alone`` raises the alarm for every one without
    the outcome. The same patients give the same interval: the bootstrap's seed is fixed.
    """
    positive = outcomes > 0.5
    cases, others = int(positive.sum()), int((~positive).sum())
    alarms = int((alone[~positive] > 0).sum())
    if not cases or alarms == others:
        return None
    both = np.stack([federated, alone])
    sick, well = both[:, positive], both[:, ~positive]
    found = _found(sick, well, np.full(2, alarms))
    shares = [float(share) for share in found.mean(axis=1)]
    value = shares[0] - shares[1]
    fewest = min(cases, others)
    low, high = _joined(
        (shares[0], share_interval(shares[0], fewest)),
        (shares[1], share_interval(shares[1], fewest)),
        _correlation(found, fewest),
    )
    drawn_low, drawn_high = map(float, np.quantile(_resampled(sick, well), _TAILS))
    more = Difference(
        value, max(-1.0, min(value, low, drawn_low)), min(1.0, max(value, high, drawn_high))
    )
    return Gain(alarms, shares[1], shares[0], more)


def auroc_difference(federated: Floats, alone: Floats, outcomes: Floats) -> Difference | None:
    """How much further one AUROC lies above another on the same patients; None of one class."""
    from scipy.stats import rankdata

    positive = outcomes > 0.5
    cases, others = int(positive.sum()), int((~positive).sum())
    if not cases or not others:
        return None
    both = np.stack([federated, alone])
    ranks = rankdata(both, axis=1)
    # Each patient's part: of the other class, the share that it is on the right side of.
    above = (ranks[:, positive] - rankdata(both[:, positive], axis=1)) / others
    below = 1 - (ranks[:, ~positive] - rankdata(both[:, ~positive], axis=1)) / cases
    aurocs = [float(auroc) for auroc in above.mean(axis=1)]
    spread = np.zeros((2, 2))
    for parts in (above, below):
        if parts.shape[1] > 1:
            spread += np.cov(parts) / parts.shape[1]
    deviations = float(np.sqrt(spread[0, 0] * spread[1, 1]))
    correlation = float(spread[0, 1]) / deviations if deviations > 0 else 0.0
    low, high = _joined(
        (aurocs[0], auroc_interval(aurocs[0], cases, others)),
        (aurocs[1], auroc_interval(aurocs[1], cases, others)),
        correlation,
    )
    return Difference(aurocs[0] - aurocs[1], max(-1.0, low), min(1.0, high))


def _found(sick: Floats, well: Floats, alarms: NDArray[np.int_]) -> Floats:
    """How far each patient is found, 0 to 1: sick [m, p] and well [m, n] logits, alarms [m]."""
    rows, others = np.arange(len(well)), well.shape[1]
    ordered = np.sort(well, axis=1)
    # Ascending, so that the k-th largest is at n - k; beyond the lowest there is no alarm to come.
    padded = np.concatenate([np.full((len(well), 1), -np.inf), ordered], axis=1)
    following = padded[rows, others - alarms][:, None]
    last = np.where(alarms > 0, ordered[rows, np.minimum(others - alarms, others - 1)], np.inf)
    last = last[:, None]
    upper = sick > following
    lower = np.where(alarms[:, None] > 0, sick >= last, upper)
    # Where the k-th and the next are tied, the curve is straight between its ends.
    before, through = (well > last).sum(axis=1), (well >= last).sum(axis=1)
    part = (alarms - before) / np.maximum(through - before, 1)
    tied = np.where(sick == last, part[:, None], upper)
    found: Floats = np.where(last == following, tied, 0.5 * upper + 0.5 * lower)
    return found


def _resampled(sick: Floats, well: Floats) -> Floats:
    """Differences of shares found, over patients drawn with repetition: both [2, ...] logits."""
    random = np.random.default_rng(0)
    cases, others = sick.shape[1], well.shape[1]
    size = max(1, _AT_ONCE // (cases + others))
    differences = []
    for start in range(0, RESAMPLES, size):
        count = min(size, RESAMPLES - start)
        drawn_sick = sick[:, random.integers(0, cases, (count, cases))]
        drawn_well = well[:, random.integers(0, others, (count, others))]
        alarms = (drawn_well[1] > 0).sum(axis=1)
        federated, alone = (
            _found(s, w, alarms).mean(axis=1) for s, w in zip(drawn_sick, drawn_well, strict=True)
        )
        differences.append(federated - alone)
    return np.concatenate(differences)


def _correlation(found: Floats, patients: int) -> float:
    """How alike two models find the cases [2, p]; half a patient less where it is positive."""
    deviations = float(np.prod(found.std(axis=1)))
    if deviations < 1e-12:
        return 0.0
    together = float(np.cov(found, bias=True)[0, 1])
    if together > 0:
        together = max(0.0, together - 0.5 / patients)
    return together / deviations


def _joined(
    one: tuple[float, tuple[float, float]], other: tuple[float, tuple[float, float]],
    correlation: float,
) -> tuple[float, float]:  # fmt: skip
    """The interval of a difference from both numbers' own, as correlated as the numbers are."""
    (a, (a_low, a_high)), (b, (b_low, b_high)) = one, other

    def reach(of_a: float, of_b: float) -> float:
        return math.sqrt(max(0.0, of_a**2 - 2 * correlation * of_a * of_b + of_b**2))

    return a - b - reach(a - a_low, b_high - b), a - b + reach(a_high - a, b - b_low)
