"""Apache Parquet, read row group by row group.

A file of some kilobytes can decompress to terabytes. So what the file says of itself is checked
before it is read: rows, decompressed bytes, bytes of one row group. What it says may be a lie, so
the memory that reading may take is limited too, where the system can do that (Linux).
"""

import contextlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hospital_agent.errors import SourceEmpty, SourceTooLarge, TableUnreadable
from hospital_agent.sources.source import check_header, check_width, frame_of, rows_of_a_chunk

if TYPE_CHECKING:
    import pandas as pd

ALWAYS_ALLOWED: Final = 64 * 2**20
"""Decompressed bytes that any file may have."""

MOST_EXPANSION: Final = 200
"""Decompressed bytes for each byte of the file, beyond that."""

MOST_OF_A_GROUP: Final = 512 * 2**20
MOST_MEMORY: Final = 512 * 2**20
"""Bytes that one step of reading may take, beyond what Arrow's allocator has reserved."""

_LONGEST_CELL: Final = 10_000
_A_CELL: Final = 8


class ParquetFile:
    """One file."""

    kind = "parquet"

    def __init__(self, path: Path) -> None:
        self._path = path

    def columns(self) -> list[str]:
        """The names of its columns.

        Raises:
            TableUnreadable: if it is no Parquet file, or would fill the memory.
        """
        with self._opened() as (names, _):
            return names

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, as `Source.chunks` describes them.

        Raises:
            TableUnreadable: if it is no Parquet file, or would fill the memory.
        """
        with self._opened() as (names, file):
            wanted = names if columns is None else list(columns)
            if not file.metadata.num_rows:
                raise SourceEmpty("the file holds no row", "export the cohort again")
            size = rows_of_a_chunk(len(wanted))
            batches = file.iter_batches(size, columns=wanted, use_threads=False)
            while batch := self._next(batches):
                yield frame_of(wanted, [_texts(batch.column(name)) for name in wanted])

    def _next(self, batches: Iterator[Any]) -> Any:
        with _limited_memory():
            return next(batches, None)

    def _names(self, schema: Any) -> list[str]:
        check_header(schema.names)
        for field in schema:
            if field.type.num_fields:
                raise TableUnreadable(
                    "a column holds lists or structures", "export plain columns, one row a patient"
                )
        return list(schema.names)

    @contextmanager
    def _opened(self) -> Iterator[tuple[list[str], Any]]:
        import pyarrow
        from pyarrow import parquet

        # Arrow's allocator reserves a gigabyte at its first use, which the limit must not count.
        pyarrow.allocate_buffer(1)
        try:
            with _limited_memory():
                metadata = parquet.read_metadata(self._path)
            self._check_sizes(metadata)
            names = self._names(metadata.schema.to_arrow_schema())
            # As dictionaries: a long text that each row repeats stays one text.
            with parquet.ParquetFile(
                self._path, read_dictionary=names, memory_map=True, pre_buffer=False
            ) as file:
                yield names, file
        except MemoryError:
            raise _too_large("reading it takes more memory than a table of patients") from None
        except (pyarrow.ArrowException, OSError, ValueError):
            raise TableUnreadable(
                "the file is no Parquet file that can be read", "export it again"
            ) from None

    def _check_sizes(self, metadata: Any) -> None:
        check_width(metadata.num_columns)
        groups = [metadata.row_group(place) for place in range(metadata.num_row_groups)]
        cells = _A_CELL * metadata.num_rows * metadata.num_columns
        says = max(cells, sum(group.total_byte_size for group in groups))
        if says > max(ALWAYS_ALLOWED, MOST_EXPANSION * self._path.stat().st_size):
            raise _too_large(f"it decompresses to more than {MOST_EXPANSION} times its size")
        if any(group.total_byte_size > MOST_OF_A_GROUP for group in groups):
            raise _too_large(f"one of its row groups is over {MOST_OF_A_GROUP // 2**20} MiB")


def _texts(column: Any) -> list[str | None]:
    import pyarrow as pa
    from pyarrow import compute

    values = column.dictionary if pa.types.is_dictionary(column.type) else column
    if pa.types.is_nested(values.type) or pa.types.is_binary(values.type):
        raise TableUnreadable("a column holds bytes", "export numbers and texts only")
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    written = values.cast(pa.string())
    longest = compute.max(compute.binary_length(written)).as_py() or 0
    if longest > _LONGEST_CELL:
        raise _too_large(f"a cell is longer than {_LONGEST_CELL} letters")
    distinct = written.to_pylist()
    if not pa.types.is_dictionary(column.type):
        return list(distinct)
    return [None if place is None else distinct[place] for place in column.indices.to_pylist()]


def _too_large(what: str) -> SourceTooLarge:
    return SourceTooLarge(
        f"the file is not read: {what}",
        "export the task's columns only, in row groups of at most some 100,000 rows",
    )


@contextmanager
def _limited_memory() -> Iterator[None]:
    """Lets this process take at most `MOST_MEMORY` more than it has, then MemoryError."""
    try:
        import resource

        status = Path("/proc/self/status").read_text()
        now = 1024 * int(status.split("VmData:")[1].split()[0])
    except (ImportError, OSError, IndexError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = now + MOST_MEMORY
    if soft != resource.RLIM_INFINITY:
        limit = min(limit, soft)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
