"""Quality of the models: on FLamby's heart-disease benchmark, on re-splits, on breast cancer.

Ours is the product's own recipe and trainer: `Task.terms`, `consortium.baselines.federated`, which
is a job's arithmetic without proofs and without Flower; over many splits and draws of the noise
`variants.train`, which a test holds to be the same. Validation patients are taken out of the
training part, as in a job. Noise is seeded, so that the figures come out again.

The figures go into `FIGURES`; table and picture are made of that file (`models_report`,
`models_plot`).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from consortium import baselines, tasks
from consortium.tasks.errors import DataMissing
from consortium.tasks.heart_disease import FLAMBY_TEST_SHARE
from consortium.tasks.task import Site, Split, Task, draw
from privacy.contract import PrivacyTerms
from privacy.noise import SeededNoise
from tests.benchmarks import flamby, models_plot, models_report
from tests.benchmarks.quality import (
    Floats,
    Outcome,
    Scores,
    auroc_gain,
    aurocs,
    average_interval,
    mean_interval,
    together,
)
from tests.benchmarks.run import Figure
from tests.benchmarks.variants import Part, Way, recalibrated, train

HEART: Final = Path(
    os.environ.get("MEDPOLE_HEART_DATA", Path(__file__).parents[3] / "shared/data/heart")
)
DOCS: Final = Path(__file__).parents[2] / "docs"
FIGURES: Final = DOCS / "benchmarks/models.json"
PLOT: Final = DOCS / "images/models-flamby.svg"

SEEDS: Final = range(20)
RESPLITS: Final = range(30)
DRAWS: Final = 8
HEART_DELTA: Final = "0.0001"
BREAST_DELTA: Final = "0.00001"
EPSILONS: Final[Mapping[str, str | None]] = {"nodp": None, "eps3": "3", "eps1": "1", "eps05": "0.5"}
NOISY: Final = ("nodp", "eps3", "eps1")
_VALIDATION_SHARE: Final = 0.20

Data = dict[str, Any]
Divide = Callable[[Site, int], Split]


def measure() -> dict[str, Figure]:
    """Runs everything, writes `FIGURES`, the report and the picture."""
    if not HEART.is_dir():
        raise DataMissing(
            "the heart data is not there",
            "run `consortium data fetch heart-disease`, and set MEDPOLE_HEART_DATA to its folder",
        )
    begun = time.monotonic()
    data = {
        "flamby": _flamby(), "heart": _heart(), "resplits": _resplits(), "breast": _breast(),
    }  # fmt: skip
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(rounded(data), indent=1) + "\n")
    stored = json.loads(FIGURES.read_text())
    models_report.write(DOCS / "benchmarks.md", "models", models_report.render(stored))
    PLOT.write_text(models_plot.svg(stored))
    return figures(stored) | {"models.seconds": Figure(time.monotonic() - begun, "s")}


def federated(
    task: Task, splits: Mapping[str, Split], sites: Sequence[Site], epsilon: str | None,
    delta: str, seed: int,
) -> baselines.State:  # fmt: skip
    """The model that a job of these hospitals releases; the noise is of `seed`."""
    terms = contracts(task, sites, epsilon, delta)
    noise = partial(SeededNoise, seed, unsafe_no_dp=True)
    return baselines.federated(task, splits, terms, noise).final


def contracts(
    task: Task, sites: Sequence[Site], epsilon: str | None, delta: str
) -> dict[str, PrivacyTerms]:
    """The hospitals' terms in a job by the task's recipe."""
    claimed = None if epsilon is None else Decimal(epsilon)
    return {
        site.id: task.terms(task.recipe.rounds, claimed, Decimal(delta), site.declared_patients)
        for site in sites
    }


def resplit(task: Task) -> Divide:
    """Parts drawn anew from all patients, in the shares of FLamby's split."""

    def divide(site: Site, seed: int) -> Split:
        test = draw(site.frame[task.label].tolist(), FLAMBY_TEST_SHARE, seed)
        rest = site.frame[~test]
        validation = draw(rest[task.label].tolist(), _VALIDATION_SHARE, seed)
        return Split(rest[~validation], rest[validation], site.frame[test])

    return divide


def outcomes(
    task: Task, states: Sequence[Sequence[baselines.State]], tests: Sequence[pd.DataFrame]
) -> list[Outcome]:
    """What each run's models, one a hospital, say of the hospitals' test parts."""
    found = []
    for place, test in enumerate(tests):
        x, y = task.encode(test).astype(np.float64), task.outcomes(test).astype(np.float64)
        runs = [x @ s[place]["weight"].numpy()[0] + s[place]["bias"].numpy() for s in states]
        found.append(Outcome(np.stack(runs), y))
    return found


# FLamby's benchmark


