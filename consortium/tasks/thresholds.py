"""A task's limits for the checks on a reveal, as `consortium task calibrate` measured them.

The files in `calibration/` hold what was measured beside what was chosen. They are installed with
the task and stand in its fingerprint: a job's contract holds these thresholds and no others.
"""

import json
from functools import lru_cache
from importlib.resources import files
from typing import Any

from ledger.records import Thresholds


@lru_cache
def calibration_of(task: str) -> dict[str, Any]:
    """All that was measured when the task was calibrated, as its file holds it."""
    file = files("consortium.tasks") / "calibration" / f"{task}.json"
    content: dict[str, Any] = json.loads(file.read_text())
    return content


@lru_cache
def thresholds_of(task: str) -> Thresholds:
    """The limits that were chosen."""
    return Thresholds.model_validate(calibration_of(task)["thresholds"])
