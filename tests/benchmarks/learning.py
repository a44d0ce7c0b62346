"""What helps at the same epsilon: the recipe beside other ways to train, on validation patients.

Each way is compared with the task's recipe on the same splits and the same seeds of the noise. The
patients that it is scored on are the validation parts of splits with seeds from 1000 on: for heart
disease drawn out of FLamby's training parts, so that its test parts are never seen. Constants that
a way needs were not searched for beyond what the table shows.
"""

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from functools import cache
from typing import Any, Final

import numpy as np
import pandas as pd

from consortium import tasks
from consortium.tasks.task import Site, Task
from privacy.contract import PrivacyTerms
from tests.benchmarks import models, models_report
from tests.benchmarks.quality import Floats, Outcome, Scores, mean_interval
from tests.benchmarks.run import Figure
from tests.benchmarks.variants import Part, Way, recalibrated, train

FIGURES: Final = models.DOCS / "benchmarks/learning.json"
EPSILON: Final = Decimal(1)
DRAWS: Final = 8
SEEDS: Final[Mapping[str, range]] = {
    "heart-disease": range(1000, 1060),
    "breast-cancer": range(1000, 1040),
}
_DELTA: Final = {
    "heart-disease": Decimal(models.HEART_DELTA),
    "breast-cancer": Decimal(models.BREAST_DELTA),
}
_CLAMP: Final = 3.0

Encode = Callable[[Task, pd.DataFrame, pd.DataFrame], Floats]
"""(task, training part, patients) -> inputs [n, d]."""

Terms = Callable[[Task, int, Decimal], PrivacyTerms]
"""(task, declared patients, delta) -> a hospital's terms."""


def _encoded(task: Task, train: pd.DataFrame, patients: pd.DataFrame) -> Floats:
    return task.encode(patients).astype(np.float64)


def _standardised(task: Task, train: pd.DataFrame, patients: pd.DataFrame) -> Floats:
    """By the hospital's own means and deviations, whose privacy nobody pays for here."""
    own = task.encode(train).astype(np.float64)
    x = (task.encode(patients) - own.mean(axis=0)) / (own.std(axis=0) + 1e-9)
    return np.clip(x, -_CLAMP, _CLAMP)


def _with_missing(task: Task, train: pd.DataFrame, patients: pd.DataFrame) -> Floats:
    missing = patients[["chol", "trestbps"]].isna().to_numpy(dtype=np.float64)
    return np.hstack([task.encode(patients), missing])


def _uncentred(task: Task, train: pd.DataFrame, patients: pd.DataFrame) -> Floats:
    """Columns of 0 and 1 as they are, where the task puts the middle at one half."""
    ends = [Decimal(0), Decimal(1)]
    shift = [0.5 if [f.low, f.high] == ends else 0.0 for f in task.features for _ in range(f.width)]
    return task.encode(patients) + np.array(shift)


def _recipe(
    rounds: int = 0, steps: int = 0, sample_rate: str = "1", travel: str = "1", clipping: str = "",
    clip: str = "1", epsilon: Decimal | None = EPSILON,
) -> Terms:  # fmt: skip
    """The task's terms with what is named changed; travel: times the recipe's."""

    def terms(task: Task, patients: int, delta: Decimal) -> PrivacyTerms:
        found = task.terms(
            rounds or task.recipe.rounds, epsilon, delta, patients, steps=steps or None,
            sample_rate=Decimal(sample_rate),
        )  # fmt: skip
        return replace(
            found,
            learning_rate=found.learning_rate * Decimal(travel),
            clipping=clipping or found.clipping,
            clip=found.clip * Decimal(clip),
        )

    return terms


_AS_IS: Final = Way()


@dataclass(frozen=True)
class Variant:
    """One way to train. only: the task that it makes sense for; empty for any.

    recalibrate: each hospital fits slope and intercept to its own training part afterwards.
    """

    name: str
    terms: Terms = field(default_factory=_recipe)
    way: Way = _AS_IS
    encode: Encode = _encoded
    recalibrate: bool = False
    only: str = ""


RECIPE: Final = Variant("the recipe")
VARIANTS: Final = (
    Variant("no noise", _recipe(epsilon=None)),
    Variant("z-scores by each hospital's own patients", encode=_standardised),
    Variant("0/1 columns not centred", encode=_uncentred, only="heart-disease"),
    Variant("columns that say what is missing", encode=_with_missing, only="heart-disease"),
    Variant("random start, within .27", way=Way(start=0.27)),
    Variant("random start, within 1", way=Way(start=1.0)),
    Variant("100 steps, same travel", _recipe(steps=10)),
    Variant("500 steps, same travel", _recipe(steps=50)),
    Variant("100 steps, same learning rate", _recipe(steps=10, travel="5")),
    Variant("half the travel", _recipe(travel="0.5")),
    Variant("twice the travel", _recipe(travel="2")),
    Variant("the last round's model, not the mean of half", way=Way(average=False)),
    Variant("flat clipping at 1", _recipe(clipping="flat")),
    Variant("flat clipping at .5, twice the travel",
            _recipe(clipping="flat", clip="0.5", travel="2")),
    Variant("Poisson batches of a quarter, 20 steps", _recipe(sample_rate="0.25")),
    Variant("Poisson batches of a quarter, 80 steps", _recipe(sample_rate="0.25", steps=8)),
    Variant("FedProx, mu .01", way=Way(prox=0.01)),
    Variant("FedProx, mu .1", way=Way(prox=0.1)),
    Variant("server momentum .5", way=Way(server="momentum", momentum=0.5, server_rate=0.5)),
    Variant("server momentum .9", way=Way(server="momentum", momentum=0.9, server_rate=0.3)),
    Variant("FedAdam, server rate .1", way=Way(server="adam", server_rate=0.1)),
    Variant("FedAdam, server rate .3", way=Way(server="adam", server_rate=0.3)),
    Variant("each hospital recalibrates for itself", recalibrate=True),
    Variant("flat clipping at 1, and recalibrated", _recipe(clipping="flat"), recalibrate=True),
)  # fmt: skip


