"""95 % intervals of the two shares that hospitals report: accuracy and the like, and AUROC.

Both are score intervals: every value at which the one seen is within 1.96 deviations *of that
value*. So neither is empty at 1, and both only get wider with fewer patients.
"""

import math
from statistics import NormalDist
from typing import Final

CONFIDENCE: Final = 0.95
_Z: Final = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)


def share_interval(share: float, patients: int) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share of so many patients."""
    z2 = _Z**2
    middle = share + z2 / (2 * patients)
    reach = _Z * math.sqrt(share * (1 - share) / patients + z2 / (4 * patients**2))
    scale = 1 + z2 / patients
    low, high = (middle - reach) / scale, (middle + reach) / scale
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # at 0 and 1 but for rounding


def auroc_interval(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """The interval of Newcombe (2006) for an AUROC.

    Its deviation is that of Hanley and McNeil (1982, equation 2).
    """
    from scipy.optimize import brentq  # slow to load

    def beyond(value: float) -> float:
        return abs(auroc - value) - _Z * math.sqrt(_auroc_variance(value, positives, negatives))

    # At 0 and 1 themselves the deviation is 0, which is a root, but not the one that is meant.
    step = 1e-9
    low = brentq(beyond, 0.0, auroc - step) if auroc > step else 0.0
    high = brentq(beyond, auroc + step, 1.0) if auroc < 1 - step else 1.0
    return float(low), float(high)


def _auroc_variance(auroc: float, positives: int, negatives: int) -> float:
    q1 = auroc / (2 - auroc)
    q2 = 2 * auroc**2 / (1 + auroc)
    spread = (positives - 1) * (q1 - auroc**2) + (negatives - 1) * (q2 - auroc**2)
    return max(0.0, (auroc * (1 - auroc) + spread) / (positives * negatives))
