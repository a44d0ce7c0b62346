"""What a table is good for: counted while its rows pass, said in bands, never with a value.

Memory does not grow with the rows: what is kept are counts, one for each combination of
quasi-identifiers and outcome, and a sample of hashes (`hospital_agent.repeats`).
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from consortium.tasks.errors import DataInvalid
from consortium.tasks.schema import Feature
from consortium.tasks.task import JUDGEABLE, Task
from hospital_agent.errors import PatientRepeated, PatientUnnamed
from hospital_agent.repeats import Repeats
from hospital_agent.table import Problem, Reading, Rows
from privacy.deidentification import anonymity
from privacy.deidentification.identifiers import Finding, refuse, rows_in_words
from privacy.deidentification.safe_harbor import Item, checklist
from privacy.errors import PrivacyError, ResidualIdentifier

FEWEST_ROWS: Final = 10
REPORTED_K: Final = 5
"""Below this a report warns: the k that data owners most often ask for."""


@dataclass(frozen=True)
class Column:
    """One column of the schema in a table; missing is a share in words, fits: nothing is wrong."""

    name: str
    missing: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class TableReport:
    """What a table is good for. usable: it can be added; warnings do not stand against that."""

    task: str
    kind: str
    rows: str
    positive: str
    duplicates: str
    patients: str
    dropped: tuple[str, ...]
    columns: tuple[Column, ...]
    identifiers: tuple[Finding, ...]
    safe_harbor: tuple[Item, ...]
    anonymity: dict[str, str] | None
    problems: tuple[Problem | PrivacyError, ...]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether the table fits the task."""
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        """The report for machines: problems with their codes."""
        plain = {name: value for name, value in vars(self).items() if name not in _STRUCTURED}
        return plain | {
            "columns": [
                {"name": c.name, "missing": c.missing, "problems": [p.code for p in c.problems]}
                for c in self.columns
            ],
            "identifiers": [asdict(finding) for finding in self.identifiers],
            "safe_harbor": [asdict(item) for item in self.safe_harbor],
            "problems": [
                {"code": p.code, "what": p.what, "resolve": p.resolve} for p in self.problems
            ],
            "usable": self.usable,
        }


_STRUCTURED: Final = ("columns", "identifiers", "safe_harbor", "problems")


