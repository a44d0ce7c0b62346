"""A home folder: the coordinator's side and, of a simulation, each hospital's own folder.

| path | holds |
|---|---|
| ``home.json`` | how it began: a demo's task and hospitals, a draft of ours, or a restored export |
| ``coordinator/`` | the coordinator's keys, contents and models |
| ``coordinator/exporting/`` | exports while they are downloaded (`consortium.api.exports`) |
| ``postgres/`` | the embedded database, unless ``DATABASE_URL`` is set |
| ``coordinator/ca/`` | the CA that hospitals pin, and its key (`consortium.tls`) |
| ``coordinator/tls/`` | the server's key and certificates |
| ``coordinator/network.sqlite`` | invitations, enrolments, transport keys (`consortium.network`) |
| ``forms/``, ``genesis.json``, ``signatures/`` | a founding (`consortium.founding`) |
| ``hospitals/ID/`` | in a simulation: one hospital's own folder (`hospital_agent.folder`) |
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
from typing import TYPE_CHECKING

from consortium.errors import HomeMismatch
from consortium.state import replace_file
from ledger.content import ContentStore
from ledger.errors import HomeInUse, HomeInvalid
from ledger.keys import KeyRing
from ledger.membership import COORDINATOR_ROLES

if TYPE_CHECKING:
    from consortium.models import ModelStore


@dataclass(frozen=True)
class Home:
    """One consortium's folder on the coordinator's machine."""

    path: Path

    @property
    def keys(self) -> KeyRing:
        """The coordinator's keys: records and checkpoints.

        Raises:
            KeyInvalid: if one is missing; whoever founds makes them, once.
        """
        return self._open_keys(make=False)

    def make_keys(self) -> KeyRing:
        """The coordinator's keys; those that are missing are made."""
        return self._open_keys(make=True)

    def _open_keys(self, *, make: bool) -> KeyRing:
        return KeyRing.open(self.path / "coordinator" / "keys", COORDINATOR_ROLES, make=make)

    @property
    def content(self) -> ContentStore:
        """Updates, by digest."""
        return ContentStore(self.path / "coordinator" / "content")

    @property
    def models(self) -> "ModelStore":
        """Models, by hash."""
        from consortium.models import ModelStore  # loads torch, which most commands do without

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
        except (TypeError, ValueError):
            raise HomeInvalid(f"{path} is damaged", "restore it, or use a new --home") from None

    def note(self, content: dict[str, object]) -> None:
        """Notes how the consortium is founded."""
        write_json(self.path / "home.json", content)

    def found(self, dataset: str, seed: int, hospitals: dict[str, str]) -> dict[str, object]:
        """Notes what a simulation is founded with, or checks it against the note.

        Raises:
            HomeMismatch: if this home holds another consortium, or one that is no simulation.
        """
        wanted: dict[str, object] = {
            "dataset": dataset, "seed": seed, "hospitals": hospitals, "created": int(time.time())
        }  # fmt: skip
        noted = self.founded()
        if noted is None:
            self.make_keys()
            self.note(wanted)
            return wanted
        if "dataset" not in noted:
            raise HomeMismatch(
                f"{self.path} holds a consortium that no demo founded", "use a new --home"
            )
        if (noted["dataset"], noted["hospitals"]) != (dataset, hospitals):
            count = len(dict(noted["hospitals"]))  # type: ignore[call-overload]
            raise HomeMismatch(
                f"{self.path} holds a consortium of {count} hospitals for {noted['dataset']}",
                "use the same --dataset and --hospitals, or a new --home",
            )
        return noted


def write_json(path: Path, content: object) -> None:
    """Replaces a file of JSON durably."""
    replace_file(path, json.dumps(content, indent=2).encode() + b"\n")


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
            raise HomeInUse(
                f"another process uses {path}", "wait until it is done, or use another --home"
            ) from None
        yield Home(path)
    finally:
        os.close(lock)
