"""Downloads: a file has its name once it is whole and was checked, or there is none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO


@contextmanager
def whole_file(path: Path, *, new: bool = False) -> Iterator[tuple[BinaryIO, Path]]:
    """A file to write, and where it lies until the context ends without an error.

    Raises:
        FileExistsError: if it is to be ``new``, and there is one of that name.
    """
    if new and path.exists():
        raise FileExistsError(f"{path} is there already")
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            yield file, partial
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
