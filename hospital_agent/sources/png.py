"""A folder of PNG images with a table of labels: one row for each line of the labels.

The labels have a column ``file`` (an image's path within the folder), and ``patient`` where several
images may be of one. Of a PNG only its pixels are read: texts beside them stay where they are. It
does not say whether text or a face is in its pixels, so a person has to say that none is.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from consortium.errors import PartMissing
from hospital_agent.errors import ImageUnreadable, PatientRepeated, TableUnreadable
from hospital_agent.sources.grey import grey
from hospital_agent.sources.source import Source
from privacy.errors import BurnedInPixels

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

FILE: Final = "file"
MOST_PIXELS: Final = 2**26


class PngFolder:
    """Labels, and the images that they name. ``looked_at``: see `BurnedInPixels`."""

    kind = "png"

    def __init__(self, folder: Path, labels: Source, *, looked_at: bool = False) -> None:
        if not looked_at:
            raise BurnedInPixels(
                "PNG images do not say whether text or a face is in their pixels",
                "look at every one of them, and then give --pixels-looked-at",
            )
        self._folder, self._labels = folder, labels

    def columns(self) -> list[str]:
        """The labels' columns but the file's.

        Raises:
            TableUnreadable: if the labels name no files.
        """
        own = self._labels.columns()
        if FILE not in own:
            raise TableUnreadable(
                "the labels have no column `file`",
                "name each image's path within the folder in such a column",
            )
        return [name for name in own if name != FILE]

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, as `Source.chunks` describes them."""
        wanted = self.columns() if columns is None else list(columns)
        for chunk in self._labels.chunks():
            yield chunk[wanted]

    def images(self) -> "Iterator[NDArray[np.float64]]":
        """As `HoldsImages.images` describes them. Images are named by their line in the labels."""
        line, seen = 1, set()
        for chunk in self._labels.chunks([FILE]):
            for name in chunk[FILE]:
                line += 1
                path = None if name is None else self._paths.get(name)
                if path is None:
                    raise TableUnreadable(
                        f"line {line} of the labels names no image of the folder",
                        "correct it, or take the line out",
                    )
                if path in seen:
                    raise PatientRepeated(
                        f"line {line} of the labels names an image that one above it names",
                        "label each image once",
                    )
                seen.add(path)
                try:
                    yield _pixels(path)
                except ImageUnreadable as error:
                    raise ImageUnreadable(
                        f"the image that line {line} of the labels names: {error.what}",
                        error.resolve,
                    ) from None

    @cached_property
    def _paths(self) -> dict[str, Path]:
        try:
            return {
                path.relative_to(self._folder).as_posix(): path
                for path in self._folder.rglob("*")
                if path.suffix.lower() == ".png" and path.is_file()
            }
        except OSError as error:  # which holds a name
            raise ImageUnreadable(
                f"a folder in it cannot be read ({error.strerror})", "check its owner"
            ) from None


def _pixels(path: Path) -> "NDArray[np.float64]":
    try:
        from PIL import Image
    except ImportError:
        raise PartMissing("what reads PNG is not installed", "pip install pillow") from None
    try:
        with Image.open(path, formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise ImageUnreadable("it is larger than 64 million pixels", "export it smaller")
            if image.mode in ("L", "I", "I;16", "I;16B"):
                return grey(np.asarray(image), "MONOCHROME2")
            return grey(np.asarray(image.convert("RGB")), "RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise ImageUnreadable("it is no PNG, or cut off", "export it again") from None
