"""Columns of a task: what each may hold, and how it becomes numbers.

Every constant is published with the task and the same at every hospital. None is a statistic of a
hospital's patients, so scaling spends no privacy; and a value is clamped to 3 scales from its
reference, so one patient's features are bounded before any gradient is.

    x = clamp((value - centre) / scale, -3, 3)        a missing value becomes 0: the reference

A categorical column becomes one 0/1 column for each level but the first, its reference.

What a patient could be known by from elsewhere (age, sex) is a quasi-identifier, with the ladder on
which a hospital may make it coarser. Its widths are public like the rest, but no part of a task's
fingerprint: whether a hospital uses them is its own decision, and changes nothing for the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from consortium.tasks.errors import DataInvalid

if TYPE_CHECKING:
    import pandas as pd

CLAMP: Final = 3.0

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Feature:
    """One raw column.

    kind: "numeric" or "categorical". unit: for people. low, high: what is physically possible; a
    value outside is an error of measurement or of unit. centre, scale: of the encoding.
    levels: the codes of a categorical column, the reference first. quasi_identifier: the widths of
    bins, each a multiple of the one before, after which it is left out; None for what nobody knows
    of a patient (`privacy.deidentification.anonymity`).
    """

    name: str
    kind: str
    unit: str
    low: Decimal
    high: Decimal
    centre: Decimal = Decimal(0)
    scale: Decimal = Decimal(1)
    levels: tuple[int, ...] = ()
    quasi_identifier: tuple[int, ...] | None = None

    @property
    def is_age(self) -> bool:
        """Whether it is an age: no hospital stores one over 90 (HIPAA Safe Harbor)."""
        return self.unit == "years"

    @property
    def width(self) -> int:
        """Columns of the encoded matrix."""
        return len(self.levels) - 1 if self.levels else 1

    def encode(self, column: "pd.Series") -> Floats:
        """Numbers of shape [n, width] from a checked column of n values."""
        import pandas as pd

        values = pd.to_numeric(column).to_numpy(dtype=np.float64)
        if self.levels:
            return np.stack([values == level for level in self.levels[1:]], axis=1).astype(float)
        scaled = (values - float(self.centre)) / float(self.scale)
        return np.clip(np.nan_to_num(scaled, nan=0.0), -CLAMP, CLAMP)[:, None]

    def to_record(self) -> dict[str, object]:
        """The feature for a fingerprint: strings and integers only."""
        return {
            "name": self.name,
            "kind": self.kind,
            "unit": self.unit,
            "low": str(self.low),
            "high": str(self.high),
            "centre": str(self.centre),
            "scale": str(self.scale),
            "levels": list(self.levels),
        }


@dataclass(frozen=True)
class Table:
    """Inputs that are columns of a table (`consortium.tasks.task.Inputs`).

    common_share: the part of the columns' common level (their mean after scaling) that the encoding
    takes away from each, 0 for none.
    """

    features: tuple[Feature, ...]
    common_share: Decimal = Decimal(0)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one patient's inputs: [width]."""
        return (sum(feature.width for feature in self.features),)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the raw columns."""
        return tuple(feature.name for feature in self.features)

    def check(self, frame: "pd.DataFrame", label: str | None) -> None:
        """Raise DataInvalid unless the table fits."""
        check_columns(frame, self.features, label)

    def encode(self, frame: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """Model inputs, shape [n, width], each within 3, from a checked table."""
        columns = [feature.encode(frame[feature.name]) for feature in self.features]
        encoded = np.concatenate(columns, axis=1)
        encoded -= float(self.common_share) * encoded.mean(axis=1, keepdims=True)
        return np.clip(encoded, -CLAMP, CLAMP).astype(np.float32)

    def to_record(self) -> dict[str, object]:
        """The schema for a fingerprint."""
        return {
            "features": [feature.to_record() for feature in self.features],
            "clamp": str(CLAMP),
            "common_share": str(self.common_share),
        }


def numeric(
    name: str, unit: str, low: str, high: str, centre: str, scale: str,
    quasi_identifier: tuple[int, ...] | None = None,
) -> Feature:  # fmt: skip
    """A measured column; numbers as decimal strings."""
    return Feature(
        name, "numeric", unit, Decimal(low), Decimal(high), Decimal(centre), Decimal(scale),
        quasi_identifier=quasi_identifier,
    )  # fmt: skip


def categorical(name: str, unit: str, *levels: int) -> Feature:
    """A coded column, its reference level first."""
    low, high = Decimal(min(levels)), Decimal(max(levels))
    return Feature(name, "categorical", unit, low, high, levels=levels)


def check_columns(frame: "pd.DataFrame", features: Sequence[Feature], label: str | None) -> None:
    """Raise DataInvalid unless `frame` holds every feature and the label within its bounds.

    Columns that are not in the schema are ignored here and never read by the encoding. Messages
    name columns and how many rows are wrong, never a value.
    """
    wanted = [feature.name for feature in features] + ([label] if label else [])
    if absent := [name for name in wanted if name not in frame.columns]:
        raise DataInvalid(
            f"the table lacks {_some(absent)}",
            f"name the columns as the task does: {', '.join(wanted)}",
        )
    if twice := sorted({n for n in wanted if list(frame.columns).count(n) > 1}):
        raise DataInvalid(f"the table holds {_some(twice)} more than once", "keep one of each")
    if len(frame) == 0:
        raise DataInvalid("the table holds no row", "export the cohort again")
    for feature in features:
        _check_feature(frame[feature.name], feature)
    if label:
        values = _numbers(frame[label], label)
        if wrong := int((~np.isin(values, (0.0, 1.0))).sum()):
            raise DataInvalid(
                f"{label}: {wrong} of {len(values)} rows are neither 0 nor 1",
                "code the outcome as 1 for disease and 0 for none, and leave out rows without one",
            )


def _check_feature(column: "pd.Series", feature: Feature) -> None:
    values = _numbers(column, feature.name)
    present = ~np.isnan(values)
    if feature.levels:
        outside = present & ~np.isin(values, feature.levels)
        allowed = f"codes {', '.join(map(str, feature.levels))}"
    else:
        outside = present & ~((values >= float(feature.low)) & (values <= float(feature.high)))
        allowed = f"{feature.low} to {feature.high} {feature.unit}".rstrip()
    if count := int(outside.sum()):
        raise DataInvalid(
            f"{feature.name}: {count} of {len(values)} rows lie outside what is possible",
            f"allowed: {allowed}; check unit and coding, and leave a missing value empty",
        )


def _numbers(column: "pd.Series", name: str) -> Floats:
    import pandas as pd

    values = pd.to_numeric(column, errors="coerce")
    if count := int((values.isna() & column.notna()).sum()):
        raise DataInvalid(
            f"{name}: {count} of {len(column)} rows are not numbers",
            "write numbers with a decimal point, and leave a missing value empty",
        )
    return values.to_numpy(dtype=np.float64)


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
