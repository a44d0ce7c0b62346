"""A hospital's patients for a task: read from where they are, checked, split and stored on site.

A stored table holds one row for each patient. Nothing here, no message, report or error, holds a
value of a patient; reports say how many in bands, so that one may be shown to somebody else.

Parts, drawn per class by public shares (`consortium.tasks.task.draw`): 20 % for the test, 20 % of
the rest for validation, what is left, 64 %, for training.

The declared number of patients stands in public contracts and is covered by no epsilon. So it is
never taken from the table: the data owner gives it, from what is public about the hospital, and it
is rounded down to a multiple of 5.
"""

import re
import secrets
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import pandas as pd

from consortium import tasks
from consortium.tasks.task import Split, Task, divided
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.data_report import Examination, TableReport, share_band
from hospital_agent.errors import (
    CohortExists,
    CohortMissing,
    CohortNameInvalid,
    DeclaredPatientsInvalid,
    PolicyRefused,
)
from hospital_agent.folder import HospitalFolder
from hospital_agent.mapping import Mapping, read_mapping
from hospital_agent.policy import Policy, allow_task
from hospital_agent.sources.frame import FrameSource
from hospital_agent.sources.opening import Address, open_source
from hospital_agent.sources.source import Source
from hospital_agent.table import Reading, Rows, reduced
from privacy.deidentification.anonymity import Generalised, enforce
from privacy.deidentification.identifiers import AGE_CATEGORY

TEST_SHARE: Final = 0.20
VALIDATION_SHARE: Final = 0.20
_ROUNDED_TO: Final = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,59}")


@dataclass(frozen=True)
class Added:
    """A cohort that was added: what people are told."""

    cohort: Cohort
    report: TableReport
    policy: Policy


def check(task_name: str, address: Address, mapping_file: Path | None = None) -> TableReport:
    """All that is wrong with a source for a task, and what it is good for. Stores nothing.

    Memory does not grow with the rows, unless the mapping makes one row of several.

    Raises:
        TaskError: if there is no such task.
        AgentError: if the source or the mapping cannot be read.
    """
    task = tasks.get(task_name)
    mapping = read_mapping(mapping_file, task)
    return examine(task, open_source(address, mapping), mapping)


def examine(task: Task, source: Source, mapping: Mapping | None = None) -> TableReport:
    """The report on a source (see `check`)."""
    return _read(task, source, mapping or Mapping(), keep=False)[0]


def _read(
    task: Task, source: Source, mapping: Mapping, *, keep: bool
) -> tuple[TableReport, pd.DataFrame]:
    """The report, and with ``keep`` the task's columns of all patients."""
    reading = Reading(task, source, mapping)
    examination = Examination(task, reading, source.kind)
    kept: list[Rows] = []
    for rows in reading.chunks():
        if mapping.rows is None:
            examination.take(rows)
        if mapping.rows in (None, "mean"):  # in a mean, a 0 or 999 for "missing" would not show
            examination.take_bounds(rows.numbers)
        if keep or mapping.rows is not None:
            kept.append(rows)
    if mapping.rows is not None:
        numbers, differing = reduced(kept, mapping.rows, task)
        kept = [Rows(numbers, None, len(numbers))]
        examination.take(kept[0], differing=int(differing.sum()))
        if mapping.rows != "mean":
            examination.take_bounds(numbers)
    frames = [rows.frame() for rows in kept] if keep else [pd.DataFrame()]
    return examination.report(), pd.concat(frames, ignore_index=True)


# adding


