"""The image task: what a matched filter finds, and the trained model, over five sets of patients.

Each seed has other generated patients, another split, another start and other noise; seed 0 has the
patients that the task comes with. Scores are pooled over the four hospitals' test patients, so that
one threshold has to serve all scanners.
"""

import sys
import time
from decimal import Decimal
from functools import partial
from statistics import fmean, stdev

import numpy as np
import numpy.typing as npt
import torch
from scipy.signal import fftconvolve
from sklearn.metrics import roc_auc_score

from consortium import baselines
from consortium.tasks.lesion_image import EDGE, LESION_IMAGE, RADII, SEED, generated
from consortium.tasks.task import Site, Split
from privacy.noise import SeededNoise
from tests.benchmarks.run import Figure

SEEDS = range(5)
APART = 1000
"""Between the generator's seeds of two sets of patients."""

EPSILONS = {"nodp": None, "eps8": Decimal(8), "eps3": Decimal(3)}
TEMPLATES = (0.5, 1.0, 1.5, 2.0, 3.0, *np.linspace(*RADII, 3))
"""Radii that the filter is tried with: those of lesions, and down to those of their patches."""


def measure() -> dict[str, Figure]:
    """Trains by `baselines.federated`, without rounds' checks and ledger."""
    filtered: list[float] = []
    pooled: dict[str, list[float]] = {name: [] for name in EPSILONS}
    by_site: dict[str, list[float]] = {name: [] for name in EPSILONS}
    right: dict[str, list[float]] = {name: [] for name in EPSILONS}
    seconds: list[float] = []
    for seed in SEEDS:
        sites = generated(4, SEED + APART * seed)
        splits = {site.id: LESION_IMAGE.split(site, seed) for site in sites}
        filtered.append(matched_filter(splits))
        for name, epsilon in EPSILONS.items():
            began = time.process_time()
            state = trained(sites, splits, epsilon, seed)
            seconds.append(time.process_time() - began)
            scores = [scored(state, split) for split in splits.values()]
            logits, outcomes = (np.concatenate(part) for part in zip(*scores, strict=True))
            pooled[name].append(float(roc_auc_score(outcomes, logits)))
            by_site[name].append(fmean(roc_auc_score(y, z) for z, y in scores))
            right[name].append(fmean(((z > 0) == (y > 0.5)).mean() for z, y in scores))
        told = ", ".join(f"{name} {values[-1]:.3f}" for name, values in pooled.items())
        print(f"seed {seed}: matched filter {filtered[-1]:.3f}, {told}", file=sys.stderr)
    figures = {
        "images.matched_filter": Figure(fmean(filtered), "AUROC"),
        "images.matched_filter.most": Figure(max(filtered), "AUROC"),
        "images.job_cpu_seconds": Figure(fmean(seconds), "s"),
    }
    for name, values in pooled.items():
        peer = ("matched filter", fmean(filtered))
        figures[f"images.{name}.auroc"] = Figure(fmean(values), "AUROC", *peer)
        figures[f"images.{name}.auroc.least"] = Figure(min(values), "AUROC", *peer)
        figures[f"images.{name}.auroc.deviation"] = Figure(stdev(values), "AUROC")
        figures[f"images.{name}.auroc_of_sites"] = Figure(fmean(by_site[name]), "AUROC")
        figures[f"images.{name}.accuracy_of_sites"] = Figure(fmean(right[name]), "of 1")
    return figures


def trained(
    sites: list[Site], splits: dict[str, Split], epsilon: Decimal | None, seed: int
) -> baselines.State:
    """The model of a job by the task's recipe, its epsilon spent at each hospital."""
    rounds = LESION_IMAGE.recipe.rounds
    terms = {
        site.id: LESION_IMAGE.terms(rounds, epsilon, LESION_IMAGE.delta, site.declared_patients)
        for site in sites
    }
    noise = partial(SeededNoise, seed, unsafe_no_dp=True)
    return baselines.federated(LESION_IMAGE, splits, terms, noise, seed).final


def scored(state: baselines.State, split: Split) -> tuple[npt.NDArray[np.float32], ...]:
    """Logits and outcomes of the test patients."""
    x, y = LESION_IMAGE.tensors(split.test)
    model = LESION_IMAGE.model()
    model.load_state_dict(state)
    with torch.no_grad():
        return model(x).squeeze(1).numpy(), y.numpy()


def matched_filter(splits: dict[str, Split]) -> float:
    """AUROC of the best disc template over all test patients, on what the model is given.

    The best of all radii, of bright and of dark discs and of either, chosen in view of the test
    patients: an upper bound on what such a filter would reach on others.
    """
    images = np.concatenate([LESION_IMAGE.encode(split.test)[:, 0] for split in splits.values()])
    outcomes = np.concatenate([LESION_IMAGE.outcomes(split.test) for split in splits.values()])
    found = []
    for radius in TEMPLATES:
        responses = fftconvolve(images, disc(radius)[None], mode="same", axes=(1, 2))
        for values in (responses, -responses, np.abs(responses)):
            found.append(float(roc_auc_score(outcomes, values.max(axis=(1, 2)))))
    return max(found)


def disc(radius: float) -> npt.NDArray[np.float64]:
    """A lesion without its patches, of zero mean, on a window of 15 x 15 pixels."""
    axis = np.arange(-7, 8)
    template = 1 / (1 + np.exp((np.hypot(axis[:, None], axis) - radius) / EDGE))
    return template - template.mean()
