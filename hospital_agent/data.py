"""A hospital's own table for a task: read, checked, split and stored as a cohort, all on site.

A table holds one row for each patient. Nothing here, no message, report or error, holds a value of
a patient; reports say how many in bands, so that one may be shown to somebody else.

Parts, drawn per class by public shares (`consortium.tasks.task.draw`): 20 % for the test, 20 % of
the rest for validation, what is left, 64 %, for training.

The declared number of patients stands in public contracts and is covered by no epsilon. So it is
never taken from the table: the data owner gives it, from what is public about the hospital, and it
is rounded down to a multiple of 5.
"""

import csv
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd

from consortium import tasks
from consortium.tasks.errors import DataInvalid
from consortium.tasks.schema import check_columns
from consortium.tasks.task import JUDGEABLE, Split, Task, draw
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.errors import (
    CohortExists,
    CohortMissing,
    CohortNameInvalid,
    DeclaredPatientsInvalid,
    SourceUnsupported,
    TableUnreadable,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy, allow_task

TEST_SHARE: Final = 0.20
VALIDATION_SHARE: Final = 0.20
FEWEST_ROWS: Final = 10
_ROUNDED_TO: Final = 5
_MISSING: Final = ("", "na", "nan", "null")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")


@dataclass(frozen=True)
class Column:
    """One column of the schema in a table; missing and wrong are shares in words."""

    name: str
    missing: str
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True)
class TableReport:
    """What a table is good for. usable: it can be added; warnings do not stand against that."""

    task: str
    rows: str
    positive: str
    duplicates: str
    dropped: tuple[str, ...]
    columns: tuple[Column, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether the table fits the task."""
        return not self.problems


@dataclass(frozen=True)
class Added:
    """A cohort that was added: what people are told."""

    cohort: Cohort
    report: TableReport
    policy: Policy


# reading


def read_table(source: Path) -> pd.DataFrame:
    """A table from a file, every cell a text, or None where it is missing.

    Raises:
        SourceUnsupported: for anything but CSV.
        TableUnreadable: if it is no table; names line and column numbers only.
    """
    if source.suffix.lower() != ".csv":
        raise SourceUnsupported(
            f"data can be read from .csv files only, not from {source.suffix[:20] or 'this'!r}",
            "export the table as CSV in UTF-8 with a header; other sources come later",
        )
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file, strict=True)
            header = [name.strip() for name in next(lines, [])]
            rows = [_cells(line, header, lines.line_num) for line in lines if line]
    except OSError as error:
        raise TableUnreadable(
            f"the file cannot be read ({error.strerror})", "check the path and its owner"
        ) from None
    except UnicodeDecodeError:
        raise TableUnreadable("the file is not UTF-8", "export it again as UTF-8") from None
    except csv.Error:
        raise TableUnreadable(
            "the file is not well-formed CSV", "quote a text that holds a comma or a quote"
        ) from None
    if len(header) < 2:
        raise TableUnreadable(
            "the first line names fewer than two columns",
            "begin with a header, and separate columns with commas, not with ; or tabs",
        )
    if twice := sorted({name for name in header if name and header.count(name) > 1}):
        # A header that is data must not be shown: only names that are some task's.
        known = {f.name for task in tasks.TASKS.values() for f in task.features}
        named = ", ".join(name for name in twice if name in known) or "a column"
        raise TableUnreadable(f"the header names {named} twice", "keep one of each")
    return pd.DataFrame(rows, columns=header, dtype=object)


def _cells(line: list[str], header: Sequence[str], number: int) -> list[str | None]:
    if len(line) != len(header):
        raise TableUnreadable(
            f"line {number} has {len(line)} columns, the header {len(header)}",
            "export it again: a line that is cut off or shifted would mix up columns",
        )
    return [None if (text := cell.strip()).lower() in _MISSING else text for cell in line]


# checking


def examine(task: Task, frame: pd.DataFrame) -> TableReport:
    """All that is wrong with a table, and what it is good for."""
    wanted = [*(feature.name for feature in task.features), task.label]
    there = [name for name in wanted if name in frame.columns]
    absent = [name for name in wanted if name not in frame.columns]
    problems = [f"{name}: the column is missing; name it so in the header" for name in absent]
    if len(frame) < FEWEST_ROWS:
        problems.append(f"the table holds fewer than {FEWEST_ROWS} rows")
    columns = []
    for name in there:
        column = _examine(task, name, frame[[name]])
        columns.append(column)
        if column.problem:
            problems.append(f"{column.problem}; {column.fix}")
    positives = _outcomes(task, frame)
    same = int(frame[there].duplicated().sum()) if there else 0
    return TableReport(
        task=task.name, rows=rows_band(len(frame)),
        positive="unknown" if positives is None else share_band(positives.mean()),
        duplicates=share_band(same / max(1, len(frame))),
        dropped=_dropped(frame, wanted), columns=tuple(columns),
        problems=tuple(problems), warnings=tuple(_warnings(frame, columns, positives, same)),
    )  # fmt: skip


def _examine(task: Task, name: str, column: pd.DataFrame) -> Column:
    missing = share_band(float(column[name].isna().mean())) if len(column) else "none"
    if not len(column):
        return Column(name, missing)
    try:
        features = [feature for feature in task.features if feature.name == name]
        check_columns(column, features, None if features else name)
    except DataInvalid as error:
        return Column(name, missing, error.what, error.resolve)
    return Column(name, missing)


def _outcomes(task: Task, frame: pd.DataFrame) -> np.ndarray | None:
    if task.label not in frame.columns or not len(frame):
        return None
    values = pd.to_numeric(frame[task.label], errors="coerce").to_numpy(dtype=np.float64)
    return values == 1 if np.isin(values, (0.0, 1.0)).all() else None


def _dropped(frame: pd.DataFrame, wanted: Sequence[str]) -> tuple[str, ...]:
    """Names of columns outside the schema; without a header they would be a patient's values."""
    if not any(name in frame.columns for name in wanted):
        return ()
    return tuple(name[:40] or "(no name)" for name in frame.columns if name not in wanted)


def _warnings(
    frame: pd.DataFrame, columns: Sequence[Column], positives: np.ndarray | None, same: int
) -> list[str]:
    found = []
    if same:
        found.append(
            f"some rows are the same as another ({share_band(same / len(frame))}): each patient "
            "may have one row only, or epsilon does not cover a patient"
        )
    found += [f"{c.name}: no value at all" for c in columns if c.missing == "all"]
    if positives is not None:
        counts = (int(positives.sum()), int((~positives).sum()))
        if min(counts) == 0:
            found.append("all patients have the same outcome: this hospital can judge no model")
        elif min(counts) < 3 * JUDGEABLE:
            found.append(
                f"fewer than {3 * JUDGEABLE} patients of one outcome: too few for its validation "
                "part, so this hospital can judge no model"
            )
    return found


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


# adding


def add_cohort(
    folder: HospitalFolder, name: str, task_name: str, source: Path, declared: int | None,
    seed: int | None = None,
) -> Added:  # fmt: skip
    """Stores a table as this hospital's cohort for a task, and allows that task.

    Raises:
        TaskError: if there is no such task, or the table does not fit it.
        AgentError: if the file, the name or the declared number cannot be used, or there is a
            cohort already.
        PrivacyError: if the policy's limit is none.
    """
    task = tasks.get(task_name)
    check_name(folder, name, task.name)
    public = round_declared(declared)
    frame = read_table(source)
    report = examine(task, frame)
    if report.problems:
        more = len(report.problems) - 1
        raise DataInvalid(
            report.problems[0] + (f"; and {more} more" if more else ""),
            f"`hospital-agent data check --source {source} --task {task.name}` shows everything",
        )
    drawn = secrets.randbits(31) if seed is None else seed
    split = split_table(task, frame, drawn)
    if not len(split.train) / 2 <= public <= len(split.train) * 2:
        far = "declared_patients is less than half or more than twice the training part: it would "
        report = replace(report, warnings=(*report.warnings, far + "learn badly"))
    # First: a task that is allowed and has no patients yet harms nobody, and nothing is half done.
    policy = allow_task(folder, task.name)
    cohort = Cohort.add(
        folder, task.name, split, public,
        Decimal(policy.lifetime_epsilon), Decimal(policy.delta), name, drawn,
    )  # fmt: skip
    return Added(cohort, report, policy)


def check_name(folder: HospitalFolder, name: str, task: str) -> None:
    """Checks that a new cohort may be called so, and that its task has none.

    Raises:
        CohortNameInvalid, CohortExists: if not.
    """
    if not _NAME.fullmatch(name):
        raise CohortNameInvalid(
            "the name cannot be used",
            "up to 60 letters, digits, spaces and . _ -, the first a letter or digit",
        )
    for cohort in Cohort.all(folder):
        if cohort.task == task:
            raise CohortExists(
                f"there are patients for the task {task} already: {cohort.name}",
                "a task has one cohort here, because what it has spent stays spent. Keep it; only "
                f"for entirely other patients move {cohort.folder} away first, and keep it",
            )
        if cohort.name == name:
            raise CohortExists(f"a cohort is called {name} already", "choose another name")


def round_declared(declared: int | None) -> int:
    """The number to declare: rounded down to a multiple of 5.

    Raises:
        DeclaredPatientsInvalid: if there is none, or it is below 5.
    """
    if declared is None or declared < _ROUNDED_TO:
        raise DeclaredPatientsInvalid(
            "the number of training patients to declare is "
            + ("missing" if declared is None else f"below {_ROUNDED_TO}"),
            "give --declared-patients: a round number near the size of the training part (64 % of "
            "the table). It is public and covered by no epsilon, so take it from what is known of "
            "your hospital, and do not count the table",
        )
    return declared // _ROUNDED_TO * _ROUNDED_TO


def split_table(task: Task, frame: pd.DataFrame, seed: int) -> Split:
    """The three parts, drawn within each class; only the schema's columns, as numbers."""
    wanted = [*(feature.name for feature in task.features), task.label]
    numbers = frame[wanted].apply(pd.to_numeric)
    numbers[task.label] = numbers[task.label].astype(int)
    test = draw(numbers[task.label].tolist(), TEST_SHARE, seed)
    rest = numbers[~test]
    validation = draw(rest[task.label].tolist(), VALIDATION_SHARE, seed)
    return Split(rest[~validation], rest[validation], numbers[test])


# what is there


def stored_table(folder: HospitalFolder, name: str) -> tuple[Cohort, pd.DataFrame]:
    """A cohort by its name here, its parts in one table.

    Raises:
        CohortMissing: if none is called so.
    """
    for cohort in Cohort.all(folder):
        if cohort.name == name:
            return cohort, pd.concat([cohort.frame(part) for part in PARTS])
    raise CohortMissing("no cohort here is called so", "see `hospital-agent data list`")
