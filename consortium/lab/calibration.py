"""What honest rounds of a task look like, and what thresholds follow.

It is run by `consortium task calibrate`.

Rounds are trained as in a deployment (`privacy.training`, on the task's real patients), at several
budgets, lengths and numbers of hospitals, under seeded noise. Beside each update its twin is
trained from the same model without noise: what of it is signal. What is chosen, and how:

- ``reach``: one and a half times the longest twin. A hospital may have half as many patients again
  as it declares.
- ``residual_signal``: four fifths of the least that any setting shows; less, until in no setting
  more honest pairs are taken for copies than chance explains at one in 10,000 (three deviations).
- ``opposition``: the most that any hospital pulls against the others in jobs without noise, of all
  hospitals and with each of them missing in turn; .02 where nobody does, since patients dealt out
  at random are more alike than real hospitals' are.
- ``drop_with_noise``: 1.2 times the least slope that lies above the falls of all honest proofs, as
  most of the other validators see them, beyond ``drop``.

The relative distance r of an update from the model is measured and binds nothing: in the first
round the model is zero and r is not defined, and under strong noise honest updates reach several
times the model's length. What binds the first round is the cap on the step, the commitment and the
proof of the mapping.
"""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import combinations
from math import ceil, floor, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from consortium import tasks
from consortium import weights as weight_forms
from consortium.lab.hospitals import Hospital, sites_of
from consortium.rounds.aggregation import weighted_mean
from consortium.rounds.checks.near_copy import (
    Vector,
    correlation,
    residual,
    signal_to_noise,
    threshold,
)
from consortium.rounds.checks.opposition import along_others
from consortium.rounds.checks.terms import privacy_terms, step_noise, unanimous_step
from consortium.rounds.verdict import Validator
from consortium.tasks.task import Task
from ledger.content import Weights
from ledger.records import Participant, Terms, Thresholds
from privacy.contract import PrivacyTerms
from privacy.noise import SeededNoise
from privacy.training import train

FALSE_ALARM = "0.0001"
DROP = 1500
_LEAST_OPPOSITION = 0.02
_QUANTILES = (0.5, 0.9, 0.99, 0.999, 1.0)
_TOLD = 0.2  # of signal against noise, below which what is left of it cannot be told from chance

Watch = Callable[[str], None]


@dataclass(frozen=True)
class Scope:
    """Which jobs are looked at: their rounds, numbers of hospitals, and seeds of their parts."""

    rounds: tuple[int, ...]
    hospitals: tuple[int, ...]
    seeds: tuple[int, ...]
    epsilons: tuple[str, ...] = ("0.5", "1", "3")


WHOLE = Scope((10, 50), (4, 12), (0, 1))
QUICK = Scope((5,), (4,), (0,))
"""Enough to try a task; its limits come from too few updates to hold in earnest."""


@dataclass(frozen=True)
class _Setting:
    """One job's terms among so many hospitals."""

    rounds: int
    hospitals: tuple[Hospital, ...]
    participants: Mapping[str, Participant]
    plain: Mapping[str, PrivacyTerms]  # the same without noise

    @property
    def weights(self) -> dict[str, int]:
        return {name: p.weight for name, p in self.participants.items()}

    def noise(self, rounds: int) -> dict[str, float]:
        """Standard deviation, at each parameter, of the steps of so many rounds."""
        return {name: step_noise(p) * sqrt(rounds) for name, p in self.participants.items()}


@dataclass(frozen=True)
class _Pair:
    """Two honest steps of a round: how their residuals correlate."""

    one: Participant
    other: Participant
    parameters: int
    correlation: float

    @property
    def signal(self) -> float:
        """Of both against their noise: the product."""
        one, other = (signal_to_noise(p, self.parameters) for p in (self.one, self.other))
        return one * other

    def taken_for_copies(self, residual_signal: float) -> bool:
        """By the threshold that follows."""
        limit = threshold(
            self.one, self.other, self.parameters, float(FALSE_ALARM), residual_signal
        )
        return abs(self.correlation) > limit


@dataclass
class _Seen:
    """What was measured on honest steps, one value for each unless it says otherwise."""

    steps: int = 0
    reach: list[float] = field(default_factory=list)
    r: dict[str, list[float]] = field(default_factory=dict)
    compared: list[list[_Pair]] = field(default_factory=list)  # by setting
    left: list[tuple[float, float]] = field(default_factory=list)  # means of a setting
    opposition: list[float] = field(default_factory=list)
    against: list[float] = field(default_factory=list)  # in standard deviations of noise
    drops: list[tuple[float, float]] = field(default_factory=list)  # (noise over model, fall)

    def add(self, more: "_Seen") -> None:
        """What else was measured, behind what is here."""
        self.steps += more.steps
        for when, values in more.r.items():
            self.r.setdefault(when, []).extend(values)
        for name in ("reach", "compared", "left", "opposition", "against", "drops"):
            getattr(self, name).extend(getattr(more, name))