def measure() -> dict[str, Figure]:
    """Runs every way on both tasks, writes `FIGURES` and the report."""
    begun = time.monotonic()
    data = {name: _task(name) for name in SEEDS}
    FIGURES.parent.mkdir(exist_ok=True)
    FIGURES.write_text(json.dumps(models.rounded(data), indent=1) + "\n")
    stored = json.loads(FIGURES.read_text())
    models_report.write(models.DOCS / "benchmarks.md", "learning", render(stored))
    figures = {"learning.seconds": Figure(time.monotonic() - begun, "s")}
    for task, rows in stored.items():
        short = task.split("-")[0]
        base = rows[0]
        for row in rows[1:]:
            name = "_".join("".join(c if c.isalnum() else " " for c in row["name"]).split())
            for what in ("average", "auroc"):
                figures[f"learning.{short}.{name}.{what}"] = Figure(
                    base[what] + row[what], "of 1", "the recipe", base[what]
                )
    return figures


def render(data: dict[str, Any]) -> str:
    """The area's tables, as Markdown."""
    head = ["accuracy, average of 4", "AUROC, all patients", "ECE"]
    parts = []
    for task, (base, *rows) in data.items():
        lines = [[base["name"], *(models_report.short(base[what]) for what in _SHOWN)]]
        for row in rows:
            cells = [row["name"]]
            for what in _SHOWN:
                low, high = map(models_report.signed, row[f"{what}_interval"])
                cells.append(f"{models_report.signed(row[what])} ({low} to {high})")
            lines.append(cells)
        parts.append(
            models_report.table([f"{task}, epsilon 1: change against the recipe", *head], lines)
        )
    return "\n" + "\n".join(parts)


_SHOWN: Final = ("average", "auroc", "ece")


@dataclass(frozen=True)
class _Hospital:
    """Inputs [n, d] and outcomes [n] of a hospital's training and validation part."""

    x: Floats
    y: Floats
    validation: Floats
    outcomes: Floats


def _task(name: str) -> list[dict[str, Any]]:
    task = tasks.get(name)
    sites = task.sites(models.HEART)
    base = _scores(task, sites, RECIPE)
    rows: list[dict[str, Any]] = [
        {"name": RECIPE.name} | {what: float(base[what].mean()) for what in _SHOWN}
    ]
    for variant in VARIANTS:
        if variant.only in ("", name):
            change = _scores(task, sites, variant) - base
            row: dict[str, Any] = {"name": variant.name}
            for what in _SHOWN:
                row[what] = float(change[what].mean())
                row[f"{what}_interval"] = mean_interval(change[what].to_numpy())
            rows.append(row)
            print(name, variant.name, {w: round(row[w], 4) for w in _SHOWN}, file=sys.stderr)
    return rows


def _scores(task: Task, sites: Sequence[Site], variant: Variant) -> pd.DataFrame:
    """Scores on the validation parts, a row a split, each the mean of `DRAWS` draws."""
    terms = [variant.terms(task, site.declared_patients, _DELTA[task.name]) for site in sites]
    rows = []
    for seed, hospitals in _prepared(task.name, variant.encode).items():
        parts = [Part(h.x, h.y, own) for h, own in zip(hospitals, terms, strict=True)]
        found = train(parts, variant.way, [DRAWS * seed + drawn for drawn in range(DRAWS)])
        rows.append(Scores.of([_outcome(found, h, variant) for h in hospitals]).means())
    return pd.DataFrame(rows)


def _outcome(found: Floats, hospital: _Hospital, variant: Variant) -> Outcome:
    weights, intercept = found[:, :-1], found[:, -1:]
    logits = weights @ hospital.validation.T + intercept
    if variant.recalibrate:
        logits = recalibrated(weights @ hospital.x.T + intercept, hospital.y, logits)
    return Outcome(logits, hospital.outcomes)


@cache
def _prepared(name: str, encode: Encode) -> dict[int, list[_Hospital]]:
    """The hospitals of each seed's split; encoding takes longer than training."""
    task = tasks.get(name)
    sites = task.sites(models.HEART)
    return {seed: [_hospital(task, site, encode, seed) for site in sites] for seed in SEEDS[name]}


def _hospital(task: Task, site: Site, encode: Encode, seed: int) -> _Hospital:
    split = task.split(site, seed)
    return _Hospital(
        encode(task, split.train, split.train),
        task.outcomes(split.train).astype(np.float64),
        encode(task, split.train, split.validation),
        task.outcomes(split.validation).astype(np.float64),
    )
