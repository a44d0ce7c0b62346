"""Quality of the demo's own jobs, over five seeds, paired with the same jobs without noise."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from tests.benchmarks.models import HEART
from tests.benchmarks.run import Figure

SEEDS = range(5)


def measure() -> dict[str, Figure]:
    """Runs the real demo, rounds, checks and ledger included, once a seed and setting."""
    settings = {"breast.eps1": ("breast-cancer", "1", "0.00001")}
    if HEART.is_dir():
        settings["heart.eps1"] = ("heart-disease", "1", "0.001")
        settings["heart.eps3"] = ("heart-disease", "3", "0.001")
    else:
        print(f"no heart data in {HEART}: set MEDPOLE_HEART_DATA", file=sys.stderr)
    figures = {}
    for name, setting in settings.items():
        reports = [demo(*setting, seed) for seed in SEEDS]
        for what in ("accuracy", "auroc"):
            figures[f"demo.{name}.{what}"] = Figure(
                fmean(r["federated"][f"{what}_mean"] for r in reports),
                "of 1",
                "same jobs without noise",
                fmean(r["nonprivate"][f"{what}_mean"] for r in reports),
            )
        rejected = sum(len(r["rejections"]) for r in reports)
        figures[f"demo.{name}.honest_rejected"] = Figure(rejected, "of 200 honest proofs")
        figures[f"demo.{name}.seconds"] = Figure(fmean(r["seconds"]["total"] for r in reports), "s")
    return figures


def demo(dataset: str, epsilon: str, delta: str, seed: int) -> dict[str, Any]:
    """One demo in a home of its own; its report."""
    command = [
        str(Path(sys.executable).with_name("consortium")), "demo", "--dataset", dataset,
        "--epsilon", epsilon, "--delta", delta, "--seed", str(seed), "--compare-nonprivate",
        "--format", "json",
    ]  # fmt: skip
    if dataset == "heart-disease":
        command += ["--data-dir", str(HEART)]
    with tempfile.TemporaryDirectory() as home:
        # The database runs as another user when this runs as root.
        Path(home).chmod(0o711)
        done = subprocess.run(
            [*command, "--home", f"{home}/home"], check=True, capture_output=True, text=True
        )
    print(f"{dataset} epsilon {epsilon} seed {seed}: done", file=sys.stderr)
    report: dict[str, Any] = json.loads(done.stdout)
    return report