def _flamby() -> Data:
    _say("FLamby's rows")
    ends = np.cumsum([len(site.test.y) for site in flamby.hospitals(HEART)])[:-1]
    rows = {}
    for name, row in flamby.reproduce(HEART).items():
        right, own = (
            np.split(each.astype(np.float64), ends, axis=1) for each in (row.right, row.own_right)
        )
        rows[name] = {
            "average": float(row.average.mean()),
            "average_sd": float(row.average.std()),
            "average_interval": average_interval(right),
            "pooled": float(row.pooled.mean()),
            "own_average": float(row.own_average.mean()),
            "own_average_sd": float(row.own_average.std()),
            "own_average_interval": average_interval(own),
            "own_pooled": float(row.own_pooled.mean()),
        }
    return rows | {"majority": {"average": flamby.majority(HEART)}}


def _heart() -> Data:
    task = tasks.get("heart-disease")
    sites = task.sites(HEART)
    divided = [{site.id: task.split(site, seed) for site in sites} for seed in SEEDS]
    tests = [split.test for split in divided[0].values()]  # the same for every seed
    found = {}
    for name, epsilon in EPSILONS.items():
        _say(f"heart disease, FLamby's split, {name}")
        states = [
            [federated(task, splits, sites, epsilon, HEART_DELTA, seed)] * len(sites)
            for seed, splits in zip(SEEDS, divided, strict=True)
        ]
        found[name] = outcomes(task, states, tests)
    _say("heart disease, FLamby's split: alone, pooled")
    found["alone"] = outcomes(task, [_alone(task, sites, s) for s in divided], tests)
    found["pooled"] = outcomes(task, [_pooled(task, sites, s) for s in divided], tests)
    return {
        "rows": {name: _summary(each) for name, each in found.items()},
        "majority": float(
            np.mean([baselines.majority(task, split) for split in divided[0].values()])
        ),
        "hospitals": [
            _hospital(site, {name: each[place] for name, each in found.items()})
            for place, site in enumerate(sites)
        ],
    }


def _summary(found: Sequence[Outcome]) -> Data:
    """Means and deviations over the runs, and intervals over the patients."""
    scores = Scores.of(found)
    return {
        **scores.means(),
        "average_sd": float(scores.average.std()),
        "auroc_sd": float(scores.auroc.std()),
        "average_interval": average_interval([outcome.right for outcome in found]),
        "auroc_interval": auroc_gain(together(found))[1],
    }


def _hospital(site: Site, found: Mapping[str, Outcome]) -> Data:
    row: Data = {"title": site.title, "patients": len(found["alone"].y)}
    for name in ("alone", "nodp", "eps1"):
        row[name] = {"accuracy": float(found[name].right.mean())}
        if found[name].judgeable:
            row[name]["auroc"] = auroc_gain(found[name])[0]
            if name != "alone":
                gain, interval = auroc_gain(found[name], found["alone"])
                row[name] |= {"gain": gain, "gain_interval": interval}
    return row


def _alone(task: Task, sites: Sequence[Site], splits: Mapping[str, Split]) -> list[baselines.State]:
    return [
        baselines.local(task, splits[site.id], site.declared_patients, task.recipe.rounds)
        for site in sites
    ]


def _pooled(
    task: Task, sites: Sequence[Site], splits: Mapping[str, Split]
) -> list[baselines.State]:
    patients = sum(site.declared_patients for site in sites)
    state = baselines.pooled(task, list(splits.values()), patients, task.recipe.rounds)
    return [state] * len(sites)


# other splits


def _resplits() -> Data:
    _say("heart disease, re-splits")
    task = tasks.get("heart-disease")
    sites = task.sites(HEART)
    return _over_splits(task, sites, resplit(task), RESPLITS, HEART_DELTA)


def _breast() -> Data:
    _say("breast cancer")
    task = tasks.get("breast-cancer")
    sites = task.sites()
    return _over_splits(task, sites, task.split, SEEDS, BREAST_DELTA)


def _over_splits(
    task: Task, sites: Sequence[Site], divide: Divide, seeds: Sequence[int], delta: str
) -> Data:
    """Means over splits, each the mean of `DRAWS` draws of the noise, and what noise costs.

    Intervals are Student's, over the splits.
    """
    scores: dict[str, list[dict[str, float]]] = {}
    gains: dict[str, list[list[float]]] = {site.title: [] for site in sites}
    for seed in seeds:
        found = _of_split(task, sites, {site.id: divide(site, seed) for site in sites}, delta, seed)
        for name, each in found.items():
            scores.setdefault(name, []).append(Scores.of(each).means())
        for place, site in enumerate(sites):
            if found["alone"][place].judgeable:
                alone = aurocs(found["alone"][place]).mean()
                gains[site.title].append([aurocs(found[n][place]).mean() - alone for n in NOISY])
    tables = {name: pd.DataFrame(rows) for name, rows in scores.items()}
    base = tables["nodp"]
    rows: Data = {}
    for name, table in tables.items():
        rows[name] = {column: float(table[column].mean()) for column in table} | {
            f"{column}_interval": mean_interval(table[column].to_numpy())
            for column in ("average", "auroc")
        }
        if name in ("eps3", "eps1"):
            for column in ("average", "auroc", "auroc_hospitals"):
                lost = (base[column] - table[column]).to_numpy()
                rows[name][f"{column}_lost"] = float(lost.mean())
                rows[name][f"{column}_lost_interval"] = mean_interval(lost)
    return {
        "splits": len(seeds),
        "draws": DRAWS,
        "rows": rows,
        "gains": {
            title: {
                name: {"gain": float(values.mean()), "gain_interval": mean_interval(values)}
                for name, values in zip(NOISY, np.array(of_splits).T, strict=True)
            }
            for title, of_splits in gains.items()
            if of_splits
        },
    }


