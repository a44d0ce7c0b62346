"""A source's rows in the task's columns, as numbers, a chunk at a time.

Deny by default: of a source only what the task or the mapping names becomes a column; all else is
looked at once for identifiers, and dropped. What does not fit is counted while the rows pass, by
column and never by value, and `Reading.problems` says it at the end.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from consortium.tasks.errors import DataInvalid, TaskError
from consortium.tasks.image import IMAGE, Images, raster
from consortium.tasks.schema import Feature
from consortium.tasks.task import Task
from hospital_agent.errors import (
    AgentError,
    DecimalComma,
    LabelsMissing,
    MappingFileInvalid,
    SourceUnsupported,
    UnitUnconvertible,
    UnitUnknown,
    ValueUnmapped,
)
from hospital_agent.mapping import ColumnMapping, Mapping, columns_of, how_to_map
from hospital_agent.sources.grey import HoldsImages
from hospital_agent.sources.source import HoldsMore, Source
from hospital_agent.units import Conversion, amount, conversion
from privacy.deidentification import generalisation, identifiers
from privacy.deidentification.identifiers import Finding, Scan, rows_in_words, shown

Floats = NDArray[np.float64]
Problem = AgentError | TaskError

_PATIENT_COLUMNS: Final = frozenset(
    {"patient", "patientid", "person", "personid", "subject", "subjectid", "mrn"}
)
_COMMA: Final = re.compile(r"[+-]?\d+,\d+(?:[eE][+-]?\d+)?")
_TEXT, _COMMAS, _CODE = "not numbers", "comma", "code"
_NO_UNIT, _UNIT, _OTHER_UNIT = "no unit", "unknown unit", "other unit"
_IMPOSSIBLE = "impossible"


@dataclass(frozen=True)
class Rows:
    """Some rows. numbers: columns of the task, NaN where there is no value. patients: a hash of
    each row's patient, None where the source names none. count: of rows. images: of a task of
    images, in the task's raster."""

    numbers: pd.DataFrame
    patients: NDArray[np.uint64] | None
    count: int
    images: tuple[NDArray[np.float32], ...] = ()

    def frame(self) -> pd.DataFrame:
        """All that is kept of the rows."""
        return (
            self.numbers.join(pd.Series(self.images, name=IMAGE)) if self.images else self.numbers
        )


