"""The demo's options, checked before any work starts and before anything heavy is imported."""

import math
import os
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from consortium.errors import CheatUnknown, DatasetUnknown, OptionInvalid, ReportUnwritable
from consortium.lab.catalogue import DEMO_CHEATS
from consortium.portal import check_parts, check_port

if TYPE_CHECKING:
    from consortium.tasks.task import Task

MOST_ROUNDS = 1000
DEFAULT_LIFETIME_EPSILON = "3"
MOST_HOSPITALS = 64
FEWEST_WITH_A_CHEAT = 4


@dataclass(frozen=True)
class DemoOptions:
    """What a person asks of the demo."""

    dataset: str
    data_dir: Path | None
    hospitals: int | None
    rounds: int
    epsilon: Decimal
    lifetime_epsilon: Decimal | None
    delta: Decimal
    seed: int
    home: Path
    cheat: str | None
    report: Path | None
    compare_nonprivate: bool
    portal: int | None = None


def check_options(
    *, dataset: str, data_dir: Path | None, hospitals: int | None, rounds: int, epsilon: str,
    lifetime_epsilon: str | None, delta: str | None, seed: int, home: Path, cheat: str | None,
    report: Path | None, compare_nonprivate: bool, portal: int | None = None,
) -> DemoOptions:  # fmt: skip
    """The options, if every one of them can be used. ``portal``: the port of a portal beside it.

    Raises:
        ConsortiumError: naming the first that cannot, and what would be allowed.
    """
    task = task_called(dataset)
    if cheat is not None and cheat not in DEMO_CHEATS:
        raise CheatUnknown(
            f"there is no cheat {cheat[:60]!r}", f"choose one of: {', '.join(DEMO_CHEATS)}"
        )
    check_data_dir(task, data_dir)
    between("--rounds", rounds, 1, MOST_ROUNDS)
    if hospitals is not None:
        between("--hospitals", hospitals, 1, MOST_HOSPITALS)
        if cheat is not None and hospitals < FEWEST_WITH_A_CHEAT:
            raise OptionInvalid(
                f"--cheat with {hospitals} hospitals: none of so few may lie",
                f"take {FEWEST_WITH_A_CHEAT} hospitals or more: of these one may",
            )
    between("--seed", seed, 0, 2**31 - 1)
    job = positive("--epsilon", epsilon)
    lifetime = None
    if lifetime_epsilon is not None:
        lifetime = positive("--lifetime-epsilon", lifetime_epsilon)
    elif not (home / "home.json").exists():  # else the hospitals' own policies say
        lifetime = Decimal(DEFAULT_LIFETIME_EPSILON)
    if lifetime is not None and job > lifetime:
        raise OptionInvalid(
            f"--epsilon is {job}, above the lifetime limit of {lifetime}",
            f"ask for at most {lifetime}, or raise --lifetime-epsilon",
        )
    chance = chance_of(delta, task)
    if report is not None:
        _check_writable(report)
    if portal is not None:
        check_parts()
        check_port(portal)
    return DemoOptions(
        dataset, data_dir, hospitals, rounds, job, lifetime, chance, seed, home, cheat, report,
        compare_nonprivate, portal,
    )  # fmt: skip


def task_called(name: str) -> "Task":
    """The task of a demo or of the lab.

    Raises:
        DatasetUnknown: if there is none, naming those there are.
    """
    from consortium import tasks  # half a second: not before it is needed

    if name not in tasks.names():
        raise DatasetUnknown(
            f"there is no task {name[:60]!r}", f"choose one of: {', '.join(tasks.names())}"
        )
    return tasks.get(name)


def check_data_dir(task: "Task", data_dir: Path | None) -> None:
    """Raises OptionInvalid for a folder that would not be read."""
    if data_dir is not None and not task.needs_files:
        raise OptionInvalid(
            f"--data-dir is given, but the data of {task.name} needs no files",
            "leave --data-dir out",
        )


def chance_of(delta: str | None, task: "Task") -> Decimal:
    """``--delta``, or the task's own.

    Raises:
        OptionInvalid: if it is none that protects anybody.
    """
    chance = positive("--delta", delta if delta is not None else str(task.delta))
    if chance >= Decimal("0.1"):
        raise OptionInvalid(
            f"--delta is {chance}; allowed: above 0 and below 0.1",
            "take at most one over the number of patients, such as 0.001",
        )
    return chance


def between(name: str, value: int, low: int, high: int) -> None:
    """Raises OptionInvalid unless an option's number lies there."""
    if not low <= value <= high:
        raise OptionInvalid(
            f"{name} is {value}; allowed: {low} to {high}", f"choose a number from {low} to {high}"
        )


def positive(name: str, text: str) -> Decimal:
    """An option's number above 0. Raises OptionInvalid."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite() or not Decimal("1e-12") <= value <= 1000:
        raise OptionInvalid(
            f"{name} is {text[:40]}; allowed: a finite number above 0",
            "epsilon 1 with delta 0.00001 is a sound start",
        )
    assert math.isfinite(float(value))
    return value.normalize()


def _check_writable(report: Path) -> None:
    folder = report.resolve().parent
    writable = folder.is_dir() and os.access(folder, os.W_OK)
    if report.is_dir() or not writable or (report.exists() and not os.access(report, os.W_OK)):
        raise ReportUnwritable(
            f"the report cannot be written to {report}",
            "name a file in a folder that is there and that you may write to",
        )
