"""The tasks that a job may train, by name."""

from typing import Final

from consortium.tasks.breast_cancer import BREAST_CANCER
from consortium.tasks.errors import TaskUnknown
from consortium.tasks.heart_disease import HEART_DISEASE
from consortium.tasks.task import Task

TASKS: Final = {task.name: task for task in (BREAST_CANCER, HEART_DISEASE)}


def get(name: str) -> Task:
    """The task of this name. Raises TaskUnknown, which lists those there are."""
    if name not in TASKS:
        raise TaskUnknown(
            f"there is no task {name!r}", f"choose one of: {', '.join(sorted(TASKS))}"
        )
    return TASKS[name]
