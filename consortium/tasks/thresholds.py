"""A task's limits for the checks on a reveal, as `consortium task calibrate` measured them.

The files hold what was measured beside what was chosen: in `calibration/` those of the tasks that
come with the installation, in a task's own folder that of another. The thresholds stand in the
task's fingerprint: a job's contract holds these and no others.
"""

import json
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from consortium.tasks.errors import TaskUncalibrated
from ledger.records import Thresholds


def calibration_of(task: str, folder: Path | None = None) -> dict[str, Any]:
    """All that was measured when the task was calibrated, as its file holds it.

    Raises:
        TaskUncalibrated: if there is no such file, or it cannot be read.
    """
    place = folder or files("consortium.tasks") / "calibration"
    file = place / ("calibration.json" if folder else f"{task}.json")
    try:
        content: dict[str, Any] = json.loads(file.read_text())
    except (OSError, ValueError):
        raise _uncalibrated(task) from None
    return content


def thresholds_of(task: str, folder: Path | None = None) -> Thresholds:
    """The limits that were chosen. Raises TaskUncalibrated."""
    return _installed(task) if folder is None else _thresholds(task, folder)


@lru_cache
def _installed(task: str) -> Thresholds:
    return _thresholds(task, None)


def _thresholds(task: str, folder: Path | None) -> Thresholds:
    try:
        return Thresholds.model_validate(calibration_of(task, folder)["thresholds"])
    except (KeyError, ValidationError):
        raise _uncalibrated(task) from None


def _uncalibrated(task: str) -> TaskUncalibrated:
    return TaskUncalibrated(
        f"the checks of the task {task} have no limits yet",
        f"measure them: `consortium task calibrate {task} --out FILE`, into the task's folder as "
        "calibration.json",
    )
