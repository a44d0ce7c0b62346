"""How a model does on test patients, exactly. What of it may leave: `privacy.release`."""

import numpy as np
from numpy.typing import NDArray

from consortium.rounds.score import auroc
from privacy.release import CALIBRATION_BINS

MEASURES = ("auroc", "accuracy", "sensitivity", "specificity", "calibration")
Logits = NDArray[np.float64]
Outcomes = NDArray[np.float64]


def measures(logits: Logits, outcomes: Outcomes) -> dict[str, float | None]:
    """AUROC, accuracy, sensitivity, specificity, calibration: logits [n], outcomes [n], n > 0.

    Fractions of 1; None where there is no patient of a class that a measure is over.
    """
    positive, called = outcomes > 0.5, logits > 0
    both = bool(positive.any() and not positive.all())
    return {
        "auroc": auroc(outcomes, logits) if both else None,
        "accuracy": float((called == positive).mean()),
        "sensitivity": float(called[positive].mean()) if positive.any() else None,
        "specificity": float((~called[~positive]).mean()) if not positive.all() else None,
        "calibration": calibration_error(logits, outcomes),
    }


def calibration_error(logits: Logits, outcomes: Outcomes) -> float:
    """Expected calibration error (Naeini et al. 2015) over bins of equal width in probability.

    How far the bins' mean predictions lie from their shares of outcomes, weighted by patients.
    """
    probabilities = 1 / (1 + np.exp(-np.clip(logits, -700, 700)))
    bins = np.minimum((probabilities * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, probabilities - outcomes, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(outcomes))
