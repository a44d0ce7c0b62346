"""A simulation's home folder: the coordinator's side, and a folder of its own for each hospital.

| path | holds |
|---|---|
| ``home.json`` | which task and hospitals this consortium was founded with |
| ``coordinator/`` | the coordinator's keys, contents and models |
| ``hospitals/ID/`` | one hospital's own folder (`hospital_agent.folder`) |
| ``postgres/`` | the embedded database, unless ``DATABASE_URL`` is set |
| ``exports/JOB/`` | the export that each demo writes and verifies |
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import HomeMismatch
from consortium.models import ModelStore
from ledger.content import ContentStore
from ledger.errors import HomeInvalid
from ledger.keys import KeyRing, Role


@dataclass(frozen=True)
class Home:
    """One simulation's folder."""

    path: Path

    @property
    def keys(self) -> KeyRing:
        """The coordinator's keys: records and checkpoints."""
        return KeyRing.open(self.path / "coordinator" / "keys", (Role.RECORD, Role.COSIGN))

    @property
    def content(self) -> ContentStore:
        """Updates, by digest."""
        return ContentStore(self.path / "coordinator" / "content")

    @property
    def models(self) -> ModelStore:
        """Models, by hash."""
        return ModelStore(self.path / "coordinator" / "models")

    def hospital(self, institution: str) -> Path:
        """One hospital's own folder."""
        return self.path / "hospitals" / institution

    def founded(self) -> dict[str, object] | None:
        """What the consortium was founded with, or None in a new home.

        Raises:
            HomeInvalid: if the note about it is damaged.
        """
        path = self.path / "home.json"
        if not path.exists():
            return None
        try:
            return dict(json.loads(path.read_text()))
        except ValueError:
            raise HomeInvalid(f"{path} is damaged", "restore it, or use a new --home") from None

    def found(self, dataset: str, seed: int, hospitals: dict[str, str]) -> dict[str, object]:
        """Notes what the consortium is founded with, or checks it against the note.

        Raises:
            HomeMismatch: if this home holds another consortium.
        """
        wanted: dict[str, object] = {
            "dataset": dataset, "seed": seed, "hospitals": hospitals, "created": int(time.time())
        }  # fmt: skip
        noted = self.founded()
        if noted is None:
            partial = self.path / ".home.json.new"
            with partial.open("w") as file:
                file.write(json.dumps(wanted, indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path / "home.json")
            return wanted
        if (noted["dataset"], noted["hospitals"]) != (dataset, hospitals):
            count = len(dict(noted["hospitals"]))  # type: ignore[call-overload]
            raise HomeMismatch(
                f"{self.path} holds a consortium of {count} hospitals for {noted['dataset']}",
                "use the same --dataset and --hospitals, or a new --home",
            )
        return noted


@contextmanager
def open_home(path: Path) -> Iterator[Home]:
    """Makes or opens a home, for this process alone.

    Raises:
        HomeInvalid: if the folder cannot be used, or another process uses it.
    """
    try:
        # 0711 as root: the database runs as another user and has to reach its own folder.
        path.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        lock = os.open(path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeInvalid(
            f"the home folder {path} cannot be used ({error.strerror})",
            "name a folder with --home that you may write to",
        ) from None
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HomeInvalid(
                f"another process uses {path}", "wait until it is done, or use another --home"
            ) from None
        yield Home(path)
    finally:
        os.close(lock)
