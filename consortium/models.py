"""The models of a ledger, each kept under its hash as a safetensors file."""

import os
from pathlib import Path

from consortium import weights as weight_forms
from consortium.errors import RoundInvalid
from ledger.content import Weights, model_hash
from ledger.errors import ContentInvalid, ContentMissing


class ModelStore:
    """A folder of models. What is read has the hash it was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """Where a model's file is, or would be."""
        return self._folder / f"{name}.safetensors"

    def put(self, weights: Weights) -> str:
        """Stores a model durably, or mends a damaged file of it; returns its hash."""
        name = model_hash(weights)
        path = self.path(name)
        try:
            self.get(name)
        except (ContentMissing, ContentInvalid):
            partial = path.with_suffix(f".{os.getpid()}.{os.urandom(4).hex()}")
            with partial.open("wb") as file:
                file.write(weight_forms.to_bytes(weights))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        return name

    def get(self, name: str) -> Weights:
        """The model with this hash.

        Raises:
            ContentMissing: if it is not here.
            ContentInvalid: if the file has changed on disk.
        """
        try:
            weights = weight_forms.from_bytes(self.path(name).read_bytes())
        except FileNotFoundError:
            raise ContentMissing(
                f"model {name[:16]}… is not here", "fetch it from the consortium's API"
            ) from None
        except RoundInvalid:
            raise _damaged(name) from None
        if model_hash(weights) != name:
            raise _damaged(name)
        return weights


def _damaged(name: str) -> ContentInvalid:
    return ContentInvalid(
        f"model {name[:16]}… has changed on disk", "delete the file and fetch it again"
    )
