"""Fetches the heart-disease files from the UCI repository for a user.

Each file is checked against its published md5 before it appears under its name, and appears whole
or not at all.
"""

import hashlib
import os
import tempfile
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.request import urlopen

from consortium.tasks.errors import DataCorrupt, DataUnavailable
from consortium.tasks.heart_disease import SOURCES, Source

ARCHIVE: Final = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"
_LARGEST_BYTES: Final = 1_000_000
_TIMEOUT_SECONDS: Final = 30.0

Download = Callable[[str], bytes]


def fetch(data_dir: Path, download: Download | None = None) -> list[Path]:
    """Put the four files into `data_dir`, which is made; files already there and right are kept.

    download: address -> content, the archive over https by default. Raises DataUnavailable when
    the archive cannot be reached, DataCorrupt when it sends another file.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    return [_fetch(data_dir, source, download or _over_https) for source in SOURCES]


def _fetch(data_dir: Path, source: Source, download: Download) -> Path:
    path = data_dir / source.file
    if path.is_file() and _md5(path.read_bytes()) == source.md5:
        return path
    try:
        content = download(ARCHIVE + source.file)
    except (OSError, HTTPException) as error:
        raise DataUnavailable(
            f"{source.file} could not be fetched from {ARCHIVE} ({type(error).__name__})",
            "check the connection and proxy, or copy the four files by hand and pass --data-dir",
        ) from error
    if _md5(content) != source.md5:
        raise DataCorrupt(
            f"{source.file} as sent by {ARCHIVE} is not the published file",
            "a proxy may have changed it; try again, or copy the files by hand and pass --data-dir",
        )
    handle, temporary = tempfile.mkstemp(dir=data_dir, prefix=f".{source.file}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def _over_https(address: str) -> bytes:
    with urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310 -- ARCHIVE is https
        content: bytes = answer.read(_LARGEST_BYTES)
    return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
