"""The lab's hospitals: a task's real patients, dealt out over as many as are asked for."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import Tensor

from consortium import weights as weight_forms
from consortium.rounds import score
from consortium.rounds.verdict import Validator
from consortium.tasks.task import Site, Split, Task
from ledger.content import Weights
from ledger.keys import KeyRing, Role, SecretKey
from ledger.records import KeyForm, MemberForm, possession_message
from sml.vrf import prove

_DEALING_SEED = 20231


@dataclass(frozen=True)
class Hospital:
    """One hospital: its keys (from its name, so they are no secret) and its patients."""

    name: str
    declared_patients: int
    task: Task = field(repr=False)
    split: Split = field(repr=False)
    keys: KeyRing = field(repr=False)
    train: tuple[Tensor, Tensor] = field(repr=False)

    @staticmethod
    def of(site: Site, task: Task, seed: int) -> "Hospital":
        """A site's hospital; ``seed`` draws its parts."""
        keys = KeyRing(
            {role: SecretKey(role, sha256(f"{site.id}/{role}".encode()).digest()) for role in Role}
        )
        split = task.split(site, seed)
        return Hospital(
            site.id, site.declared_patients, task, split, keys, task.tensors(split.train)
        )

    def member(self) -> MemberForm:
        """How it stands on the ledger."""
        forms = {role: KeyForm.of(self.keys[role].public) for role in Role}
        possession = {}
        for role in Role:
            message, key = possession_message(self.name, role, forms), self.keys[role]
            shown = prove(key.seed, message) if role is Role.VRF else key.sign(message)
            possession[role] = shown.hex()
        return MemberForm(id=self.name, title=self.name.title(), keys=forms, possession=possession)

    @cached_property
    def _validation(self) -> tuple[Tensor, Tensor]:
        return self.task.tensors(self.split.validation)

    def validator(self) -> Validator:
        """Its validation patients, as they judge a model."""
        inputs, labels = self._validation
        return Validator(_wide(labels), lambda models: _logits(self.task, models, inputs))

    def test_auroc(self, weights: Weights) -> float | None:
        """A model on its test patients; None with fewer than five of either class."""
        labels, logits = self.predicted(weights)
        return score.auroc(labels, logits) if score.can_score(labels) else None

    def predicted(self, weights: Weights) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Its test patients' labels, and a model's logits on them, each [n]."""
        inputs, labels = self.task.tensors(self.split.test)
        (logits,) = _logits(self.task, weight_forms.stack([weights]), inputs)
        return _wide(labels), logits


def sites_of(task: Task, data_dir: Path | None, hospitals: int) -> list[Site]:
    """As many sites as are asked for, in the order of their names.

    A task that comes for any number of hospitals deals its patients out itself. Of one whose
    hospitals are real, the first ones take part where fewer are asked for; where more are, those
    whose parts are largest are divided into equal parts, each class apart.

    Raises:
        TaskError: if the data is not there, or no number of hospitals as this can be had.
    """
    if not task.needs_files:
        return sorted(task.sites(data_dir, hospitals), key=lambda site: site.id)
    real = task.sites(data_dir)
    if hospitals <= len(real):
        return sorted(real[:hospitals], key=lambda site: site.id)
    parts = [1] * len(real)
    for _ in range(hospitals - len(real)):
        parts[max(range(len(real)), key=lambda i: len(real[i].frame) / parts[i])] += 1
    dealt = [
        part for site, count in zip(real, parts, strict=True) for part in _dealt(site, task, count)
    ]
    return sorted(dealt, key=lambda site: site.id)


def _dealt(site: Site, task: Task, parts: int) -> Sequence[Site]:
    if parts == 1:
        return [site]
    random = np.random.RandomState(_DEALING_SEED)
    shuffled = site.frame.iloc[random.permutation(len(site.frame))]
    by_class = shuffled.sort_values(task.label, kind="stable")
    declared = max(5, 5 * round(site.declared_patients / parts / 5))
    return [
        replace(
            site, id=f"{site.id}-{i + 1}", declared_patients=declared,
            frame=pd.DataFrame(by_class.iloc[i::parts]).reset_index(drop=True),
        )
        for i in range(parts)
    ]  # fmt: skip


def _logits(task: Task, models: Weights, inputs: Tensor) -> NDArray[np.float64]:
    return weight_forms.predictions(task.model(), models, inputs)


def _wide(values: Tensor) -> NDArray[np.float64]:
    return values.numpy().astype(np.float64)