class Reading:
    """One pass over a source: `chunks`, and then what was found on the way.

    Raises:
        AgentError: if the source cannot be read, or the mapping does not fit it.
    """

    def __init__(self, task: Task, source: Source, mapping: Mapping) -> None:
        self.task = task
        self._source = source
        self._mapping = mapping
        self._columns = source.columns()
        there = set(self._columns)
        self.wanted = columns_of(task)
        self.absent = tuple(n for n in self.wanted if mapping.origin(n) not in there)
        self.present = tuple(n for n in self.wanted if mapping.origin(n) in there)
        self.patient = self._patient_column()
        for name in self.present:
            unit_from = mapping.column(name).unit_from
            if unit_from is not None and unit_from not in there:
                raise MappingFileInvalid(
                    f"the mapping file: columns.{name}.unit_from names no column of the source",
                    "correct it, or give the unit itself with unit",
                )
        if mapping.rows is not None and self.patient is None:
            raise MappingFileInvalid(
                "the mapping file: rows says which row of a patient counts, and nothing names "
                "the patient",
                "add patient with the name of that column",
            )
        self._images = self._all_images()
        self._scan = Scan()
        self.unnamed = 0
        """Rows so far that do not say whose they are, where a column says it of others."""
        self._troubles: Counter[tuple[str, str]] = Counter()
        self._units: dict[tuple[str, str], Conversion | str] = {}

    def chunks(self) -> Iterator[Rows]:
        """All rows. Raises AgentError where the source cannot be read, or a unit of the mapping."""
        for frame in self._source.chunks():
            self._scan.take(self._with_points(frame))
            numbers = {name: self._numbers(name, frame) for name in self.present}
            patients = None
            if self.patient is not None:
                named = frame[self.patient].to_numpy(dtype=object)
                unnamed = pd.isna(named)
                self.unnamed += int(unnamed.sum())
                patients = pd.util.hash_array(np.where(unnamed, "", named), categorize=False)
            images = tuple(islice(self._images, len(frame)))
            yield Rows(pd.DataFrame(numbers), patients, len(frame), images)
        if isinstance(self._source, HoldsMore):
            for frame in self._source.others():
                self._scan.take(frame)

    def _all_images(self) -> Iterator[NDArray[np.float32]]:
        """The rows' images in the task's raster; none of a task of tables."""
        inputs = self.task.inputs
        if not isinstance(inputs, Images):
            return iter(())
        if not isinstance(self._source, HoldsImages):
            raise SourceUnsupported(
                f"the task {self.task.name} takes images, and this source has none",
                "give a folder of DICOM or PNG images with --source, and a table with --labels",
            )
        if self._mapping.rows is not None:
            raise MappingFileInvalid(
                "the mapping file: rows cannot choose among a patient's images",
                "label one image of each patient",
            )
        return self._rasters(self._source, inputs.side)

    def _rasters(self, source: HoldsImages, side: int) -> Iterator[NDArray[np.float32]]:
        for row, pixels in enumerate(source.images(), start=1):
            try:
                yield raster(pixels, side)
            except DataInvalid as error:
                raise DataInvalid(f"row {row}: {error.what}", error.resolve) from None

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What looks like an identifier, in any column of the source."""
        return self._scan.findings(self._names)

    @cached_property
    def kept(self) -> tuple[str, ...]:
        """The source's columns that stay, by names that may be shown."""
        return tuple(self._shown[name] for name in self._columns if name in self._used)

    @cached_property
    def dropped(self) -> tuple[str, ...]:
        """The source's columns that do not stay, by names that may be shown; see `_names`."""
        if not self.present:
            return ()
        read = self._used | {self._unit_column(name) for name in self.present}
        return tuple(self._shown[name] for name in self._columns if name not in read)

    @cached_property
    def generalised(self) -> tuple[str, ...]:
        """The source's columns that become coarser: ages."""
        ages = [f.name for f in self.task.features if f.is_age and f.name in self.present]
        return tuple(self._shown[self._mapping.origin(name)] for name in ages)

    def residual(self) -> tuple[Finding, ...]:
        """Findings in what stays, as it stays.

        Codes that the mapping lists pass as what it says, and ages become coarser.
        """
        coded = {
            self._shown[self._mapping.origin(name)]
            for name in self.present
            if self._mapping.column(name).coded
        }
        return tuple(
            finding
            for finding in self.findings
            if finding.column in {*self.kept} - coded
            and not (finding.kind == identifiers.AGE and finding.column in self.generalised)
        )

    def troubled(self, name: str) -> int:
        """In how many rows a column held something that became no number."""
        return sum(count for (column, _), count in self._troubles.items() if column == name)

    def problems(self, name: str) -> list[Problem]:
        """What is wrong with a column, apart from numbers out of bounds."""
        if name in self.absent:
            how = how_to_map(name, self._source.kind)
            if name == self.task.label:
                return [LabelsMissing(f"{name}: the column with the outcome is missing", how)]
            return [DataInvalid(f"{name}: the column is missing", how)]
        found = [(kind, n) for (column, kind), n in self._troubles.items() if column == name]
        return [self._problem(name, kind, rows_in_words(count)) for kind, count in found]

    @cached_property
    def _names(self) -> list[str]:
        """What to call the source's columns: by place if none is the task's.

        Then there was perhaps no header, and the first patient's values stand there.
        """
        if self.present:
            return shown(self._columns)
        return [f"column {place}" for place in range(1, len(self._columns) + 1)]

    @cached_property
    def _shown(self) -> dict[str, str]:
        return dict(zip(self._columns, self._names, strict=True))

    @cached_property
    def _used(self) -> set[str]:
        return {self._mapping.origin(name) for name in self.present}

    def _patient_column(self) -> str | None:
        named = self._mapping.patient
        if named is not None:
            if named not in self._columns:
                raise MappingFileInvalid(
                    "the mapping file: patient names no column of the source",
                    "correct it, or leave it out if each row is another patient",
                )
            return named
        plain = {re.sub(r"[^a-z]", "", name.lower()): name for name in self._columns}
        return next((plain[name] for name in sorted(_PATIENT_COLUMNS & plain.keys())), None)

    def _with_points(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The frame with the decimal points that its numbers are meant with, as the scan needs."""
        if self._mapping.source.decimal == ".":
            return frame
        names = [self._mapping.origin(name) for name in self.present]
        return frame.assign(**{n: frame[n].map(_with_point, na_action="ignore") for n in names})

    def _numbers(self, name: str, frame: pd.DataFrame) -> Floats:
        column = self._mapping.column(name)
        cells = frame[self._mapping.origin(name)]
        cells = cells.mask(cells.isin(column.missing))
        if column.values is not None:
            numbers = cells.map(column.values).to_numpy(dtype=np.float64)
            self._note(name, _CODE, np.isnan(numbers) & cells.notna().to_numpy())
            return np.asarray(numbers, dtype=np.float64)
        numbers = self._converted(name, column, self._parsed(name, cells), frame)
        if column.above and column.low and column.high:
            low, limit, high = (
                amount(name, text, self._target(name))
                for text in (column.low, column.above, column.high)
            )
            self._note(name, _IMPOSSIBLE, (numbers < low) | (numbers > high))
            numbers = np.where(np.isnan(numbers), numbers, np.asarray(numbers > limit, np.float64))
        feature = self._features.get(name)
        if feature is not None and feature.is_age:
            numbers = generalisation.ages(pd.Series(numbers)).to_numpy(dtype=np.float64)
        return np.asarray(numbers, dtype=np.float64)

    def _parsed(self, name: str, cells: pd.Series) -> Floats:
        there = cells.notna().to_numpy()
        if self._mapping.source.decimal == ",":
            # A point would be a thousands' sign there: such a number is refused, not guessed at.
            signs = str.maketrans({",": ".", ".": "?"})
            cells = cells.map(lambda text: text.translate(signs), na_action="ignore")
        numbers = pd.to_numeric(cells, errors="coerce").to_numpy(dtype=np.float64)
        bad = np.isnan(numbers) & there
        if bad.any():
            commas = np.zeros(len(cells), dtype=bool)
            commas[bad] = [_COMMA.fullmatch(text) is not None for text in cells[bad]]
            self._note(name, _COMMAS, commas)
            self._note(name, _TEXT, bad & ~commas)
        return numbers

    def _converted(
        self, name: str, column: ColumnMapping, numbers: Floats, frame: pd.DataFrame
    ) -> Floats:
        to = self._target(name)
        unit_from = self._unit_column(name)
        said = Conversion()
        if column.unit is not None:
            said = conversion(name, column.unit, to, column.molar_mass)
        if unit_from is None:
            return said.apply(numbers)
        converted = np.full(len(numbers), np.nan)
        units = frame[unit_from].to_numpy(dtype=object)
        if column.unit is not None:  # only for those that do not say their own
            units = np.where(pd.isna(units), column.unit, units)
        there = ~np.isnan(numbers)
        if to:
            self._note(name, _NO_UNIT, there & pd.isna(units))
        else:
            converted[pd.isna(units)] = numbers[pd.isna(units)]
        for unit in set(units[there & ~pd.isna(units)]):
            rows = there & (units == unit)
            step = self._step(name, unit, to, column)
            if isinstance(step, Conversion):
                converted[rows] = step.apply(numbers[rows])
            else:
                self._note(name, step, rows)
        return converted

    def _unit_column(self, name: str) -> str | None:
        """Where the unit of each value stands; OMOP and FHIR have it beside the value."""
        beside = f"{name}.unit"
        named = self._mapping.column(name).unit_from
        return named or (beside if beside in self._columns else None)

    def _step(self, name: str, unit: str, to: str, column: ColumnMapping) -> Conversion | str:
        """How a unit that stands in a row is converted, or why it is not."""
        if (name, unit) not in self._units:
            try:
                step: Conversion | str = conversion(name, unit, to, column.molar_mass)
            except UnitUnknown:
                step = _UNIT
            except UnitUnconvertible:
                step = _OTHER_UNIT
            if len(self._units) > 1_000:  # a column of anything but units
                return step
            self._units[name, unit] = step
        return self._units[name, unit]

    def _target(self, name: str) -> str:
        """The task's unit, "" of a code; a threshold's own where the column holds its outcome."""
        column = self._mapping.column(name)
        if column.above is not None:
            return column.above.strip().partition(" ")[2].strip()
        return "" if name in _coded(self.task) else self._features[name].unit

    @cached_property
    def _features(self) -> dict[str, Feature]:
        return {feature.name: feature for feature in self.task.features}

    def _note(self, name: str, trouble: str, rows: NDArray[np.bool_]) -> None:
        if count := int(rows.sum()):
            self._troubles[name, trouble] += count

    def _problem(self, name: str, trouble: str, rows: str) -> Problem:
        section = f"[columns.{name}]"
        if trouble == _CODE:
            return ValueUnmapped(
                f"{name}: {rows} rows hold a code that values does not list",
                f"list every code that there is in values of {section}; letters' case counts",
            )
        if trouble == _COMMAS:
            return DecimalComma(
                f"{name}: {rows} rows have a comma in their number",
                'if 5,2 is 5.2, add to the mapping file, under [source]: decimal = ","; if commas '
                "separate thousands, export numbers without them",
            )
        if trouble == _NO_UNIT:
            return UnitUnknown(
                f"{name}: {rows} rows have a value and no unit",
                f"if all of them are in one unit, name it with unit in {section}",
            )
        if trouble == _UNIT:
            return UnitUnknown(
                f"{name}: {rows} rows have a unit that is not known",
                "write units in UCUM, like mmol/L, mg/dL, mm[Hg], /min",
            )
        if trouble == _OTHER_UNIT:
            return UnitUnconvertible(
                f"{name}: {rows} rows have a unit that does not convert to "
                f"{self._target(name) or 'a plain number'}",
                f"if it is amount of substance, add molar_mass to {section}; else leave these out",
            )
        if trouble == _IMPOSSIBLE:
            return DataInvalid(
                f"{name}: {rows} rows are not from low to high",
                "empty what means that a value is missing in the source, and correct the rest; or "
                f"correct low and high in {section}",
            )
        return DataInvalid(
            f"{name}: {rows} rows are not numbers",
            "write numbers with a decimal point, and leave a missing value empty; if they are "
            f"codes, list them in values of {section}",
        )


def _with_point(text: str) -> str:
    return text.replace(",", ".") if _COMMA.fullmatch(text) else text


def reduced(rows: Sequence[Rows], rule: str, task: Task) -> tuple[pd.DataFrame, NDArray[np.bool_]]:
    """One row for each patient, by the mapping's rule, and where patients' own codes differ.

    "first" and "last" go by the order of the source; "mean" averages what is measured. Codes and
    outcomes have no mean: a patient in whose rows they differ is marked.
    """
    numbers = pd.concat([some.numbers for some in rows], ignore_index=True)
    patients = np.concatenate([some.patients for some in rows if some.patients is not None])
    groups = numbers.groupby(patients, sort=False)
    if rule == "mean":
        one = groups.mean()
        coded = [name for name in numbers if str(name) in _coded(task)]
        differing = (groups[coded].nunique() > 1).any(axis=1).to_numpy()
        ages = [feature.name for feature in task.features if feature.is_age and feature.name in one]
        one[ages] = np.floor(one[ages])
        return one.reset_index(drop=True), differing
    one = groups.head(1) if rule == "first" else groups.tail(1)
    return one.reset_index(drop=True), np.zeros(len(one), dtype=bool)


def _coded(task: Task) -> set[str]:
    codes = {f.name for f in task.features if f.levels or (f.low == 0 and f.high == 1)}
    return codes | {task.label}
