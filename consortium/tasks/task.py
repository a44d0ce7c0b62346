"""A task: schema, model, loss and recipe that every hospital of a job shares.

A recipe fixes what plain gradient descent travels in all, not its step: learning rate = travel /
(rounds * steps). So jobs of 1 and of 1,000 rounds end equally near the optimum, and since the noise
multiplier grows with the root of the number of steps, they carry the same noise.

Validation and test parts are drawn per class, so that a hospital can judge whenever it has the
patients for it: five of each class are drawn wherever a class has fifteen or more.
"""

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np
import numpy.typing as npt

from consortium.tasks.errors import DataMissing
from consortium.tasks.network import Mlp
from consortium.tasks.schema import Feature, Table
from consortium.tasks.thresholds import thresholds_of
from ledger.records import Thresholds
from privacy.accounting import calibrate, claiming
from privacy.contract import PrivacyTerms, check_sample_rate

if TYPE_CHECKING:  # a second that whoever only looks at a table does without
    import pandas as pd
    from torch import Tensor, nn

JUDGEABLE: Final = 5
"""Patients of either class that a hospital needs to judge a model."""

_RATE_UNIT: Final = Decimal("0.000000001")


@dataclass(frozen=True)
class Recipe:
    """Public constants of training that do not depend on epsilon.

    rounds: default of a job. total_steps: least gradient steps over all rounds.
    travel: learning rate times all steps. clip, clipping: see `privacy.contract`.
    """

    rounds: int
    total_steps: int
    travel: Decimal
    clip: Decimal
    clipping: str

    def steps(self, rounds: int) -> int:
        """Gradient steps in each of `rounds` rounds."""
        return max(1, math.ceil(self.total_steps / rounds))

    def learning_rate(self, rounds: int, steps: int) -> Decimal:
        """Step size at which `rounds` rounds of `steps` steps travel the recipe's length."""
        return (self.travel / (rounds * steps)).quantize(_RATE_UNIT).normalize()


@dataclass(frozen=True)
class Site:
    """One hospital's table for a task.

    declared_patients: the size of the training part as declared in public: a round number from
    published facts, never counted from the table.
    """

    id: str
    title: str
    frame: "pd.DataFrame"
    declared_patients: int


@dataclass(frozen=True)
class Split:
    """A hospital's patients by what they are for; nobody is in two parts."""

    train: "pd.DataFrame"
    validation: "pd.DataFrame"
    test: "pd.DataFrame"


def no_public_data(data_dir: Path | None, hospitals: int | None) -> list[Site]:
    """The `load` of a task without one. Raises DataMissing."""
    raise _no_public_data()


def no_parts(site: Site, seed: int) -> Split:
    """The `divide` of a task without one. Raises DataMissing."""
    raise _no_public_data()


def _no_public_data() -> DataMissing:
    return DataMissing(
        "the task has no public patients",
        "give it a `load` and a `divide`, from a public or a generated table: demo, lab and "
        "calibration need them; hospitals do not",
    )