def calibrate(
    name: str, data_dir: Path | None, watch: Watch = lambda _: None, scope: Scope = WHOLE,
    jobs: int = 1,
) -> dict[str, Any]:  # fmt: skip
    """All that is measured of a task, and the thresholds chosen: what its file holds.

    Raises:
        TaskError: if the task or its data cannot be had.
    """
    task, seen = tasks.get(name), _Seen()
    for count in scope.hospitals:
        sites_of(task, data_dir, count)  # what is not there is said at once
    parts = [
        _Part(name, data_dir, count, seed, rounds, rounds == scope.rounds[0], scope.epsilons)
        for count in scope.hospitals
        for seed in scope.seeds
        for rounds in scope.rounds
    ]
    with _processes(jobs) as looking:
        for part, found in zip(parts, looking(_seen, parts), strict=True):
            seen.add(found)
            watch(f"{part.count} hospitals, {part.rounds} rounds, seed {part.seed}: done")
    return _summary(task, task.delta, scope, seen)


@dataclass(frozen=True)
class _Part:
    """One part of what is looked at. each_missing: also with each hospital missing in turn."""

    name: str
    data_dir: Path | None
    count: int
    seed: int
    rounds: int
    each_missing: bool
    epsilons: tuple[str, ...]


Looking = Callable[[Callable[[_Part], _Seen], list[_Part]], Iterable[_Seen]]


@contextmanager
def _processes(jobs: int) -> Iterator[Looking]:
    """A `map` in so many processes; what it gives does not depend on how many."""
    if jobs == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, context, initializer=_one_thread) as pool:
        yield pool.map


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _seen(part: _Part) -> _Seen:
    task, seen = tasks.get(part.name), _Seen()
    sites = sites_of(task, part.data_dir, part.count)
    hospitals = tuple(Hospital.of(site, task, part.seed) for site in sites)
    setting = _setting(task, hospitals, part.rounds, Decimal(1), task.delta)
    for missing in (None, *hospitals) if part.each_missing else (None,):
        seen.opposition.append(_most_against(task, setting, missing))
    for epsilon in part.epsilons:
        setting = _setting(task, hospitals, part.rounds, Decimal(epsilon), task.delta)
        _look(task, setting, part.seed, seen)
    return seen


def _setting(
    task: Task, hospitals: tuple[Hospital, ...], rounds: int, epsilon: Decimal, delta: Decimal
) -> _Setting:
    terms = {h.name: task.terms(rounds, epsilon, delta, h.declared_patients) for h in hospitals}
    return _Setting(
        rounds,
        hospitals,
        {
            h.name: Participant(
                institution=h.name, weight=h.declared_patients,
                terms=Terms.model_validate(terms[h.name].to_record()),
            )
            for h in hospitals
        },
        {h.name: task.terms(rounds, None, delta, h.declared_patients) for h in hospitals},
    )  # fmt: skip


def _trained(task: Task, h: Hospital, model: Weights, terms: PrivacyTerms, seed: int) -> Weights:
    module = task.model()
    module.load_state_dict(weight_forms.to_torch(model))
    train(module, task.loss, *h.train, terms, SeededNoise(seed, unsafe_no_dp=True))
    return weight_forms.of_module(module)


def _most_against(task: Task, setting: _Setting, missing: Hospital | None) -> float:
    """How far a hospital pulls against the others in a job without noise, at most."""
    there = [h for h in setting.hospitals if h is not missing]
    model: Weights = weight_forms.of_module(task.model())
    pushes = {h.name: np.zeros_like(weight_forms.vector(model)) for h in there}
    most = 0.0
    for round_ in range(1, setting.rounds + 1):
        updates = {h.name: _trained(task, h, model, setting.plain[h.name], 0) for h in there}
        for name, update in updates.items():
            pushes[name] += weight_forms.vector(update) - weight_forms.vector(model)
        model = weighted_mean(updates, setting.weights)
        for name, along in along_others(pushes, setting.noise(round_)).items():
            most = max(most, -along / (round_ * unanimous_step(setting.participants[name])))
    return most