def add_cohort(
    folder: HospitalFolder, name: str, task_name: str, address: Address, declared: int | None,
    seed: int | None = None, mapping_file: Path | None = None,
) -> Added:  # fmt: skip
    """Stores a source's patients as this hospital's cohort for a task, and allows that task.

    Raises:
        TaskError: if there is no such task, or the table does not fit it.
        AgentError: if the source, the mapping, the name or the declared number cannot be used, the
            policy refuses, or there is a cohort already.
        PrivacyError: if what would stay holds identifiers, patients are not as alike as the policy
            says, or its limit is none.
    """
    task = tasks.get(task_name)
    check_name(folder, name, task.name)
    public = round_declared(declared)
    mapping = read_mapping(mapping_file, task)
    report, frame = _read(task, open_source(address, mapping), mapping, keep=True)
    if report.problems:
        first, more = report.problems[0], len(report.problems) - 1
        raise type(first)(
            first.what + (f"; and {more} more" if more else ""),
            f"{first.resolve}. `hospital-agent data check` with the same options shows everything",
        )
    policy = Policy.read(folder.path / "policy.json")
    warnings = list(report.warnings)
    if policy.fewest_alike and not task.features:
        warnings.append("the policy's fewest_alike says nothing of images: they stay as they are")
    if policy.fewest_alike and task.features:
        made = made_alike(task, frame, policy)
        frame = made.frame
        warnings.append(_said(made, policy))
    drawn = secrets.randbits(31) if seed is None else seed
    split = split_table(task, frame, drawn)
    if split.train[task.label].nunique() < 2:
        if policy.one_class == "refused":
            raise PolicyRefused(
                "one_class: all patients of the training part have the same outcome",
                "the data owner may run `hospital-agent policy set --one-class allowed`",
            )
        warnings.append("the training part holds one outcome only; the policy allows that")
    if not len(split.train) / 2 <= public <= len(split.train) * 2:
        far = "declared_patients is less than half or more than twice the training part: it would "
        warnings.append(far + "learn badly")
    # First: a task that is allowed and has no patients yet harms nobody, and nothing is half done.
    policy = allow_task(folder, task.name)
    cohort = Cohort.add(
        folder, task.name, split, public,
        Decimal(policy.lifetime_epsilon), Decimal(policy.delta), name, drawn,
    )  # fmt: skip
    return Added(cohort, replace(report, warnings=tuple(warnings)), policy)


def made_alike(task: Task, frame: pd.DataFrame, policy: Policy) -> Generalised:
    """The table in which each patient is like as many others as the policy says.

    Raises:
        KNotReached: if that cannot be.
    """
    ladders = {
        feature.name: feature.quasi_identifier
        for feature in task.features
        if feature.quasi_identifier is not None
    }
    oldest = {feature.name: AGE_CATEGORY for feature in task.features if feature.is_age}
    return enforce(
        frame, ladders, task.label, policy.fewest_alike, policy.left_out_percent / 100, oldest
    )


def _said(made: Generalised, policy: Policy) -> str:
    widths = ", ".join(
        f"{name} " + ("left out" if width is None else f"by {width:g}" if width else "as it is")
        for name, width in made.widths.items()
    )
    return (
        f"each patient is like at least {policy.fewest_alike - 1} others: {widths}; rows left out: "
        f"{share_band(made.left_out)}. These inputs are what models are trained on"
    )


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
    """The three parts, drawn within each class; only the task's columns, as numbers or images."""
    wanted = [*(feature.name for feature in task.features), task.label]
    numbers = frame[wanted].apply(pd.to_numeric)
    for name in set(task.inputs.columns) - set(wanted):
        numbers[name] = frame[name]
    numbers[task.label] = numbers[task.label].astype(int)
    return divided(numbers, task.label, TEST_SHARE, VALIDATION_SHARE, seed)


# what is there


def check_stored(folder: HospitalFolder, name: str) -> TableReport:
    """The report on a cohort that is stored here, by its name.

    Raises:
        CohortMissing: if none is called so.
    """
    for cohort in Cohort.all(folder):
        if cohort.name == name:
            frame = pd.concat([cohort.frame(part) for part in PARTS], ignore_index=True)
            return examine(tasks.get(cohort.task), FrameSource(frame))
    raise CohortMissing("no cohort here is called so", "see `hospital-agent data list`")
