"""A hospital's own calibration of a released model: Platt's (1999), held close to doing nothing.

The model's logit z becomes ``slope * z + intercept``. Slope and intercept minimise the
cross-entropy over the hospital's patients plus half the squared distance from slope 1 and
intercept 0, in units of `SLOPE_SPREAD` and `INTERCEPT_SPREAD`: the most probable values under
normal priors of these deviations. So with no patient nothing changes, few change little, and one
outcome only does not run away. The slope stays positive: who ranks above whom, and with it the
AUROC and what `consortium.gain` compares, is the released model's own.

Both deviations were chosen among seven pairs by how they did on heart disease's four hospitals
(`docs/operate.md` has the figures), where the pairs differ little. All weights fitted anew, held
close to the released ones, did worse there.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

SLOPE_SPREAD: Final = 0.5
INTERCEPT_SPREAD: Final = 1.0
_LEAST_SLOPE: Final = 0.05


@dataclass(frozen=True)
class Recalibration:
    """What a hospital lays on top of a released model; it never leaves."""

    slope: float
    intercept: float

    def logits(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model's logits as this hospital reads them, of the same shape."""
        return self.slope * logits + self.intercept


def recalibration(logits: NDArray[np.float64], outcomes: NDArray[np.float64]) -> Recalibration:
    """Fits the two numbers to a model's logits [n] and outcomes [n], n from 0 on.

    The patients must not be those that the calibrated model is tested on.
    """
    from scipy.optimize import minimize  # slow to load

    least, strength = np.array([1.0, 0.0]), np.array([SLOPE_SPREAD**-2, INTERCEPT_SPREAD**-2])

    def loss(at: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        own, off = at[0] * logits + at[1], at - least
        error = 1 / (1 + np.exp(-np.clip(own, -700, 700))) - outcomes
        value = (np.logaddexp(0, own) - outcomes * own).sum() + (strength * off**2).sum() / 2
        return float(value), np.array([error @ logits, error.sum()]) + strength * off

    found = minimize(
        loss, least, jac=True, method="L-BFGS-B", bounds=[(_LEAST_SLOPE, None), (None, None)]
    )
    return Recalibration(float(found.x[0]), float(found.x[1]))
