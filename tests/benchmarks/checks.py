"""What the checks on a reveal are worth: honest updates rejected, and copies with noise found.

A copy's figures are for steps of real jobs without noise, four hospitals, to which noise of sigma
times their length is added, then f times the length of what is copied. A threshold is the quantile
of honest pairs under the same noise: at sigma 0 there are only as many as jobs and rounds give.
"""

import os
import sys
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from itertools import combinations
from pathlib import Path

import numpy as np

from consortium import tasks
from consortium import weights as weight_forms
from consortium.contract import JobOrder
from consortium.lab.arena import Arena
from consortium.lab.hospitals import Hospital, sites_of
from consortium.rounds.aggregation import weighted_mean
from consortium.tasks.network import Mlp
from consortium.tasks.task import Task
from ledger.records import ACCEPTED
from privacy.noise import SeededNoise
from privacy.training import train
from tests.benchmarks.run import Figure

HEART = Path(os.environ.get("MEDPOLE_HEART_DATA", Path(__file__).parents[3] / "shared/data/heart"))
DELTAS = {"breast-cancer": "0.00001", "heart-disease": "0.001"}
DRAWS, CHUNK, SPLITS, ROUNDS = 40_000, 4_000, 4, 10


def measure() -> dict[str, Figure]:
    """Rejected honest updates by task, and all figures of copies by size of the model."""
    names = [name for name in DELTAS if name != "heart-disease" or HEART.is_dir()]
    if len(names) < len(DELTAS):
        print(f"no heart data in {HEART}: set MEDPOLE_HEART_DATA", file=sys.stderr)
    figures = {}
    for name in names:
        figures |= honest(name)
    models = [tasks.get("breast-cancer")]
    if "heart-disease" in names:
        heart = tasks.get("heart-disease")
        models = [heart, *models, replace(heart, network=Mlp((16,)))]
    for task in models:
        figures |= copies(task)
    return figures


def honest(name: str) -> dict[str, Figure]:
    """Honest jobs among 4 and 12 hospitals, of 10 and 50 rounds, at epsilon .5, 1 and 3."""
    codes: Counter[str] = Counter()
    for epsilon in ("0.5", "1", "3"):
        for hospitals in (4, 12):
            for rounds in (10, 50):
                order = JobOrder(name, rounds, Decimal(epsilon), Decimal(DELTAS[name]), seed=7)
                arena = Arena.found(order, hospitals, HEART, contributions=False)
                before = Counter(codes)
                for _ in range(rounds):
                    codes.update(arena.play(arena.honest_submissions()).codes.values())
                print(name, epsilon, hospitals, rounds, dict(codes - before), file=sys.stderr)
    total = sum(codes.values())
    return {
        f"honest.{name}.rejected": Figure(total - codes[ACCEPTED], f"of {total:,} honest updates")
    }


def copies(task: Task) -> dict[str, Figure]:
    """Detection at two rates of false alarms, and the area under the ROC curve."""
    steps = plain_steps(task)
    size = steps.shape[2]
    figures = {}
    for sigma in (0, 1, 2):
        alike = honest_pairs(steps, sigma)
        rare, seldom = np.quantile(alike, [1 - 1e-4, 0.99])
        for f in (0, 0.5, 1, 2):
            found = copied_pairs(steps, sigma, f)
            area = np.searchsorted(np.sort(alike), found).mean() / len(alike)
            at = f"copy.{size}.sigma{sigma}.f{f}"
            figures[f"{at}.found_at_1e-4"] = Figure(float((found > rare).mean()), "of copies")
            figures[f"{at}.found_at_1e-2"] = Figure(float((found > seldom).mean()), "of copies")
            figures[f"{at}.roc_area"] = Figure(float(area), "of 1")
    print(f"{task.name}, {size} parameters: done", file=sys.stderr)
    return figures


def plain_steps(task: Task) -> np.ndarray:
    """Steps without noise, [jobs and rounds, 4 hospitals, parameters]."""
    data, found = HEART if task.name == "heart-disease" else None, []
    for split in range(SPLITS):
        hospitals = [Hospital.of(site, task, split) for site in sites_of(task, data, 4)]
        weights = {h.name: h.declared_patients for h in hospitals}
        model = weight_forms.of_module(task.model())
        for _ in range(ROUNDS):
            updates = {}
            for h in hospitals:
                module = task.model()
                module.load_state_dict(weight_forms.to_torch(model))
                terms = task.terms(ROUNDS, None, Decimal("0.001"), h.declared_patients)
                noise = SeededNoise(0, unsafe_no_dp=True)
                train(module, task.loss, *h.train, terms, noise)
                updates[h.name] = weight_forms.of_module(module)
            start = weight_forms.vector(model)
            found.append([weight_forms.vector(update) - start for update in updates.values()])
            model = weighted_mean(updates, weights)
    return np.array(found)


def honest_pairs(steps: np.ndarray, sigma: float) -> np.ndarray:
    """Correlations, without their signs, of all pairs of honest residuals under noise."""
    random = np.random.default_rng(1)
    found = []
    for _ in range(DRAWS // CHUNK if sigma else 1):
        drawn = noised(chosen(steps, random) if sigma else steps, sigma, random)
        for a, b in combinations(range(4), 2):
            outside = [i for i in range(4) if i not in (a, b)]
            found.append(correlations(drawn[:, a], drawn[:, b], drawn[:, outside].sum(axis=1)))
    return np.concatenate(found)


def copied_pairs(steps: np.ndarray, sigma: float, f: float) -> np.ndarray:
    """The same of pairs of which one is a copy of the other, with noise of f times its length."""
    random = np.random.default_rng(2)
    drawn = noised(chosen(steps, random), sigma, random)
    found = []
    for a, b in combinations(range(4), 2):
        outside = [i for i in range(4) if i not in (a, b)]
        copy = noised(drawn[:, a : a + 1], f, random)[:, 0]
        found.append(correlations(drawn[:, a], copy, drawn[:, outside].sum(axis=1)))
    return np.concatenate(found)


def chosen(steps: np.ndarray, random: np.random.Generator) -> np.ndarray:
    return steps[random.integers(0, len(steps), CHUNK)]


def noised(steps: np.ndarray, sigma: float, random: np.random.Generator) -> np.ndarray:
    lengths = np.linalg.norm(steps, axis=2, keepdims=True)
    return steps + sigma * lengths / np.sqrt(steps.shape[2]) * random.normal(size=steps.shape)


def correlations(a: np.ndarray, b: np.ndarray, outside: np.ndarray) -> np.ndarray:
    """`consortium.rounds.checks.near_copy`'s measure, of many pairs at once: [pairs]."""
    square = (outside * outside).sum(axis=1, keepdims=True)
    a, b = (v - (v * outside).sum(axis=1, keepdims=True) / square * outside for v in (a, b))
    return np.abs((a * b).sum(axis=1)) / np.sqrt((a * a).sum(axis=1) * (b * b).sum(axis=1))
