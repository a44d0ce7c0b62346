"""The release gate: what a hospital lets out of how models do on its own test patients.

| measure | over | band | only where the test part has |
|---|---|---|---|
| ``auroc`` | both classes | .02 | at least 5 of each class |
| ``sensitivity``, ``specificity`` | one class | .05 | at least 5 of each class |
| ``majority`` | all: accuracy of the more frequent outcome | .02 | at least 5 of each class |
| ``accuracy`` | all | .02 | at least 5 of one class |
| ``calibration`` | all: expected calibration error, 5 bins | .02 | at least 5 of one class |

Decisions are at probability one half. A number is rounded to the nearest multiple of its band and
given in basis points; what may not leave is None. The number of test patients of a class leaves as
the lower edge of its size band: 5, 10, 20, 50, 100, … or 0 for fewer than five. But for AUROC,
whose band the scores of every round have too, no band is narrower than one patient of the fewest
that the size bands allow: with 5 to 9 sick ones sensitivity leaves to .2, with 20 to .05 (`width`).

Intervals do not leave: an exact one would give the number of patients away, and from band and size
anybody derives one that holds (`consortium.rounds.evaluation`). ``majority`` is the share of one
class, so it would tell how many there are of a class that is too small to be counted in public.

A hospital's gain (`consortium.gain`) is a difference of two shares of the cases, -1 to 1, with an
interval that nobody can derive from outside: who is found by one model and not by the other does
not leave. So value, lower and upper bound leave together, the value rounded to its band, the bounds
outward. One patient with the outcome moves the value by up to 2 / (n + 1), one without moves the
thresholds; the band is no narrower than two patients of the smaller class allow (`gain_width`),
and at least 5 of each class are needed.

None of this is differential privacy, and no epsilon covers it: `docs/privacy.md` says what the
bands still tell.
"""

import math
from collections.abc import Mapping
from typing import Final

FEWEST_OF_A_CLASS: Final = 5
"""Patients of a class below which nothing is said about it."""

AUROC_BAND: Final = 200
BANDS: Final[Mapping[str, int]] = {
    "auroc": AUROC_BAND, "accuracy": 200, "sensitivity": 500, "specificity": 500,
    "calibration": 200, "majority": 200,
}  # fmt: skip
"""The narrowest bands in basis points, by measure."""

_WIDTHS: Final = (200, 400, 500, 1_000, 2_000)

_GAIN_WIDTHS: Final = (500, 1_000, 2_000, 5_000)

CALIBRATION_BINS: Final = 5
_NEED_BOTH: Final = frozenset({"auroc", "sensitivity", "specificity", "majority"})


def band(value: float, width: int) -> int:
    """The multiple of ``width`` nearest to ``value``."""
    return math.floor(value / width + 0.5) * width


def size_band(patients: int) -> int:
    """The lower edge of the size band of a number of patients; 0: fewer than five."""
    if patients < FEWEST_OF_A_CLASS:
        return 0
    unit = int(10 ** (len(str(patients)) - 1))
    return max(step * unit for step in (1, 2, 5) if step * unit <= patients)


def may_leave(measure: str, positives: int, negatives: int) -> bool:
    """Whether a measure may be released of a test part with so many patients of each class.

    Numbers and lower edges of their bands give the same answer.
    """
    both = measure in _NEED_BOTH
    deciding = min(positives, negatives) if both else max(positives, negatives)
    return deciding >= FEWEST_OF_A_CLASS


def width(measure: str, positives: int, negatives: int) -> int:
    """The width of a measure's band, in basis points, from the lower edges of the size bands."""
    narrowest = BANDS[measure]
    if measure == "auroc":
        return narrowest
    of_class = {"sensitivity": positives, "specificity": negatives}
    fewest = of_class.get(measure, positives + negatives)
    return next(w for w in _WIDTHS if w % narrowest == 0 and w * fewest >= 10_000)


def released(
    measures: Mapping[str, float | None], positives: int, negatives: int
) -> dict[str, int | None]:
    """What of exact measures (fractions of 1, by name; None: not defined) may leave.

    ``positives`` and ``negatives`` are the exact numbers of test patients of each class.
    """
    sizes = size_band(positives), size_band(negatives)
    return {
        name: band(value * 10_000, width(name, *sizes))
        if value is not None and may_leave(name, *sizes)
        else None
        for name, value in measures.items()
    }


def gain_width(positives: int, negatives: int) -> int:
    """The width of a gain's band, in basis points, from the lower edges of the size bands."""
    return next(w for w in _GAIN_WIDTHS if w * min(positives, negatives) >= 2 * 10_000)


def released_gain(
    value: float, low: float, high: float, positives: int, negatives: int
) -> tuple[int, int, int] | None:
    """What of an exact gain and its interval (fractions of 1) may leave: value, low, high, or None.

    ``positives`` and ``negatives`` are the exact numbers of test patients of each class.
    """
    sizes = size_band(positives), size_band(negatives)
    if min(sizes) < FEWEST_OF_A_CLASS:
        return None
    wide = gain_width(*sizes)
    return (
        band(value * 10_000, wide),
        math.floor(round(low * 10_000 / wide, 9)) * wide,  # .3 is no more than .3, be it computed
        math.ceil(round(high * 10_000 / wide, 9)) * wide,
    )


def broken_gain_rule(value: int, low: int, high: int, positives: int, negatives: int) -> str | None:
    """The first rule that a gain said to come from this gate breaks, or None.

    ``positives`` and ``negatives`` are lower edges.
    """
    if min(positives, negatives) < FEWEST_OF_A_CLASS:
        return "gain is given for too few patients of a class"
    if any(number % gain_width(positives, negatives) for number in (value, low, high)):
        return "gain is not on its band"
    if not -10_000 <= low <= value <= high <= 10_000:
        return "gain is not within its interval"
    return None


def broken_rule(measures: Mapping[str, int | None], positives: int, negatives: int) -> str | None:
    """The first rule that numbers said to come from this gate break, or None.

    ``positives`` and ``negatives`` are lower edges. A number that is left out breaks none.
    """
    if any(size != size_band(size) for size in (positives, negatives)):
        return "a number of patients is not the lower edge of a size band"
    for name, value in measures.items():
        if value is None:
            continue
        if not may_leave(name, positives, negatives):
            return f"{name} is given for too few patients of a class"
        if not 0 <= value <= 10_000 or value % width(name, positives, negatives):
            return f"{name} is not on its band"
    return None
