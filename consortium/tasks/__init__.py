"""The tasks that a job may train, by name: those of the installation, and those of the house."""

from typing import Final

from consortium.tasks.breast_cancer import BREAST_CANCER
from consortium.tasks.errors import TaskUnknown
from consortium.tasks.folders import folder_of, load_task, task_folders
from consortium.tasks.heart_disease import HEART_DISEASE
from consortium.tasks.lesion_image import LESION_IMAGE
from consortium.tasks.task import Task

TASKS: Final = {task.name: task for task in (BREAST_CANCER, HEART_DISEASE, LESION_IMAGE)}
"""Those that come with the installation."""


def names() -> list[str]:
    """Of all tasks, in order; a folder cannot take the name of one that is installed."""
    return sorted({*TASKS, *(folder.name for folder in task_folders())})


def get(name: str) -> Task:
    """The task of this name. Raises TaskUnknown, which lists those there are, and TaskInvalid."""
    if name in TASKS:
        return TASKS[name]
    folder = folder_of(name)
    if folder is None:
        raise TaskUnknown(f"there is no task {name[:60]!r}", f"choose one of: {', '.join(names())}")
    return load_task(folder)
