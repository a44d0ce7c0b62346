"""A table that is in memory already: a stored cohort, looked at again."""

from collections.abc import Iterator, Sequence

import pandas as pd

from hospital_agent.sources.source import rows_of_a_chunk


class FrameSource:
    """A frame of numbers and texts, as the texts that a file would hold."""

    kind = "cohort"

    def __init__(self, frame: pd.DataFrame) -> None:
        self._frame = frame

    def columns(self) -> list[str]:
        """The frame's columns."""
        return list(map(str, self._frame.columns))

    def chunks(self, columns: Sequence[str] | None = None) -> Iterator[pd.DataFrame]:
        """All rows, as `Source.chunks` describes them."""
        wanted = self._frame if columns is None else self._frame[list(columns)]
        texts = wanted.astype(str).astype(object).where(wanted.notna(), None)
        size = rows_of_a_chunk(len(texts.columns))
        for start in range(0, len(texts), size):
            yield texts.iloc[start : start + size].reset_index(drop=True)
