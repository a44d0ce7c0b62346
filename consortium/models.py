"""The models of a ledger, each kept under its hash as a safetensors file."""

import os
from pathlib import Path

from consortium import weights as weight_forms
from consortium.errors import RoundInvalid
from ledger.content import ContentStore, Weights, model_hash
from ledger.errors import ContentInvalid, ContentMissing


class ModelStore:
    """A folder of models. What is read has the hash it was asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    def path(self, name: str) -> Path:
        """The file of the model with this hash, checked.

        Raises:
            ContentMissing, ContentInvalid: as `get`.
        """
        self.get(name)
        return self._path(name)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def put(self, weights: Weights) -> str:
        """Stores a model durably, or mends a damaged file of it; returns its hash."""
        name = model_hash(weights)
        path = self._path(name)
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
            weights = weight_forms.from_bytes(self._path(name).read_bytes())
        except FileNotFoundError:
            raise ContentMissing(
                f"model {name[:16]}… is not here", "fetch it from the consortium's API"
            ) from None
        except RoundInvalid:
            raise _damaged(name) from None
        if model_hash(weights) != name:
            raise _damaged(name)
        return weights


def restore_contents(export: Path, content: ContentStore, models: ModelStore) -> int:
    """Takes over the updates and models of a verified export, as far as it has them; how many.

    Raises:
        ContentInvalid: if one is not what its name says.
    """
    restored = 0
    for path in sorted((export / "content").glob("*")):
        if content.put(path.read_bytes()) != path.name:
            raise _damaged(path.name)
        restored += 1
    for path in sorted((export / "models").glob("*")):
        try:
            name = models.put(weight_forms.from_bytes(path.read_bytes()))
        except RoundInvalid:
            raise _damaged(path.name) from None
        if name != path.name:
            raise _damaged(path.name)
        restored += 1
    return restored


def _damaged(name: str) -> ContentInvalid:
    return ContentInvalid(
        f"model {name[:16]}… has changed on disk", "delete the file and fetch it again"
    )