def _look(task: Task, setting: _Setting, seed: int, seen: _Seen) -> None:
    model: Weights = weight_forms.of_module(task.model())
    validators = {h.name: v for h in setting.hospitals if (v := h.validator()).scores}
    pushes: dict[str, Vector] = {}
    compared: list[_Pair] = []
    for round_ in range(1, setting.rounds + 1):
        start = weight_forms.vector(model)
        size = float(np.linalg.norm(start))
        updates, steps = {}, {}
        for place, h in enumerate(setting.hospitals):
            own = setting.participants[h.name]
            chance = 10_000 * (seed + 1) + 100 * round_ + place
            updates[h.name] = _trained(task, h, model, privacy_terms(own), chance)
            steps[h.name] = weight_forms.vector(updates[h.name]) - start
            twin = _trained(task, h, model, setting.plain[h.name], 0)
            signal = weight_forms.vector(twin) - start
            seen.reach.append(float(np.linalg.norm(signal)) / unanimous_step(own))
            pushes[h.name] = pushes.get(h.name, 0) + steps[h.name]
            seen.steps += 1
            if size:
                for when, place_ in (("second", 2), ("last", setting.rounds)):
                    if round_ == place_:
                        r = float(np.linalg.norm(steps[h.name])) / size
                        seen.r.setdefault(when, []).append(r)
                noise = step_noise(own) * sqrt(len(start)) / size
                fall = _fall(validators, h.name, model, updates[h.name])
                if fall is not None:
                    seen.drops.append((noise, fall))
        deviations = setting.noise(round_)
        for name, along in along_others(pushes, deviations).items():
            seen.against.append(-along / deviations[name])
        for a, b in combinations(sorted(steps), 2):
            outside = [step for name, step in steps.items() if name not in (a, b)]
            found = correlation(residual(steps[a], outside), residual(steps[b], outside))
            pair = setting.participants[a], setting.participants[b]
            compared.append(_Pair(*pair, len(start), found))
        model = weighted_mean(updates, setting.weights)
    seen.compared.append(compared)
    strong = [(pair.signal, pair.correlation) for pair in compared if pair.signal > _TOLD]
    if strong:
        signal_, left = np.mean(strong, axis=0)
        seen.left.append((float(signal_), float(left)))


def _fall(
    validators: Mapping[str, Validator], own: str, model: Weights, update: Weights
) -> float | None:
    """What more than half of the others would have to tolerate, of AUROC."""
    falls = sorted(v.auroc(model) - v.auroc(update) for n, v in validators.items() if n != own)
    return falls[(len(falls) - 1) // 2] if len(falls) >= 2 else None


def _summary(task: Task, delta: Decimal, scope: Scope, seen: _Seen) -> dict[str, Any]:
    signal = [product * (1 - rho) / rho for product, rho in seen.left if rho > 0]
    residual_signal = max(1, floor(0.8 * min(signal, default=1.25)))
    while residual_signal > 1 and any(_too_many(s, residual_signal) for s in seen.compared):
        residual_signal -= 1
    beyond = [(fall - DROP / 10_000) / min(noise, 1.0) for noise, fall in seen.drops]
    chosen = Thresholds(
        false_alarm=FALSE_ALARM,
        reach=_up(1.5 * max(seen.reach), 2),
        residual_signal=str(residual_signal),
        opposition=_up(max(_LEAST_OPPOSITION, *seen.opposition), 3),
        drop=DROP,
        drop_with_noise=100 * ceil(1.2 * max(0.0, *beyond) * 100),
    )
    return {
        "task": task.name,
        "inputs": {
            "epsilons": list(scope.epsilons), "delta": str(delta), "rounds": list(scope.rounds),
            "hospitals": list(scope.hospitals), "seeds": list(scope.seeds),
        },
        "counts": {
            "steps": seen.steps, "pairs": sum(map(len, seen.compared)),
            "pairs_taken_for_copies": sum(_alarms(s, residual_signal) for s in seen.compared),
            "falls": len(seen.drops), "jobs_without_noise": len(seen.opposition),
        },
        "quantiles": list(_QUANTILES),
        "measured": {
            "reach": _quantiles(seen.reach),
            "r_second_round": _quantiles(seen.r["second"]),
            "r_last_round": _quantiles(seen.r["last"]),
            "residual_signal_least": round(min(signal, default=0.0), 2),
            "opposition_without_noise": _quantiles(seen.opposition),
            "against_in_noise": _quantiles(seen.against),
            "fall_in_basis_points": _quantiles([10_000 * fall for _, fall in seen.drops]),
        },
        "thresholds": chosen.model_dump(),
    }  # fmt: skip


def _alarms(pairs: Sequence[_Pair], residual_signal: float) -> int:
    return sum(pair.taken_for_copies(residual_signal) for pair in pairs)


def _too_many(pairs: Sequence[_Pair], residual_signal: float) -> bool:
    expected = len(pairs) * float(FALSE_ALARM)
    return _alarms(pairs, residual_signal) > expected + 3 * sqrt(expected)


def _quantiles(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in np.quantile(values, _QUANTILES)]


def _up(value: float, places: int) -> str:
    rounded = Decimal(ceil(value * 10**places)) / 10**places
    return format(rounded.normalize(), "f")
