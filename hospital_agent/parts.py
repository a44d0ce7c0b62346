"""How a part of a cohort lies on disk: a table as CSV, images as safetensors.

Of images: `image`, float32 [n, side, side], and the outcome, int64 [n].
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from consortium.tasks.image import IMAGE, Images
from consortium.tasks.task import Task

if TYPE_CHECKING:
    import pandas as pd


def part_file(folder: Path, part: str, task: Task) -> Path:
    """The file of a part."""
    return folder / f"{part}.{'safetensors' if isinstance(task.inputs, Images) else 'csv'}"


def write_part(folder: Path, part: str, task: Task, frame: "pd.DataFrame") -> None:
    """Writes a part durably, readable for this user only."""
    with part_file(folder, part, task).open("wb") as file:
        os.fchmod(file.fileno(), 0o600)
        if isinstance(task.inputs, Images):
            file.write(_packed(frame, task.inputs.side, task.label))
        else:
            frame.to_csv(file, index=False)
        file.flush()
        os.fsync(file.fileno())


def read_part(folder: Path, part: str, task: Task) -> "pd.DataFrame":
    """The raw table of a part; a cell of `image` is an array [side, side]."""
    import pandas as pd

    path = part_file(folder, part, task)
    if not isinstance(task.inputs, Images):
        return pd.read_csv(path)
    from safetensors.numpy import load

    arrays = load(path.read_bytes())
    return pd.DataFrame({IMAGE: list(arrays[IMAGE]), task.label: arrays[task.label]})


def _packed(frame: "pd.DataFrame", side: int, label: str) -> bytes:
    from safetensors.numpy import save

    images = np.zeros((len(frame), side, side), np.float32)
    for place, cell in enumerate(frame[IMAGE]):
        images[place] = cell
    return save({IMAGE: images, label: frame[label].to_numpy(np.int64)})
