"""Tasks that do not come with the installation: a folder each, in a place that the house names.

The environment variable `MEDPOLE_TASKS` names folders of tasks (several, as in PATH). A task's
folder is called as the task, and holds `task.py`, which defines `TASK`, and `calibration.json`.

`task.py` is code, and runs as whoever starts the command or the agent. So a hospital installs a
task like any other software: its people read it and put it there; nothing that arrives over the
network is ever written there. Its SHA-256 is part of the task's fingerprint, so all members of a
job run the same one.
"""

import hashlib
import importlib.util
import os
import sys
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from consortium.tasks.errors import TaskInvalid
from consortium.tasks.task import Task

VARIABLE: Final = "MEDPOLE_TASKS"
TASK_FILE, CALIBRATION_FILE = "task.py", "calibration.json"


def folder_of(name: str) -> Path | None:
    """The folder of the task with this name, None if there is none."""
    return next((folder for folder in task_folders() if folder.name == name), None)


def task_folders() -> list[Path]:
    """All folders of tasks, in the order in which they are looked for."""
    places = [Path(place) for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]
    return [path.parent for place in places for path in sorted(place.glob(f"*/{TASK_FILE}"))]


def load_task(folder: Path) -> Task:
    """The task in a folder.

    Raises:
        TaskInvalid: if its file does not run, defines no task, or one of another name.
    """
    path = folder / TASK_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise TaskInvalid(
            f"{path} cannot be read ({error.strerror})", "write one with `consortium task new`"
        ) from None
    return _loaded(folder.absolute(), content)


@lru_cache
def _loaded(folder: Path, content: bytes) -> Task:
    path, code = folder / TASK_FILE, hashlib.sha256(content).hexdigest()
    spec = importlib.util.spec_from_loader(f"medpole_task_{code[:16]}", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    module.__file__ = str(path)
    sys.modules[spec.name] = module  # where dataclasses and pickle look for what it defines
    try:
        exec(compile(content, path, "exec"), vars(module))  # noqa: S102 -- what the house installed
    except Exception as error:  # whatever is wrong in it
        del sys.modules[spec.name]
        raise TaskInvalid(
            f"{path} does not run: {type(error).__name__}: {error}", "correct it"
        ) from error
    task = getattr(module, "TASK", None)
    if not isinstance(task, Task) or task.name != folder.name:
        raise TaskInvalid(
            f"{path} does not define TASK, a Task called {folder.name!r}",
            "define it, and call the folder as the task",
        )
    return replace(task, folder=folder, code=code)
