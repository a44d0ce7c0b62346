"""What a source of patients' data is: columns by name, and rows of texts, a chunk at a time.

Every source hands over texts as they stand where they come from. What they mean, in the task's
names, units and codes, is the mapping's business (`hospital_agent.mapping`), the same for all.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Final, Protocol, runtime_checkable

from hospital_agent.errors import TableUnreadable, TooManyColumns

if TYPE_CHECKING:
    import pandas as pd

CHUNK: Final = 10_000
"""The most rows of one chunk, so that memory does not grow with the source."""

MOST_CELLS: Final = 500_000
"""The most cells of one chunk."""

MOST_COLUMNS: Final = 10_000
"""Columns beyond which a source is refused: a table of measurements of one task has far fewer."""

MISSING: Final = frozenset({"", "na", "nan", "null"})
"""Texts that mean "no value", whatever their letters' case."""


class Source(Protocol):
    """Where rows come from. ``kind``: csv, parquet, sql, omop, fhir or dicom."""

    kind: str

    def columns(self) -> list[str]:
        """The names that `chunks` can give, as the source calls them, in its order.

        Raises:
            AgentError: if the source cannot be read; nothing of a patient stands in it.
        """
        ...

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, at most `CHUNK` at a time, of these columns (None: of all).

        Every cell is a text, stripped and not one of `MISSING`, or None; dtype is object.

        Raises:
            AgentError: if the source cannot be read; nothing of a patient stands in it.
        """
        ...


@runtime_checkable
class HoldsMore(Protocol):
    """A source with texts beside its rows, which never become rows."""

    def others(self) -> "Iterator[pd.DataFrame]":
        """These texts, for the scan alone: the columns of `Source.columns`, each on its own."""
        ...


def cell(text: str | None) -> str | None:
    """A text as a cell: stripped, None where it means that there is no value."""
    if text is None:
        return None
    stripped = text.strip()
    return None if stripped.lower() in MISSING else stripped


def rows_of_a_chunk(width: int) -> int:
    """How many rows of so many columns make a chunk: fewer where a table is wide."""
    return max(1, min(CHUNK, MOST_CELLS // max(1, width)))


def frame_of(names: Sequence[str], columns: "Sequence[Sequence[str | None]]") -> "pd.DataFrame":
    """A chunk from columns of texts as they came."""
    import pandas as pd

    cells = {name: list(map(cell, texts)) for name, texts in zip(names, columns, strict=True)}
    return pd.DataFrame(cells, columns=list(names), dtype=object)


def check_width(columns: int) -> None:
    """Checks a table's number of columns.

    Raises:
        TooManyColumns: beyond `MOST_COLUMNS`.
    """
    if columns > MOST_COLUMNS:
        raise TooManyColumns(
            f"the table has more than {MOST_COLUMNS} columns",
            "export the task's columns only, one row for each patient",
        )


def check_header(names: Sequence[str]) -> None:
    """Checks a table's names of columns. None is shown: it may be a value of the first patient.

    Raises:
        TableUnreadable: if they are fewer than two, too many, or one is there twice.
    """
    check_width(len(names))
    if len(names) < 2:
        raise TableUnreadable(
            "the first line names fewer than two columns",
            "begin with a header, and separate columns with commas",
        )
    first: dict[str, int] = {}
    for place, name in enumerate(names, start=1):
        if name and first.setdefault(name, place) != place:
            raise TableUnreadable(
                f"the header calls column {first[name]} and column {place} alike",
                "keep one of them; if the first line is a patient's, begin with a header",
            )