def _of_split(
    task: Task, sites: Sequence[Site], splits: Mapping[str, Split], delta: str, seed: int
) -> dict[str, list[Outcome]]:
    """By the model's name what it says of each hospital's test part, a run a draw of the noise."""
    tests = [split.test for split in splits.values()]
    draws = [1000 * seed + drawn for drawn in range(DRAWS)]
    released = {
        name: train(_parts(task, splits, sites, name, delta), Way(), draws) for name in NOISY
    }
    found = {name: _linear(task, model, tests) for name, model in released.items()}
    own = _linear(
        task, released["eps1"], [pd.concat([s.train, s.validation]) for s in splits.values()]
    )
    found["recalibrated"] = [
        Outcome(recalibrated(fitted.logits, fitted.y, asked.logits), asked.y)
        for fitted, asked in zip(own, found["eps1"], strict=True)
    ]
    found["alone"] = outcomes(task, [_alone(task, sites, splits)], tests)
    return found


def _parts(
    task: Task, splits: Mapping[str, Split], sites: Sequence[Site], name: str, delta: str
) -> list[Part]:
    terms = contracts(task, sites, EPSILONS[name], delta)
    return [
        Part(
            task.encode(split.train).astype(np.float64),
            task.outcomes(split.train).astype(np.float64),
            terms[site],
        )
        for site, split in splits.items()
    ]


def _linear(task: Task, models: Floats, tests: Sequence[pd.DataFrame]) -> list[Outcome]:
    """What models [runs, d + 1] say of the hospitals' patients."""
    return [
        Outcome(
            models[:, :-1] @ task.encode(test).astype(np.float64).T + models[:, -1:],
            task.outcomes(test).astype(np.float64),
        )
        for test in tests
    ]


# figures


def figures(data: Data) -> dict[str, Figure]:
    """What goes into build/bench.json, from the content of `FIGURES`."""
    found = {}
    for name, row in data["flamby"].items():
        published = PUBLISHED_AS[name]
        found[f"heart.flamby.{name}.reproduced"] = Figure(
            row["average"], "of 1, average of 4", "published", published.average
        )
        if published.pooled is not None:
            found[f"heart.flamby.{name}.reproduced_pooled"] = Figure(
                row["pooled"], "of 1, all test patients", "published", published.pooled
            )
    fedavg, pooled = data["flamby"]["fedavg"], data["flamby"]["pooled"]
    found["heart.flamby.pooled.own_scaling"] = Figure(
        pooled["own_average"], "of 1, average of 4", "as published", pooled["average"]
    )
    for name, row in data["heart"]["rows"].items():
        at = f"heart.flamby.{name}"
        peer = "FLamby's FedAvg without DP, run here"
        found[f"{at}.accuracy"] = Figure(
            row["average"], "of 1, average of 4", peer, fedavg["average"]
        )
        found[f"{at}.accuracy_pooled"] = Figure(
            row["accuracy"], "of 1, all test patients", peer, fedavg["pooled"]
        )
        for what in ("balanced", "auroc", "auroc_hospitals", "ece"):
            found[f"{at}.{what}"] = Figure(row[what], "of 1")
    for area, part in (("heart.resplits", data["resplits"]), ("breast", data["breast"])):
        for name, row in part["rows"].items():
            paired = name in ("eps3", "eps1")
            for what, column in (
                ("accuracy", "average"), ("auroc", "auroc"), ("auroc_hospitals", "auroc_hospitals"),
            ):  # fmt: skip
                found[f"{area}.{name}.{what}"] = Figure(
                    row[column],
                    "of 1",
                    "same splits without noise" if paired else None,
                    part["rows"]["nodp"][column] if paired else None,
                )
                if paired:
                    found[f"{area}.{name}.{what}_lost"] = Figure(row[f"{column}_lost"], "of 1")
    return found


PUBLISHED_AS: Final = {
    "local": flamby.PUBLISHED[2],
    "pooled": flamby.PUBLISHED[0],
    "fedavg": flamby.PUBLISHED[6],
    "majority": flamby.PUBLISHED[3],
}


def rounded(data: Any) -> Any:
    """The same with every number at four places, so that the file says what the table can."""
    if isinstance(data, dict):
        return {name: rounded(value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [rounded(value) for value in data]
    return round(data, 4) if isinstance(data, float) else data


def _say(what: str) -> None:
    print(what, file=sys.stderr)
