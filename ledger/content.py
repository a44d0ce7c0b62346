"""Models and updates: files named by their digest; the ledger holds only the digest.

Two digests: of a file's bytes (how it is stored and fetched), and of a model's weights (what
the ledger calls the model), which covers names, types, shapes and raw bytes in sorted order and
does not depend on the container's format.
"""

import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ledger.errors import ContentInvalid, ContentMissing

Weights = Mapping[str, NDArray[Any]]


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(data).hexdigest()


def model_hash(weights: Weights) -> str:
    """Digest of a model's weights: sorted names, dtypes, shapes and little-endian bytes."""
    hasher = sha256(b"medpole/model/v1\n")
    for name in sorted(weights):
        array = np.asarray(weights[name], order="C")  # keeps a scalar's empty shape
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        head = f"{len(name)}:{name} {array.dtype.str} {','.join(map(str, array.shape))}\n"
        hasher.update(head.encode() + array.tobytes())
    return hasher.hexdigest()


class ContentStore:
    """A folder of files named by their SHA-256. A file is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def put(self, data: bytes) -> str:
        """Stores ``data`` durably; returns its digest."""
        name = digest(data)
        path = self._folder / name
        if not path.exists():
            partial = self._folder / f".{name}.{os.getpid()}.{os.urandom(4).hex()}"
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
            directory = os.open(self._folder, os.O_RDONLY)  # the new name must survive too
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        return name

    def get(self, name: str) -> bytes:
        """The bytes with this digest.

        Raises:
            ContentMissing: if they are not here.
            ContentInvalid: if the file has changed on disk.
        """
        try:
            data = (self._folder / name).read_bytes()
        except FileNotFoundError:
            raise ContentMissing(
                f"content {name[:16]}… is not here", "fetch it from the consortium's API"
            ) from None
        if digest(data) != name:
            raise ContentInvalid(
                f"content {name[:16]}… has changed on disk", "delete the file and fetch it again"
            )
        return data

    def has(self, name: str) -> bool:
        """Whether the bytes with this digest are here."""
        return (self._folder / name).exists()

    def path(self, name: str) -> Path:
        """The file with this digest, checked.

        Raises:
            ContentMissing, ContentInvalid: as `get`.
        """
        self.get(name)
        return self._folder / name
