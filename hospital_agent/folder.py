"""A hospital's own folder: keys, policy, cohorts, budget, its copy of the ledger. 0700, on site.

| path | holds |
|---|---|
| ``hospital.json`` | id, title, the ledger that it belongs to |
| ``policy.json`` | what the data owner allows (`hospital_agent.policy`) |
| ``keys/`` | private keys, 0600 (`ledger.keys`) |
| ``keys.next/`` | new keys, until the ledger says that they are in force |
| ``approver.pem`` | the approval key, unless its person keeps it elsewhere |
| ``connection.json``, ``ca.pem`` | where the API is, and the CA that vouches for it |
| ``member.json`` | the public form that stands on the ledger (`hospital_agent.enrolment`) |
| ``approvals.sqlite`` | what was approved here, and by whom (`hospital_agent.approvals`) |
| ``decisions.sqlite`` | jobs that a person approved or refused (`hospital_agent.decisions`) |
| ``pseudonyms/TASK.key`` | the key of a cohort's pseudonyms, 0600 (`hospital_agent.images`) |
| ``cohorts/TASK/`` | ``train.csv``, ``validation.csv``, ``test.csv``, ``cohort.json`` |
| ``budget.sqlite`` | privacy spent, reserved and left (`privacy.budget`) |
| ``rounds.sqlite`` | what a round must not forget between its phases (`hospital_agent.rounds`) |
| ``releases.sqlite`` | test results that were let out (`hospital_agent.releases`) |
| ``replica.sqlite`` | the verified copy of the ledger (`hospital_agent.replica`) |
| ``content/``, ``models/`` | updates and models by digest |
"""

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hospital_agent.errors import FolderInvalid
from ledger.content import ContentStore
from ledger.keys import KeyRing, Role, SecretKey
from privacy.budget import Budget
from privacy.deidentification.pseudonyms import PseudonymKey

if TYPE_CHECKING:
    from consortium.models import ModelStore


class HospitalFolder:
    """Where one hospital keeps what is its own."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def create(path: Path, institution: str, title: str) -> "HospitalFolder":
        """Makes the folder, or opens the one that is there; closes it to others either way.

        Raises:
            FolderInvalid: if it is another institution's.
        """
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
        folder = HospitalFolder(path)
        if not (path / "hospital.json").exists():
            write_json(path / "hospital.json", {"id": institution, "title": title})
        if folder.institution != institution:
            raise FolderInvalid(
                f"this folder belongs to {folder.institution}", "use a folder for each hospital"
            )
        return folder

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return read_json(self.path / "hospital.json")

    @property
    def institution(self) -> str:
        """The institution's id."""
        return str(self._identity["id"])

    @property
    def title(self) -> str:
        """The institution's public name."""
        return str(self._identity["title"])

    @property
    def ledger(self) -> str | None:
        """The ledger that this hospital has pinned, or None before the genesis."""
        return self._identity.get("ledger")

    def pin_ledger(self, ledger: str) -> None:
        """Binds the folder to one ledger, for good.

        Raises:
            FolderInvalid: if it is bound to another one.
        """
        if self.ledger not in (None, ledger):
            raise FolderInvalid(
                "this hospital's folder belongs to another ledger", "use a new folder"
            )
        write_json(self.path / "hospital.json", {**self._identity, "ledger": ledger})
        del self._identity

    @cached_property
    def keys(self) -> KeyRing:
        """The private keys, made on first use, and never again once a ledger holds them."""
        if not (self.path / "keys").exists() and (self.path / "keys.next").exists():
            self._finish_rotation()
        return KeyRing.open(self.path / "keys", make=self.ledger is None)

    def next_keys(self, *, make: bool = False) -> KeyRing | None:
        """The keys that wait to come into force, or None; ``make`` makes them."""
        path = self.path / "keys.next"
        if not path.exists():
            if not make:
                return None
            unfinished = self.path / "keys.unfinished"  # complete, or not there at all
            KeyRing.open(unfinished)
            unfinished.rename(path)
        return KeyRing.open(path, make=False)

    def api_keys(self) -> list[SecretKey]:
        """The keys to show the API: those in force, then those that may be by now."""
        following = self.next_keys()
        return [ring[Role.API] for ring in (self.keys, following) if ring is not None]

    def take_next_keys(self) -> None:
        """Puts the waiting keys into force; the old ones stay beside, as evidence."""
        retired = self.path / f"keys.retired-{self.keys[Role.RECORD].public.key_id}"
        if not (self.path / "keys.next").exists():
            return  # a crash had cut this off, and reading the keys has finished it
        # Two renames. After a crash between them `keys` is missing: the next start goes on there.
        (self.path / "keys").rename(retired)
        self._finish_rotation()

    def _finish_rotation(self) -> None:
        following = self.path / "member.next.json"
        if following.exists():
            following.replace(self.path / "member.json")
        (self.path / "keys.next").rename(self.path / "keys")
        self.__dict__.pop("keys", None)

    def pseudonym_key(self, task: str) -> PseudonymKey:
        """The key of a cohort's pseudonyms, made on first use.

        Raises:
            PseudonymKeyInvalid: if it is damaged, or open to others.
        """
        folder = self.path / "pseudonyms"
        folder.mkdir(mode=0o700, exist_ok=True)
        return PseudonymKey.open(folder / f"{task}.key")

    @cached_property
    def budget(self) -> Budget:
        """The privacy budget."""
        return Budget(self.path / "budget.sqlite")

    @cached_property
    def content(self) -> ContentStore:
        """Updates, by digest of their bytes."""
        return ContentStore(self.path / "content")

    @cached_property
    def models(self) -> "ModelStore":
        """Models, by model hash."""
        from consortium.models import ModelStore  # loads torch, which enrolling does without

        return ModelStore(self.path / "models")


def open_folder(path: Path) -> HospitalFolder:
    """A hospital's folder that is there already.

    Raises:
        FolderInvalid: if it is not one.
    """
    if not (path / "hospital.json").is_file():
        raise FolderInvalid(
            f"{path} is not a hospital's folder",
            "name it with --home; a demo's hospitals are in HOME/hospitals",
        )
    return HospitalFolder(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        FolderInvalid: if the file is missing or damaged.
    """
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise FolderInvalid(
            f"{path.name} is missing or damaged", f"restore {path} from your backup"
        )
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Replaces a JSON file: the old or the new content, never half of it."""
    write_text(path, json.dumps(value, indent=2, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replaces a text file: the old or the new content, never half of it."""
    partial = path.with_name(f".{path.name}.new")
    with partial.open("w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
