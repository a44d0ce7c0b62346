"""A hospital's patients for one task: three tables on site, and the id that its budget knows."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from consortium import tasks
from consortium import weights as weight_forms
from consortium.tasks.task import Split
from hospital_agent.errors import CohortMissing, FolderInvalid
from hospital_agent.folder import HospitalFolder, write_json
from hospital_agent.parts import part_file, read_part, write_part
from ledger.content import Weights
from privacy.budget import new_cohort_id

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Cohort:
    """One cohort. ``id`` is random; ``declared_patients`` is the round number that the data owner
    declares in public. Neither says how many patients there are. ``name`` is the hospital's own,
    and stays here, as does ``seed``, which drew the parts (None: the task drew them)."""

    id: str
    task: str
    folder: Path
    declared_patients: int
    name: str
    seed: int | None = None

    @staticmethod
    def add(
        hospital: HospitalFolder, task: str, split: Split, declared: int, limit: Decimal,
        delta: Decimal, name: str = "", seed: int | None = None,
    ) -> "Cohort":  # fmt: skip
        """Stores a checked cohort, whole or not at all, with its lifetime budget open.

        A cohort that is there stays. Where it fails, nothing of it is left, at most the empty
        budget of a cohort that never was; killed, a hidden folder that the next one replaces too.

        Raises:
            TaskError: if the tables do not fit the task's schema.
            PrivacyError: if the budget cannot be opened.
            FolderInvalid: if what is there is damaged.
        """
        folder = hospital.path / "cohorts" / task
        if not (folder / "cohort.json").exists():
            if folder.exists():
                raise FolderInvalid(
                    f"{folder} has lost its cohort.json, which names its budget",
                    "restore it from your backup: with a new budget what is spent would be lost",
                )
            partial = folder.with_name(f".{task}.new")
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True, mode=0o700)
            content = {"id": new_cohort_id(), "declared_patients": declared, "name": name or task}
            try:
                for part in PARTS:
                    frame: pd.DataFrame = getattr(split, part)
                    tasks.get(task).check(frame)
                    write_part(partial, part, tasks.get(task), frame)
                seeded = {} if seed is None else {"seed": seed}
                write_json(partial / "cohort.json", content | seeded)
                # The budget first: patients without one must never be trained on.
                hospital.budget.open_cohort(str(content["id"]), limit, delta)
                _sync_folder(partial)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
            _sync_folder(folder.parent)
        return Cohort.open(hospital, task)

    @staticmethod
    def open(hospital: HospitalFolder, task: str) -> "Cohort":
        """The cohort for a task.

        Raises:
            CohortMissing: if there is none.
        """
        folder = hospital.path / "cohorts" / task
        try:
            content = json.loads((folder / "cohort.json").read_text())
        except (OSError, ValueError):
            raise CohortMissing(
                f"there are no patients here for the task {task}",
                "add them with `hospital-agent data add`",
            ) from None
        return Cohort(
            str(content["id"]), task, folder, int(content["declared_patients"]),
            str(content.get("name", task)), content.get("seed"),
        )  # fmt: skip

    @staticmethod
    def all(hospital: HospitalFolder) -> list["Cohort"]:
        """All cohorts of a hospital, by task."""
        found = (hospital.path / "cohorts").glob("[!.]*/cohort.json")
        return [Cohort.open(hospital, path.parent.name) for path in sorted(found)]

    def budget_of(self, part: str) -> str:
        """The id that the budget knows a part's patients by: nobody is in two parts."""
        if part == "train":
            return self.id
        return hashlib.sha256(f"{self.id} {part}".encode()).hexdigest()[: len(self.id)]

    def frame(self, part: str) -> "pd.DataFrame":
        """The raw table of a part: train, validation or test."""
        return read_part(self.folder, part, tasks.get(self.task))

    def tensors(self, part: str) -> "tuple[Tensor, Tensor]":
        """Encoded inputs, float32 [n, ...], and labels, float32 [n]. Read once, not changed."""
        task = tasks.get(self.task)
        path = part_file(self.folder, part, task)
        return _tensors(self.task, task.code, self.folder, part, path.stat().st_mtime_ns)

    def labels(self, part: str) -> NDArray[np.float64]:
        """Labels as float64 [n]."""
        return self.tensors(part)[1].numpy().astype(np.float64)

    def predictor(self, part: str, seed: int) -> Callable[[Weights], NDArray[np.float64]]:
        """How models predict on a part: weights with a leading axis of m to logits [m, n]."""
        model = tasks.get(self.task).model(seed)
        inputs = self.tensors(part)[0]
        return lambda models: weight_forms.predictions(model, models, inputs)


@lru_cache(maxsize=256)
def _tensors(
    task: str, code: str, folder: Path, part: str, changed: int
) -> "tuple[Tensor, Tensor]":
    known = tasks.get(task)
    return known.tensors(read_part(folder, part, known))


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