class Inputs(Protocol):
    """What a model is given of a patient: columns of a table, or an image."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one patient's inputs."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the raw columns that they are made of."""
        ...

    def check(self, frame: "pd.DataFrame", label: str | None) -> None:
        """Raise DataInvalid unless the table has these columns, and the label, as they must be."""
        ...

    def encode(self, frame: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """Model inputs, shape [n, *shape], each row of its own patient only."""
        ...

    def to_record(self) -> dict[str, object]:
        """All that decides the inputs, for a fingerprint: strings, integers and lists of them."""
        ...


class Network(Protocol):
    """What a model is built by."""

    def build(self, shape: tuple[int, ...], seed: int) -> "nn.Module":
        """An untrained model: x [n, *shape] -> logits [n, 1], float32; the same for one seed."""
        ...

    def to_record(self) -> dict[str, object]:
        """All that decides the model, for a fingerprint."""
        ...


@dataclass(frozen=True)
class Task:
    """What a job trains: the same bytes, hence the same fingerprint, at every hospital.

    label: the column of outcomes, 1 for disease. network: its model, logistic regression if it is
    left out. load: (data folder, number of hospitals) -> sites. divide: (site, seed) -> parts.
    delta: what a demo's contract states unless it is told otherwise. needs_files: whether the data
    of its sites has to be fetched first. folder: where the task's files are, if it does not come
    with the installation; code: the SHA-256 of the one that defines it. None of the four but the
    code is part of the fingerprint.
    """

    name: str
    title: str
    inputs: Inputs
    label: str
    recipe: Recipe
    load: Callable[[Path | None, int | None], list[Site]] = field(default=no_public_data)
    divide: Callable[[Site, int], Split] = field(default=no_parts)
    network: Network = field(default_factory=Mlp)
    delta: Decimal = Decimal("0.00001")
    needs_files: bool = False
    folder: Path | None = None
    code: str = ""

    @property
    def thresholds(self) -> Thresholds:
        """The limits of a job's checks, as they were calibrated. Raises TaskUncalibrated."""
        return thresholds_of(self.name, self.folder)

    @property
    def features(self) -> tuple[Feature, ...]:
        """The columns of a task of tables; none for other inputs."""
        return self.inputs.features if isinstance(self.inputs, Table) else ()

    def sites(self, data_dir: Path | None = None, hospitals: int | None = None) -> list[Site]:
        """The task's hospitals. Raises DataMissing, DataCorrupt, TaskUnknown."""
        return self.load(data_dir, hospitals)

    def split(self, site: Site, seed: int) -> Split:
        """The hospital's train, validation and test part; the same seed gives the same parts."""
        return self.divide(site, seed)

    def check(self, frame: "pd.DataFrame", labelled: bool = True) -> None:
        """Raise DataInvalid unless the table fits the schema."""
        self.inputs.check(frame, self.label if labelled else None)

    def encode(self, frame: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """Model inputs, shape [n, *inputs.shape]. Raises DataInvalid."""
        self.check(frame, labelled=False)
        return self.inputs.encode(frame)

    def outcomes(self, frame: "pd.DataFrame") -> npt.NDArray[np.float32]:
        """Labels 0 and 1, shape [n]. Raises DataInvalid."""
        import pandas as pd

        self.check(frame)
        return pd.to_numeric(frame[self.label]).to_numpy(dtype=np.float32)

    def tensors(self, frame: "pd.DataFrame") -> "tuple[Tensor, Tensor]":
        """Inputs [n, *inputs.shape] and labels [n], float32. Raises DataInvalid."""
        import torch

        return torch.from_numpy(self.encode(frame)), torch.from_numpy(self.outcomes(frame))

    def model(self, seed: int = 0) -> "nn.Module":
        """An untrained model: x [n, *inputs.shape] -> logits [n, 1], float32."""
        return self.network.build(self.inputs.shape, seed)

    def example(self) -> "Tensor":
        """Inputs of the right shape, [2, *inputs.shape], of no patient."""
        import torch

        return torch.zeros(2, *self.inputs.shape)

    @staticmethod
    def loss(logits: "Tensor", y: "Tensor") -> "Tensor":
        """Cross-entropy of each patient, shape [n], from logits [n, 1] and labels [n]."""
        from torch.nn import functional

        return functional.binary_cross_entropy_with_logits(
            logits.squeeze(1), y.to(logits.dtype), reduction="none"
        )

    def terms(
        self,
        rounds: int,
        epsilon: Decimal | None,
        delta: Decimal,
        declared_patients: int,
        steps: int | None = None,
        sample_rate: Decimal = Decimal(1),
        noise_multiplier: Decimal | None = None,
    ) -> PrivacyTerms:
        """The contract of one hospital's part in a job of `rounds` rounds by this recipe.

        epsilon: of all rounds together, None for a job without noise. noise_multiplier: given, it
        decides, and the claimed epsilon is what it gives. Raises typed errors of `privacy` for
        values that no contract may hold.
        """
        count = self.recipe.steps(max(1, rounds)) if steps is None else steps
        check_sample_rate(sample_rate)
        noise = noise_multiplier
        if noise is None:
            noise = Decimal(0)
            if epsilon is not None:
                noise = calibrate(epsilon, delta, rounds * count, sample_rate)
        terms = PrivacyTerms(
            rounds=rounds,
            steps=count,
            sample_rate=sample_rate,
            noise_multiplier=noise,
            clip=self.recipe.clip,
            learning_rate=self.recipe.learning_rate(max(1, rounds), max(1, count)),
            epsilon=epsilon if noise_multiplier is None else None,
            delta=delta,
            normaliser=declared_patients,
            clipping=self.recipe.clipping,
        )
        if noise_multiplier is not None:
            terms = claiming(terms)
        terms.validate()
        return terms

    def fingerprint(self) -> str:
        """SHA-256, hex, over the canonical JSON of schema, model and recipe."""
        record = {
            "name": self.name,
            "label": self.label,
            "thresholds": self.thresholds.model_dump(),
            "recipe": {name: str(value) for name, value in vars(self.recipe).items()},
            **self.inputs.to_record(),
            **self.network.to_record(),
        }
        if self.code:
            record["code"] = self.code
        text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def draw(labels: Sequence[int], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Which patients go into a part of `share`, shape [n]; drawn within each class.

    At least five of a class that has fifteen or more; otherwise the rounded share.
    """
    values = np.asarray(labels)
    random = np.random.RandomState(seed)
    drawn = np.zeros(len(values), dtype=np.bool_)
    for label in np.unique(values):
        members = np.flatnonzero(values == label)
        count = round(share * len(members))
        if len(members) >= 3 * JUDGEABLE:
            count = max(count, JUDGEABLE)
        drawn[random.permutation(members)[:count]] = True
    return drawn


def divided(frame: "pd.DataFrame", label: str, test: float, validation: float, seed: int) -> Split:
    """The three parts of a table, drawn within each class: the share `test` of all, then the share
    `validation` of the rest; the same seed gives the same parts."""
    drawn = draw(frame[label].tolist(), test, seed)
    rest = frame[~drawn]
    judging = draw(rest[label].tolist(), validation, seed)
    return Split(rest[~judging], rest[judging], frame[drawn])


def declared(published: int, share: float) -> int:
    """A public round number near `share` of a published count: a multiple of 5, at least 5."""
    return max(5, 5 * round(published * share / 5))
