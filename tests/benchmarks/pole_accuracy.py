"""What the Secure Mapping Layer does to a model's quality: expected is nothing; this is a check.

The demo's federated runs, with each hospital's mapping of each round and without, in three
settings: without noise; at epsilon 1 with the same noise, mapped as the model is, so that the two
agree but for rounding; and at epsilon 1 with noise of their own, as in practice. Those are two
different runs, so the mean of their differences is given with its standard error.
"""

import os
import sys
from collections.abc import Callable, Mapping
from decimal import Decimal
from statistics import fmean, stdev

import torch
from torch import Tensor

from consortium import tasks
from consortium.baselines import State, evaluate, federated
from consortium.rounds.aggregation import average_from, average_of_rounds, weighted_mean
from consortium.tasks.task import Split, Task
from consortium.weights import from_torch, to_torch
from privacy.contract import PrivacyTerms
from privacy.noise import NoiseSource, SecureNoise, SeededNoise
from privacy.training import train
from sml.mapping import SecureMapping
from sml.model_groups import groups_for
from sml.vrf import proof_to_hash, prove
from tests.benchmarks.models import HEART
from tests.benchmarks.run import Figure

ROUNDS, SEEDS, SEEDS_OF_OWN_NOISE = 10, range(10), range(60)
Quality = tuple[float, float]
"""Means over hospitals' test patients: AUROC, accuracy."""
NoiseOf = Callable[[SecureMapping], NoiseSource]


def figures() -> dict[str, Figure]:
    """AUROC and accuracy with and without the mapping, by task and setting.

    `sml.auroc_with` and `sml.auroc_without` are means over tasks and seeds, with the same noise.
    """
    names = ["breast-cancer"]
    if HEART.is_dir():
        names.append("heart-disease")
    else:
        print(f"no heart data in {HEART}: set MEDPOLE_HEART_DATA", file=sys.stderr)
    found: dict[str, Figure] = {}
    private = []
    for task in map(tasks.get, names):
        prefix = f"sml.{task.name.split('-')[0]}"
        plain = [paired(task, None, seed, False) for seed in SEEDS]
        same = [paired(task, Decimal(1), seed, True) for seed in SEEDS]
        own = [paired(task, Decimal(1), seed, False) for seed in SEEDS_OF_OWN_NOISE]
        found |= _figures(f"{prefix}.no_noise", plain)
        found |= _figures(f"{prefix}.same_noise", same)
        found |= _figures(f"{prefix}.own_noise", own)
        private += same
    return found | {
        "sml.auroc_with": Figure(fmean(mapped[0] for mapped, _ in private), "of 1"),
        "sml.auroc_without": Figure(fmean(plain[0] for _, plain in private), "of 1"),
    }


def paired(task: Task, epsilon: Decimal | None, seed: int, same: bool) -> tuple[Quality, Quality]:
    """The released model's quality with the mapping, and without, on the same patients.

    same: whether both draw the same noise.
    """
    sites = task.sites(HEART if task.name == "heart-disease" else None)
    splits = {site.id: task.split(site, seed) for site in sites}
    delta = task.delta
    terms = {s.id: task.terms(ROUNDS, epsilon, delta, s.declared_patients) for s in sites}
    shapes = {name: value.shape for name, value in task.model(seed).named_parameters()}
    seeded = SeededNoise(seed, unsafe_no_dp=True)
    mapped = federated_mapped(
        task, splits, terms, seed,
        (lambda q: MappedNoise(seeded, q, shapes)) if same else lambda q: SecureNoise(),
    )  # fmt: skip
    plain = federated(
        task, splits, terms,
        (lambda: SeededNoise(seed, unsafe_no_dp=True)) if same else SecureNoise, seed,
    ).final  # fmt: skip
    return _quality(task, mapped, splits), _quality(task, plain, splits)


class MappedNoise:
    """What a training without the mapping would draw, mapped like the model. Protects nobody."""

    private = False

    def __init__(
        self, noise: SeededNoise, mapping: SecureMapping, shapes: Mapping[str, torch.Size]
    ) -> None:
        self._noise, self._mapping, self._shapes = noise, mapping, shapes

    def normal(self, shape: tuple[int, ...], std: float) -> Tensor:
        """One step's noise, flat in the order of the parameters."""
        sizes = [size.numel() for size in self._shapes.values()]
        parts = torch.split(self._noise.normal(shape, std), sizes)
        shaped = zip(self._shapes.items(), parts, strict=True)
        state = {name: part.view(size) for (name, size), part in shaped}
        mapped = self._mapping.map_state(state)
        return torch.cat([mapped[name].flatten() for name in self._shapes])

    def chosen(self, shape: tuple[int, ...], chance: Decimal) -> Tensor:
        """Patients have no coordinates to map."""
        return self._noise.chosen(shape, chance)


def federated_mapped(
    task: Task, splits: Mapping[str, Split], terms: Mapping[str, PrivacyTerms], seed: int,
    noise_of: NoiseOf,
) -> State:  # fmt: skip
    """`consortium.baselines.federated`, but each update is trained mapped and then un-mapped.

    Q comes from a verifiable random function of the hospital's key, anew in each round.
    """
    data = {site: task.tensors(split.train) for site, split in splits.items()}
    keys = {site: os.urandom(32) for site in splits}
    sizes = {site: terms[site].normaliser for site in splits}
    groups = groups_for(task.model(seed))
    state = dict(task.model(seed).state_dict())
    rounds = []
    for number in range(ROUNDS):
        trained = {}
        for site, (x, y) in data.items():
            beta = proof_to_hash(prove(keys[site], b"round %d" % number))
            mapping = SecureMapping.derive(beta, groups)
            model = task.model(seed)
            model.load_state_dict(mapping.map_state(state))
            train(model, task.loss, mapping.map_inputs(x), y, terms[site], noise_of(mapping))
            trained[site] = from_torch(mapping.unmap_state(model.state_dict()))
        rounds.append(weighted_mean(trained, sizes))
        state = to_torch(rounds[-1])
    return to_torch(average_of_rounds(rounds[average_from(ROUNDS) - 1 :]))


def _quality(task: Task, state: State, splits: Mapping[str, Split]) -> Quality:
    each = [evaluate(task, state, split.test) for split in splits.values()]
    return fmean(m.auroc for m in each if m.auroc is not None), fmean(m.accuracy for m in each)


def _figures(name: str, pairs: list[tuple[Quality, Quality]]) -> dict[str, Figure]:
    found = {}
    for place, what in enumerate(("auroc", "accuracy")):
        differences = [mapped[place] - plain[place] for mapped, plain in pairs]
        found[f"{name}.{what}"] = Figure(
            fmean(mapped[place] for mapped, _ in pairs), "of 1",
            "without the mapping", fmean(plain[place] for _, plain in pairs),
        )  # fmt: skip
        found[f"{name}.{what}_difference"] = Figure(
            fmean(differences), "of 1",
            "its standard error", stdev(differences) / len(differences) ** 0.5,
        )  # fmt: skip
    return found
