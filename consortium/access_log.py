"""Who asked the API for what: one JSON object a line in ``HOME/access/access.jsonl``.

Its form is `Access` (`consortium.api.schemas`): names, a route's own form, numbers. No path, query
or header stands in it, so no token can. A full file is renamed, ``access.jsonl.1`` is the newest of
those, the oldest goes. A line is handed to the operating system when its request is over, and not
waited for: after a power failure the last seconds may be missing.
"""

import fcntl
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

FOLDER, NAME = "access", "access.jsonl"
MOST_BYTES, MOST_FILES = 10_000_000, 10
log = logging.getLogger("medpole.access")


class AccessLog:
    """One home's log. Several processes may write it at once."""

    def __init__(
        self, home: Path, most_bytes: int = MOST_BYTES, most_files: int = MOST_FILES
    ) -> None:
        self._path = home / FOLDER / NAME
        self._most_bytes, self._most_files = most_bytes, most_files
        self._file: int | None = None
        self._failed = False

    def write(self, line: str) -> None:
        """Appends one line. A disk that does not take it stops nobody: it is said once."""
        try:
            os.write(self._opened(), line.encode() + b"\n")
        except OSError as error:
            if not self._failed:
                log.error("the access log cannot be written: %s", os.strerror(error.errno or 0))
            self._failed = True
        else:
            self._failed = False

    def lines(self, since: float = 0) -> Iterator[bytes]:
        """The lines of requests since a time (in seconds since 1970), oldest first.

        One line in memory at a time; what is rotated away meanwhile is still read.
        """
        with ExitStack() as stack:
            files: list[BinaryIO] = []
            with self._locked():
                for number in range(self._most_files - 1, -1, -1):
                    path = self._numbered(number)
                    if path.exists() and path.stat().st_mtime >= since:
                        files.append(stack.enter_context(path.open("rb")))
            for file in files:
                for line in file:
                    if _time(line) >= since:
                        yield line

    def _opened(self) -> int:
        """The file to write to, which may have been renamed or become full since the last time."""
        if self._file is not None:
            own = os.fstat(self._file)
            try:
                named = self._path.stat()
            except FileNotFoundError:
                named = None
            if named and named.st_ino == own.st_ino and own.st_size < self._most_bytes:
                return self._file
            os.close(self._file)
            self._file = None
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._locked():
            if self._path.exists() and self._path.stat().st_size >= self._most_bytes:
                self._rotate()
        self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._file

    def _rotate(self) -> None:
        for number in range(self._most_files - 2, -1, -1):
            if self._numbered(number).exists():
                self._numbered(number).replace(self._numbered(number + 1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{NAME}.{number}") if number else self._path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """While nobody else rotates. Nothing to lock where nothing was written yet."""
        if not self._path.parent.is_dir():
            yield
            return
        descriptor = os.open(self._path.parent / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _time(line: bytes) -> float:
    """A line's time; one that a crash cut off has none, and is left out."""
    try:
        return float(json.loads(line)["time"])
    except (ValueError, KeyError, TypeError):
        return float("-inf")