class Examination:
    """Counts a reading's rows as they pass: `take` each, then `report`."""

    def __init__(self, task: Task, reading: Reading, kind: str) -> None:
        self._task = task
        self._reading = reading
        self._kind = kind
        self._rows = 0
        self._missing: Counter[str] = Counter()
        self._outside: Counter[str] = Counter()
        self._outcomes: Counter[bool] = Counter()
        self._same_rows = Repeats()
        self._same_patients = Repeats()
        self._alike: pd.Series | None = None
        self._differing = 0
        self._quasi = [
            feature.name
            for feature in task.features
            if feature.quasi_identifier is not None and feature.name in reading.present
        ]

    def take(self, rows: Rows, differing: int = 0) -> None:
        """Counts some rows; ``differing``: patients whose own rows had codes that differ."""
        numbers = rows.numbers
        self._differing += differing
        self._rows += rows.count
        self._missing.update({str(name): int(numbers[name].isna().sum()) for name in numbers})
        label = self._task.label
        if label in numbers:
            values = numbers[label].to_numpy()
            self._outcomes.update({True: int((values == 1).sum()), False: int((values == 0).sum())})
        if rows.images:
            self._same_rows.take(_hashes(rows.images))
        elif len(numbers.columns):
            hashes = pd.util.hash_pandas_object(numbers, index=False)
            self._same_rows.take(hashes.to_numpy().astype(np.uint64))
        if rows.patients is not None:
            self._same_patients.take(rows.patients)
        if self._quasi and label in numbers:
            counts = numbers.groupby([*self._quasi, label], dropna=False).size()
            self._alike = counts if self._alike is None else self._alike.add(counts, fill_value=0)

    def take_bounds(self, numbers: pd.DataFrame) -> None:
        """Counts numbers out of bounds, in rows as they came: a mean would hide them."""
        for feature in self._task.features:
            if feature.name in numbers:
                values = numbers[feature.name].to_numpy()
                self._outside[feature.name] += int(_outside(values, feature).sum())
        label = self._task.label
        if label in numbers:
            values = numbers[label].to_numpy()
            self._outside[label] += int((~np.isnan(values) & ~np.isin(values, (0, 1))).sum())

    def report(self) -> TableReport:
        """What was found in all rows."""
        columns = tuple(self._column(name) for name in self._reading.wanted)
        problems: list[Problem | PrivacyError] = [
            *(problem for c in columns if c.name in self._reading.absent for problem in c.problems),
            *self._too_few(),
            *(p for c in columns if c.name not in self._reading.absent for p in c.problems),
            *self._repeated(),
        ]
        try:
            refuse(self._reading.residual(), self._reading.kept)
        except ResidualIdentifier as error:
            problems.append(error)
        alike = self._anonymity()
        return TableReport(
            task=self._task.name, kind=self._kind, rows=rows_band(self._rows),
            positive=self._positive(),
            duplicates=share_band(self._same_rows.share),
            patients=self._patients(),
            dropped=self._reading.dropped,
            columns=tuple(c for c in columns if c.name not in self._reading.absent),
            identifiers=self._reading.findings,
            safe_harbor=checklist(
                self._reading.findings, self._reading.kept, self._reading.dropped,
                self._reading.generalised, images=self._kind in ("dicom", "png"),
            ),
            anonymity=None if alike is None else alike.to_report(),
            problems=tuple(problems), warnings=tuple(self._warnings(columns, alike)),
        )  # fmt: skip

    def _column(self, name: str) -> Column:
        missing = self._missing[name] - self._reading.troubled(name)
        said = share_band(missing / self._rows) if self._rows else "none"
        problems = self._reading.problems(name)
        if self._outside[name]:
            problems.append(self._out_of_bounds(name, rows_in_words(self._outside[name])))
        if name == self._task.label and missing > 0:
            problems.append(
                DataInvalid(
                    f"{name}: {rows_in_words(missing)} rows have no outcome",
                    "leave out rows without one",
                )
            )
        return Column(name, said, tuple(problems))

    def _out_of_bounds(self, name: str, rows: str) -> DataInvalid:
        if name == self._task.label:
            return DataInvalid(
                f"{name}: {rows} rows are neither 0 nor 1",
                "code the outcome as 1 for disease and 0 for none, or list its codes in values of "
                f"[columns.{name}]",
            )
        feature = next(f for f in self._task.features if f.name == name)
        codes = "codes " + ", ".join(map(str, feature.levels))
        bounds = f"{feature.low} to {feature.high} {feature.unit}".rstrip()
        return DataInvalid(
            f"{name}: {rows} rows lie outside what is possible",
            f"allowed: {codes if feature.levels else bounds}; check unit and coding, map them in "
            f"[columns.{name}], and leave a missing value empty",
        )

    def _too_few(self) -> list[Problem]:
        if self._rows >= FEWEST_ROWS:
            return []
        return [
            DataInvalid(
                f"the table holds fewer than {FEWEST_ROWS} rows", "bring more patients together"
            )
        ]

    def _repeated(self) -> list[Problem]:
        if self._reading.unnamed:  # whether they are somebody's second rows cannot be told
            return [
                PatientUnnamed(
                    f"{rows_in_words(self._reading.unnamed)} rows do not say whose they are",
                    "fill in that column, or take these rows out of the source",
                )
            ]
        if self._differing:
            return [
                PatientRepeated(
                    f"{rows_in_words(self._differing)} patients have rows whose codes or outcomes "
                    "differ, and these have no mean",
                    'write into the mapping file rows = "first" or rows = "last"',
                )
            ]
        if not self._same_patients.repeated:
            return []
        if not self._task.features:
            several = share_band(self._same_patients.repeated)
            return [
                PatientRepeated(
                    f"patients have several images ({several} of them)",
                    "label one image of each patient",
                )
            ]
        return [
            PatientRepeated(
                f"patients have several rows ({share_band(self._same_patients.repeated)} of them)",
                'write into the mapping file rows = "first", "last" or "mean", by the order of '
                "rows in the source; or take one row for each patient out of it",
            )
        ]

    def _patients(self) -> str:
        if self._reading.patient is None:
            return "no column names them: each row is taken for another patient"
        repeated = share_band(self._same_patients.repeated)
        return f"{repeated} have several rows" if repeated != "none" else "one row each"

    def _positive(self) -> str:
        known = self._outcomes.total()
        if not known or self._outside[self._task.label]:
            return "unknown"
        return share_band(self._outcomes[True] / known)

    def _anonymity(self) -> anonymity.Anonymity | None:
        if self._alike is None or not self._rows:
            return None
        table = self._alike.rename("patients").reset_index()
        return anonymity.measure(
            table, self._quasi, self._task.label, table["patients"].to_numpy().astype(np.int64)
        )

    def _warnings(
        self, columns: Sequence[Column], alike: anonymity.Anonymity | None
    ) -> Iterable[str]:
        if (same := self._same_rows.share) > 0:
            yield (
                f"some rows are the same as another ({share_band(same)}): each patient may have "
                "one row only, or epsilon does not cover a patient"
            )
        yield from (f"{c.name}: no value at all" for c in columns if c.missing == "all")
        if alike is not None and alike.k < REPORTED_K:
            yield (
                f"some patients are like fewer than {REPORTED_K - 1} others in "
                f"{', '.join(self._quasi)}: the policy's fewest_alike makes them so before they "
                "are stored"
            )
        if self._positive() == "unknown":
            return
        fewer = min(self._outcomes[True], self._outcomes[False])
        if fewer == 0:
            yield "all patients have the same outcome: this hospital can judge no model"
        elif fewer < 3 * JUDGEABLE:
            yield (
                f"fewer than {3 * JUDGEABLE} patients of one outcome: too few for its validation "
                "part, so this hospital can judge no model"
            )


def _hashes(images: Sequence[NDArray[np.float32]]) -> NDArray[np.uint64]:
    digests = b"".join(sha256(image.tobytes()).digest()[:8] for image in images)
    return np.frombuffer(digests, np.uint64)


def _outside(values: NDArray[np.float64], feature: Feature) -> NDArray[np.bool_]:
    if feature.levels:
        possible = np.isin(values, feature.levels)
    else:
        possible = (values >= float(feature.low)) & (values <= float(feature.high))
    return np.asarray(~np.isnan(values) & ~possible, dtype=np.bool_)


def rows_band(count: int) -> str:
    """A number of rows as a band: 100 to 199."""
    if count < FEWEST_ROWS:
        return f"fewer than {FEWEST_ROWS}"
    low = 10 ** (len(str(count)) - 1)
    steps = [low, 2 * low, 5 * low, 10 * low]
    first, after = next((a, b) for a, b in pairwise(steps) if count < b)
    return f"{first} to {after - 1}"


def share_band(share: float) -> str:
    """A share of the rows as a band."""
    if share <= 0 or share >= 1:
        return "none" if share <= 0 else "all"
    edges = ((0.05, "under 5 %"), (0.2, "5 to 20 %"), (0.4, "20 to 40 %"), (0.6, "40 to 60 %"))
    more = ((0.8, "60 to 80 %"), (0.95, "80 to 95 %"))
    return next((text for edge, text in edges + more if share < edge), "over 95 %")
