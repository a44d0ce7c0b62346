"""Delimited text with a header, read line by line.

Strict: a line that is cut off or shifted would mix up columns, so it is refused by its number. What
is wrong with the whole file (delimiter, encoding, a million columns) is said before the first row.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

from hospital_agent.errors import (
    DelimiterWrong,
    EncodingWrong,
    MappingFileInvalid,
    SourceEmpty,
    TableUnreadable,
)
from hospital_agent.sources.source import check_header, check_width, frame_of, rows_of_a_chunk

if TYPE_CHECKING:
    from _csv import Reader

    import pandas as pd

_LONGEST_LINE: Final = 1_000_000
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


class CsvFile:
    """One file, its columns separated by ``delimiter``. A byte order mark is skipped."""

    kind = "csv"

    def __init__(self, path: Path, delimiter: str = ",", encoding: str = "utf-8") -> None:
        self._path = path
        self._delimiter = delimiter
        self._encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding

    def columns(self) -> list[str]:
        """The header.

        Raises:
            TableUnreadable: if there is none, or not one of a table.
        """
        with self._reader() as (header, _):
            return header

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, as `Source.chunks` describes them.

        Raises:
            TableUnreadable: if a line is not one of the table; names its number only.
        """
        with self._reader() as (header, lines):
            wanted = list(header if columns is None else columns)
            places = [header.index(name) for name in wanted]
            rows = self._rows(lines, len(header))
            first = next(rows, None)
            if first is None:
                raise SourceEmpty("the file holds a header and no row", "export the cohort again")
            rows = chain([first], rows)
            while some := list(islice(rows, rows_of_a_chunk(len(header)))):
                turned = list(zip(*some, strict=True))
                yield frame_of(wanted, [turned[place] for place in places])

    def _rows(self, lines: "Reader", width: int) -> Iterator[list[str]]:
        for line in lines:
            if len(line) == width:
                yield line
            elif line:
                raise TableUnreadable(
                    f"line {lines.line_num} has {len(line)} columns, the header {width}",
                    "export it again: a line that is cut off or shifted would mix up columns",
                )

    @contextmanager
    def _reader(self) -> Iterator[tuple[list[str], "Reader"]]:
        """The header, and a reader that stands at the first row."""
        try:
            with self._path.open("rb") as raw:
                if raw.read(2) in _UTF_16 and "16" not in self._encoding:
                    raise EncodingWrong(
                        "the file is UTF-16",
                        "export it as UTF-8, or add to the mapping file, under [source]: "
                        'encoding = "utf-16"',
                    )
            with self._path.open(encoding=self._encoding, newline="") as file:
                first = file.readline(_LONGEST_LINE)
                self._check_first(first)
                # A longer line comes in pieces, and is refused for its number of columns.
                pieces = chain([first], iter(lambda: file.readline(_LONGEST_LINE), ""))
                lines = csv.reader(pieces, strict=True, delimiter=self._delimiter)
                header = [name.strip() for name in next(lines)]
                check_header(header)
                yield header, lines
        except LookupError:
            raise MappingFileInvalid(
                "the mapping file: source.encoding is not known", "write it like utf-8 or cp1252"
            ) from None
        except OSError as error:
            raise TableUnreadable(
                f"the file cannot be read ({error.strerror})", "check the path and its owner"
            ) from None
        except UnicodeError:
            raise self._not_in_encoding() from None
        except csv.Error:
            raise TableUnreadable(
                "the file is not well-formed CSV", "quote a text that holds a comma or a quote"
            ) from None

    def _check_first(self, line: str) -> None:
        if not line.strip():
            raise SourceEmpty("the file is empty", "export the cohort again")
        check_width(line.count(self._delimiter) + 1)
        other = max(_DELIMITERS, key=line.count)
        if self._delimiter not in line and other in line:
            raise DelimiterWrong(
                f"the first line has one column, and {_DELIMITERS[other]} in it",
                f"add to the mapping file, under [source]: delimiter = {json.dumps(other)}",
            )

    def _not_in_encoding(self) -> EncodingWrong:
        """Where the encoding breaks, and whether other lines hold to it: mixed, or another one."""
        if self._encoding != "utf-8-sig":
            return EncodingWrong(
                f"the file is not, or not all, {self._encoding}",
                "export it again as UTF-8, or correct source.encoding in the mapping file",
            )
        right, wrong, first = 0, 0, 0
        with self._path.open("rb") as raw:
            for number, line in enumerate(raw, start=1):
                if line.isascii():
                    continue
                try:
                    line.decode("utf-8")
                    right += 1
                except UnicodeDecodeError:
                    wrong, first = wrong + 1, first or number
                if right and wrong:
                    return EncodingWrong(
                        f"the file mixes encodings: some lines are UTF-8, line {first} is not",
                        "export it again, all of it as UTF-8",
                    )
        return EncodingWrong(
            f"the file is not UTF-8 (line {first})",
            "export it again as UTF-8, or add to the mapping file, under [source]: its encoding, "
            'like encoding = "cp1252"',
        )
