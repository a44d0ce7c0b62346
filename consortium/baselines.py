"""What a federated model is compared with, and how: pure functions on tables in one place.

`federated` is the consortium's own round without proofs and without Flower: every hospital trains
from the global model, the new one is the mean of theirs weighted by declared sizes. `local` is a
hospital alone, `pooled` all patients in one table; both without noise, by the same recipe. `pooled`
exists only in simulation: elsewhere data may not be pooled. `majority` predicts the more frequent
outcome.

The released model is the mean of the global models of the last ceil(R / 2) rounds (Polyak, Juditsky
1992): it averages noise away at no cost in privacy, and the rule is public.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from consortium.intervals import auroc_interval, share_interval
from consortium.rounds.aggregation import average_from, average_of_rounds, weighted_mean
from consortium.rounds.score import auroc
from consortium.tasks.task import JUDGEABLE, Split, Task
from consortium.weights import from_torch, of_module, to_torch
from privacy.contract import PrivacyTerms
from privacy.noise import NoiseSource, SecureNoise
from privacy.training import train

if TYPE_CHECKING:
    import pandas as pd

State = dict[str, Tensor]
"""Parameters of a model by name, float32."""


@dataclass(frozen=True)
class Training:
    """A federated training: the released model and the global model after each round."""

    final: State
    rounds: tuple[State, ...]


@dataclass(frozen=True)
class Metrics:
    """A model on one hospital's patients, with 95 % intervals.

    accuracy: at probability one half. auroc: None with fewer than five patients of either class.
    Intervals: `consortium.intervals`.
    """

    accuracy: float
    accuracy_interval: tuple[float, float]
    auroc: float | None
    auroc_interval: tuple[float, float] | None


def federated(
    task: Task,
    splits: Mapping[str, Split],
    terms: Mapping[str, PrivacyTerms],
    noise: Callable[[], NoiseSource] = SecureNoise,
    seed: int = 0,
) -> Training:
    """Train over all hospitals of `splits` by their `terms` (site id -> contract).

    All contracts agree in rounds. Weights are the declared sizes (`normaliser`).
    """
    data = {site: task.tensors(split.train) for site, split in splits.items()}
    sizes = {site: terms[site].normaliser for site in splits}
    source = noise()
    state = _state(task, seed)
    rounds: list[State] = []
    for _ in range(next(iter(terms.values())).rounds):
        trained = {}
        for site, (x, y) in data.items():
            model = task.model(seed)
            model.load_state_dict(state)
            train(model, task.loss, x, y, terms[site], source)
            trained[site] = of_module(model)
        state = to_torch(weighted_mean(trained, sizes))
        rounds.append(state)
    averaged = [from_torch(state) for state in rounds[average_from(len(rounds)) - 1 :]]
    return Training(to_torch(average_of_rounds(averaged)), tuple(rounds))


def local(task: Task, split: Split, declared_patients: int, rounds: int, seed: int = 0) -> State:
    """A hospital's own model alone, without noise, by the task's recipe."""
    terms = task.terms(rounds, None, Decimal("0.00001"), declared_patients)
    return federated(task, {"local": split}, {"local": terms}, seed=seed).final


def pooled(
    task: Task, splits: Sequence[Split], declared_patients: int, rounds: int, seed: int = 0
) -> State:
    """All hospitals' patients in one table, without noise. Only a simulation can do this."""
    import pandas as pd

    train_frame = pd.concat([split.train for split in splits], ignore_index=True)
    together = Split(train_frame, splits[0].validation, splits[0].test)
    return local(task, together, declared_patients, rounds, seed)


def majority(task: Task, split: Split) -> float:
    """Accuracy on the test part of always predicting the training part's more frequent outcome."""
    guess = float(task.outcomes(split.train).mean() > 0.5)
    return float((task.outcomes(split.test) == guess).mean())


def evaluate(task: Task, state: State, frame: "pd.DataFrame") -> Metrics:
    """Accuracy and AUROC of a model on a table. Raises DataInvalid.

    Exact: what leaves a hospital passes the release gate first.
    """
    x, y = task.tensors(frame)
    model = task.model()
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        logits = model(x).squeeze(1).double().numpy()
    return metrics(logits, y.numpy())


def metrics(logits: np.ndarray, y: np.ndarray) -> Metrics:
    """Accuracy and AUROC from logits [n] and outcomes [n]."""
    right = int(((logits > 0) == (y > 0.5)).sum())
    bounds = share_interval(right / len(y), len(y))
    positives = int((y > 0.5).sum())
    negatives = len(y) - positives
    if min(positives, negatives) < JUDGEABLE:
        return Metrics(right / len(y), bounds, None, None)
    area = auroc(y, logits)
    return Metrics(right / len(y), bounds, area, auroc_interval(area, positives, negatives))


def _state(task: Task, seed: int) -> State:
    return _copied(task.model(seed).state_dict())


def _copied(state: Mapping[str, Tensor]) -> State:
    return {name: value.detach().clone() for name, value in state.items()}
