"""An export as one file: a tar archive, of one exact form for each folder.

``manifest.json`` and ``manifest.sig`` come first, then all other files by name: no folders, no
owner, no time, mode 0644. It is USTAR; only the size of a file of 8 GiB or more takes PAX.
Whatever `opened` accepts, `archive` gives back byte for byte. So links, absolute paths and
whatever else the format could say need not be recognised to be refused.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from ledger.errors import ExportExists, ExportInvalid
from ledger.manifest import OWN, belongs, files_in

_BLOCK, _RECORD = tarfile.BLOCKSIZE, tarfile.RECORDSIZE
_CHUNK = 1 << 20
_PAX_SIZE = re.compile(rb"[0-9]{2} size=([1-9][0-9]{9,15})\n\0*")


def archive(folder: Path) -> Iterator[bytes]:
    """The archive of an export's folder, a piece at a time.

    Raises:
        ExportInvalid: if the folder is no whole export, or changes meanwhile.
    """
    files = _files(folder)
    for name, size in files:
        yield header(name, size)
        with (folder / name).open("rb") as file:
            yield from _read(file, size, name)
        yield bytes(-size % _BLOCK)
    yield bytes(_end(_size(files)))


def archive_size(folder: Path) -> int:
    """How many bytes `archive` gives."""
    size = _size(_files(folder))
    return size + _end(size)


@contextmanager
def archived(path: Path) -> Iterator[Path]:
    """A folder to write an export into; at the end it is in the new file ``path``, or nothing is.

    Raises:
        ExportExists: if there is such a file already.
    """
    if path.exists():
        raise ExportExists(f"{path} is there already", "name a new file with --archive")
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as scratch:
        yield (folder := Path(scratch, "export"))
        whole = Path(scratch, "archive")
        with whole.open("wb") as file:
            file.writelines(archive(folder))
            os.fsync(file.fileno())
        whole.rename(path)


def is_archive(path: Path) -> bool:
    """Whether a file is a tar archive, as it says itself."""
    with path.open("rb") as file:
        return file.read(_BLOCK)[257:262] == b"ustar"


@contextmanager
def opened(export: Path) -> Iterator[Path]:
    """The folder of an export: itself or, for the time of the context, what its archive holds.

    Nothing is written before every name and size in an archive is known to be an export's.

    Raises:
        ExportInvalid: if the archive is not of the form that `archive` gives.
    """
    if not export.is_file():
        yield export
        return
    with export.open("rb") as file, TemporaryDirectory(prefix="medpole-export-") as scratch:
        folder = Path(scratch)
        for name, place, size in list(_members(file)):
            target = folder / name
            target.parent.mkdir(exist_ok=True)
            file.seek(place)
            with target.open("xb") as out:
                out.writelines(_read(file, size, name))
        yield folder


def header(name: str, size: int) -> bytes:
    """What stands before a file in an archive."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")


def _files(folder: Path) -> list[tuple[str, int]]:
    names = [*OWN, *sorted(files_in(folder))]
    return [(name, (folder / name).stat().st_size) for name in names]


def _size(files: list[tuple[str, int]]) -> int:
    return sum(len(header(name, size)) + size + -size % _BLOCK for name, size in files)


def _read(file: BinaryIO, size: int, name: str) -> Iterator[bytes]:
    while size:
        part = file.read(min(_CHUNK, size))
        if not part:
            raise _invalid(f"{name} has become shorter while it was read")
        size -= len(part)
        yield part


def _end(size: int) -> int:
    """Zeros at an archive's end: two blocks, and what fills the last record (POSIX)."""
    return 2 * _BLOCK + -(size + 2 * _BLOCK) % _RECORD


def _members(file: BinaryIO) -> Iterator[tuple[str, int, int]]:
    """Name, place and size of each file; all of the archive is accounted for."""
    whole, before = file.seek(0, os.SEEK_END), ""
    file.seek(0)
    for number, (name, size) in enumerate(iter(lambda: _member(file), None)):
        place = file.tell()
        if number < len(OWN):
            follows = name == OWN[number]
        else:
            follows = belongs(name) and name not in OWN and name > before
            before = name
        if not follows:
            raise _invalid(f"{name[:80]!r} does not belong there")
        if place + size > whole:
            raise _invalid(f"it ends within {name}")
        file.seek(place + size)
        padding = -size % _BLOCK
        if file.read(padding) != bytes(padding):
            raise _invalid(f"something stands behind {name}")
        yield name, place, size
    end = _end(file.tell() - _BLOCK)
    if file.read(end) != bytes(end - _BLOCK):
        raise _invalid("its end is not an archive's")


def _member(file: BinaryIO) -> tuple[str, int] | None:
    """Name and size of the next file; None at the end."""
    found = block = file.read(_BLOCK)
    if block == bytes(_BLOCK):
        return None
    try:
        info = tarfile.TarInfo.frombuf(block, "ascii", "strict")
        if long := info.type == tarfile.XHDTYPE:
            found += file.read(2 * _BLOCK)
            info = tarfile.TarInfo.frombuf(found[2 * _BLOCK :], "ascii", "strict")
        stated = _PAX_SIZE.fullmatch(found[_BLOCK : 2 * _BLOCK]) if long else None
        size = int(stated[1]) if stated else info.size
        exact = header(info.name, size) == found
    except (tarfile.HeaderError, ValueError):
        exact = False
    if not exact:
        raise _invalid("a header is not in its one exact form")
    return info.name, size


def _invalid(what: str) -> ExportInvalid:
    return ExportInvalid(
        f"the archive is not one that an export is written as: {what}",
        "use the original archive; one that was packed again: unpack it, verify the folder",
    )
