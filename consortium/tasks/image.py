"""Inputs that are images: one channel of grey values, in a square raster.

Each image is scaled by its own mean and deviation, and by no other patient's: what a scanner adds
or multiplies to all of it goes, no statistic of the patients is needed, and a value is clamped to 3
deviations, so one patient's inputs are bounded before any gradient is.

    x = clamp((value - mean(image)) / deviation(image), -3, 3)        an even image becomes 0

A table of such a task has a column `image`, whose cells are arrays [side, side], float32.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from consortium.tasks.errors import DataInvalid
from consortium.tasks.schema import CLAMP, check_columns

if TYPE_CHECKING:
    import pandas as pd

IMAGE: Final = "image"


@dataclass(frozen=True)
class Images:
    """Grey images of ``side`` times ``side`` places (`consortium.tasks.task.Inputs`)."""

    side: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one patient's inputs: [1, side, side]."""
        return 1, self.side, self.side

    @property
    def columns(self) -> tuple[str, ...]:
        """`image`."""
        return (IMAGE,)

    def check(self, frame: "pd.DataFrame", label: str | None) -> None:
        """Raise DataInvalid unless each row holds one finite image of this raster."""
        check_columns(frame, (), label)
        if IMAGE not in frame.columns:
            raise DataInvalid(
                "the table lacks images", "name a folder of images, and their labels beside it"
            )
        wrong = sum(not self._fits(cell) for cell in frame[IMAGE])
        if wrong:
            raise DataInvalid(
                f"{IMAGE}: {wrong} of {len(frame)} rows hold no finite image of {self.side} x "
                f"{self.side} places",
                "add the images again with `hospital-agent data add`, which brings them to it",
            )

    def encode(self, frame: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """Model inputs, shape [n, 1, side, side], each within 3, from a checked table."""
        values = np.stack([np.asarray(cell, np.float64) for cell in frame[IMAGE]])
        centred = values - values.mean(axis=(1, 2), keepdims=True)
        deviation = values.std(axis=(1, 2), keepdims=True)
        scaled = np.divide(centred, deviation, out=np.zeros_like(centred), where=deviation > 0)
        return np.asarray(np.clip(scaled, -CLAMP, CLAMP)[:, None], np.float32)

    def to_record(self) -> dict[str, object]:
        """The raster for a fingerprint."""
        return {"image": [self.side, self.side], "scaled": "by image", "clamp": str(CLAMP)}

    def _fits(self, cell: object) -> bool:
        return (
            isinstance(cell, np.ndarray)
            and cell.shape == (self.side, self.side)
            and cell.dtype == np.float32
            and bool(np.isfinite(cell).all())
        )


def raster(pixels: npt.NDArray[np.generic], side: int) -> npt.NDArray[np.float32]:
    """Grey values [rows, columns] in a square raster [side, side]: means over areas.

    The largest square in the middle is taken. Places of the raster are means of the pixels that
    they cover, in part or whole, so nothing is aliased. Raises DataInvalid for less than a raster.
    """
    square = min(pixels.shape)
    if square < side:
        raise DataInvalid(
            f"an image is smaller than {side} x {side} pixels", "export it at its full size"
        )
    top, left = ((length - square) // 2 for length in pixels.shape)
    values = pixels[top : top + square, left : left + square].astype(np.float64)
    cover = _cover(square, side)
    return (cover @ values @ cover.T).astype(np.float32)


def _cover(pixels: int, places: int) -> npt.NDArray[np.float64]:
    """How much of each place is covered by each pixel, shape [places, pixels]; rows sum to 1."""
    width = pixels / places
    starts = np.arange(places)[:, None] * width
    edges = np.arange(pixels)[None, :]
    overlap = np.minimum(starts + width, edges + 1) - np.maximum(starts, edges)
    return np.asarray(np.clip(overlap, 0, None) / width)
