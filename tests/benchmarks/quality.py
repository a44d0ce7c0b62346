"""How good a model is: scores of several runs on the same patients, and intervals over patients.

Accuracies are at probability one half. Hospitals are told apart as FLamby does: "average" is the
mean of the hospitals' own accuracies, however many patients each has.

Two sources of chance are kept apart. Runs differ by which patients served for validation and by the
noise: their standard deviation is in the reports beside the mean. And the test patients are few:
intervals are 95 % percentile bootstrap intervals (Efron 1979) over patients, drawn anew within each
hospital (for AUROC within each outcome too, which is all that it depends on), of the mean of all
runs. Draws are seeded, so the same figures come out each time.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from consortium.tasks.task import JUDGEABLE

Floats = npt.NDArray[np.float64]
Interval = tuple[float, float]

RESAMPLES: Final = 4_000
BINS: Final = 10


@dataclass(frozen=True)
class Outcome:
    """What the models of several runs say of one hospital's test patients.

    logits: [runs, n]. y: outcomes 0 and 1, [n].
    """

    logits: Floats
    y: Floats

    @property
    def right(self) -> Floats:
        """1 where a run is right about a patient, else 0; [runs, n]."""
        return ((self.logits > 0) == (self.y > 0.5)).astype(np.float64)

    @property
    def judgeable(self) -> bool:
        """Whether there are enough patients of either outcome for an AUROC."""
        return bool(min(self.y.sum(), (1 - self.y).sum()) >= JUDGEABLE)


@dataclass(frozen=True)
class Scores:
    """Scores of each run, [runs].

    average: accuracy averaged over the hospitals. accuracy, balanced (mean of sensitivity and
    specificity), auroc, ece (`calibration_error`): of all test patients together.
    auroc_hospitals: AUROC averaged over the hospitals with five patients of either outcome.
    """

    average: Floats
    accuracy: Floats
    balanced: Floats
    auroc: Floats
    auroc_hospitals: Floats
    ece: Floats

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> "Scores":
        """Scores on the hospitals' test parts; each has the same runs."""
        everybody = together(outcomes)
        sick = everybody.y > 0.5
        right = everybody.right
        return cls(
            average=np.mean([outcome.right.mean(axis=1) for outcome in outcomes], axis=0),
            accuracy=right.mean(axis=1),
            balanced=(right[:, sick].mean(axis=1) + right[:, ~sick].mean(axis=1)) / 2,
            auroc=aurocs(everybody),
            auroc_hospitals=np.mean([aurocs(o) for o in outcomes if o.judgeable], axis=0),
            ece=calibration_errors(everybody),
        )

    def means(self) -> dict[str, float]:
        """The mean of each score over the runs."""
        return {name: float(values.mean()) for name, values in vars(self).items()}


def together(outcomes: Sequence[Outcome]) -> Outcome:
    """All hospitals' patients as one hospital's."""
    return Outcome(
        np.concatenate([outcome.logits for outcome in outcomes], axis=1),
        np.concatenate([outcome.y for outcome in outcomes]),
    )


def aurocs(outcome: Outcome) -> Floats:
    """Area under the ROC curve of each run, [runs]: the share of pairs that are in order."""
    return np.array([_ordered(logits, outcome.y).mean() for logits in outcome.logits])


def calibration_errors(outcome: Outcome) -> Floats:
    """Expected calibration error of each run, [runs].

    Ten bins of equal width over the probability of disease; the mean, weighted by patients, of how
    far a bin's mean probability is from its share of sick patients (Naeini et al. 2015).
    """
    return np.array([calibration_error(_sigmoid(run), outcome.y) for run in outcome.logits])


def calibration_error(probability: Floats, y: Floats) -> float:
    """Expected calibration error of probabilities [n] for outcomes [n]."""
    bins = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = [abs(float((probability - y)[bins == bin].sum())) for bin in range(BINS)]
    return sum(gaps) / len(y)


def average_interval(right: Sequence[Floats]) -> Interval:
    """Interval of the accuracy averaged over hospitals; right: [runs, n] for each hospital."""
    random = np.random.default_rng(0)
    drawn = []
    for values in right:
        patients = values.mean(axis=0)
        chosen = random.integers(0, len(patients), (RESAMPLES, len(patients)))
        drawn.append(patients[chosen].mean(axis=1))
    return _middle(np.mean(drawn, axis=0))


def auroc_gain(outcome: Outcome, over: Outcome | None = None) -> tuple[float, Interval]:
    """Mean AUROC of the runs and its interval; with `over`, how much it lies above that one's.

    Both are of the same patients, and are drawn together: the interval is of the difference.
    """
    pairs = _pairs(outcome) - (0.0 if over is None else _pairs(over))
    random = np.random.default_rng(0)
    sick, well = (_weights(random, count) for count in pairs.shape)
    resampled = np.einsum("bp,bp->b", sick, well @ pairs.T)
    return float(pairs.mean()), _middle(resampled)


def mean_interval(values: Floats) -> Interval:
    """Student's 95 % interval of the mean of independent values [n]."""
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return float(values.mean()) - half, float(values.mean()) + half


def _pairs(outcome: Outcome) -> Floats:
    """How often each sick patient is ranked above each well one, over the runs; [sick, well]."""
    return np.mean([_ordered(logits, outcome.y) for logits in outcome.logits], axis=0)


def _ordered(logits: Floats, y: Floats) -> Floats:
    above = logits[y > 0.5][:, None] - logits[y <= 0.5][None, :]
    ordered: Floats = (np.sign(above) + 1) / 2
    return ordered


def _weights(random: np.random.Generator, patients: int) -> Floats:
    """How often each patient is in each resample, as shares; [resamples, patients]."""
    counts = random.multinomial(patients, np.full(patients, 1 / patients), RESAMPLES)
    shares: Floats = counts / patients
    return shares


def _middle(values: Floats) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def _sigmoid(logits: Floats) -> Floats:
    from scipy.special import expit

    probabilities: Floats = expit(logits)
    return probabilities
