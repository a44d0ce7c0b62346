"""A table that is in memory already: a stored cohort, looked at again."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from consortium.tasks.image import IMAGE
from hospital_agent.sources.source import rows_of_a_chunk


class FrameSource:
    """A frame of numbers and texts, as the texts that a file would hold; images beside them."""

    kind = "cohort"

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def columns(self) -> list[str]:
        """The frame's columns, images aside."""
        return [str(name) for name in self._frame.columns if name != IMAGE]

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """All rows, as `Source.chunks` describes them."""
        wanted = self._frame[self.columns() if columns is None else list(columns)]
        texts = wanted.astype(str).astype(object).where(wanted.notna(), None)
        size = rows_of_a_chunk(len(texts.columns))
        for start in range(0, len(texts), size):
            yield texts.iloc[start : start + size].reset_index(drop=True)

    def images(self) -> Iterator[NDArray[np.float64]]:
        """As `HoldsImages.images` describes them."""
        yield from self._frame[IMAGE]
