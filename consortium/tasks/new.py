"""A new task's folder, as a start: what to fill in, and a test of it."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Final

from consortium.errors import OptionInvalid
from consortium.tasks import TASKS
from consortium.tasks.folders import TASK_FILE

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
LONGEST_NAME: Final = 32
SMALLEST_SIDE, LARGEST_SIDE = 8, 512


def new_task(name: str, place: Path, side: int | None = None) -> list[Path]:
    """Writes the folder of a task below ``place``, of images if a ``side`` is given; its files.

    Raises:
        OptionInvalid: for a name that cannot be one, or that is taken, or a side.
    """
    if not _NAME.fullmatch(name) or len(name) > LONGEST_NAME:
        raise OptionInvalid(
            f"{name[:60]!r} cannot be the name of a task",
            f"take up to {LONGEST_NAME} small letters and digits, with dashes between words",
        )
    if side is not None and not SMALLEST_SIDE <= side <= LARGEST_SIDE:
        raise OptionInvalid(
            f"--images is {side}; allowed: {SMALLEST_SIDE} to {LARGEST_SIDE}",
            "give the number of places along one side of an image's raster",
        )
    folder = place / name
    if name in TASKS or folder.exists():
        raise OptionInvalid(
            f"there is {'a task' if name in TASKS else f'something at {folder}'} already",
            "choose another name",
        )
    kind = "table" if side is None else "images"
    folder.mkdir(parents=True)
    task, test = folder / TASK_FILE, folder / f"test_{name.replace('-', '_')}.py"
    task.write_text(_template(kind).replace("NAME", name).replace("SIDE", str(side)))
    test.write_text(_template("test").replace("FOLDER (", f"{folder} ("))
    return [task, test]


def _template(kind: str) -> str:
    return (files("consortium.tasks") / "template" / f"{kind}.txt").read_text()
