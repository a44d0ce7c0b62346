"""A hospital's patients for one task: three tables on site, and the id that its budget knows."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from consortium import tasks
from consortium import weights as weight_forms
from consortium.tasks.task import Split
from hospital_agent.errors import CohortMissing
from hospital_agent.folder import HospitalFolder, write_json
from ledger.content import Weights
from privacy.budget import new_cohort_id

PARTS = ("train", "validation", "test")


@dataclass(frozen=True)
class Cohort:
    """One cohort. ``id`` is random; ``declared_patients`` is the round number that the data owner
    declares in public. Neither says how many patients there are."""

    id: str
    task: str
    folder: Path
    declared_patients: int

    @staticmethod
    def add(
        hospital: HospitalFolder, task: str, split: Split, declared: int, limit: Decimal,
        delta: Decimal,
    ) -> "Cohort":  # fmt: skip
        """Stores a checked cohort and opens its lifetime budget; a cohort that is there stays.

        Raises:
            TaskError: if the tables do not fit the task's schema.
            PrivacyError: if the budget cannot be opened.
        """
        folder = hospital.path / "cohorts" / task
        if not (folder / "cohort.json").exists():
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            for part in PARTS:
                frame: pd.DataFrame = getattr(split, part)
                tasks.get(task).check(frame)
                frame.to_csv(folder / f"{part}.csv", index=False)
            write_json(
                folder / "cohort.json", {"id": new_cohort_id(), "declared_patients": declared}
            )
        cohort = Cohort.open(hospital, task)
        if cohort.id not in hospital.budget.cohorts():
            hospital.budget.open_cohort(cohort.id, limit, delta)
        return cohort

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
                f"there are no patients here for the task {task}", "add them to this hospital first"
            ) from None
        return Cohort(str(content["id"]), task, folder, int(content["declared_patients"]))

    def frame(self, part: str) -> pd.DataFrame:
        """The raw table of a part: train, validation or test."""
        return pd.read_csv(self.folder / f"{part}.csv")

    def tensors(self, part: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Encoded inputs, float32 [n, d], and labels, float32 [n]."""
        return tasks.get(self.task).tensors(self.frame(part))

    def labels(self, part: str) -> NDArray[np.float64]:
        """Labels as float64 [n]."""
        return self.tensors(part)[1].numpy().astype(np.float64)

    def predictor(self, part: str, seed: int) -> Callable[[Weights], NDArray[np.float64]]:
        """How a model predicts on a part: weights to logits, float64 [n]."""
        model = tasks.get(self.task).model(seed)
        inputs = self.tensors(part)[0]

        def predict(weights: Weights) -> NDArray[np.float64]:
            model.load_state_dict(weight_forms.to_torch(weights))
            with torch.no_grad():
                logits: torch.Tensor = model(inputs).squeeze(1)
            return logits.numpy().astype(np.float64)

        return predict
