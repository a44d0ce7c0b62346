"""The demo's outcome as JSON, for machines."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from consortium.errors import ReportUnwritable
from consortium.simulation.demo import DemoResult
from consortium.simulation.outcome import HospitalOutcome


def demo_report(result: DemoResult) -> dict[str, Any]:
    """The report; fractions are of 1, epsilons numbers, times seconds."""
    outcome, verified = result.outcome, result.verified
    return {
        "dataset": result.options.dataset,
        "job": result.job.job,
        "rounds": result.job.rounds,
        "seed": result.job.seed,
        "hospitals": [_hospital(row) for row in outcome.hospitals],
        "federated": asdict(outcome.federated),
        "nonprivate": asdict(outcome.nonprivate) if outcome.nonprivate else None,
        "ledger": {
            "id": verified.ledger,
            "height": verified.height,
            "entries": verified.entries,
            "quorum": verified.quorum,
            "final": True,  # an export holds final blocks only, and it has just been verified
            "export": str(result.export),
            "verified": verified.pinned,
        },
        "seconds": {name: round(value, 2) for name, value in asdict(result.seconds).items()},
        "rejections": [asdict(rejection) for rejection in outcome.rejections],
        "cheat": asdict(result.cheat) if result.cheat else None,
    }


def _hospital(row: HospitalOutcome) -> dict[str, Any]:
    models = {"local": row.local, "federated": row.federated, "pooled": row.pooled}
    return {
        "id": row.id,
        "title": row.title,
        "n_test": row.n_test,
        "epsilon_spent": float(row.budget.epsilon_spent),
        "epsilon_limit": float(row.budget.epsilon_limit),
        "delta": float(row.budget.delta),
        "auroc": {name: m.auroc for name, m in models.items()},
        "auroc_interval": {name: m.auroc_interval for name, m in models.items()},
        "accuracy": {**{n: m.accuracy for n, m in models.items()}, "majority": row.majority},
        "accuracy_interval": {name: m.accuracy_interval for name, m in models.items()},
        "accepted": row.accepted,
        "rejected": row.rejected,
        "credits": row.credits,
    }


def write_report(path: Path, content: dict[str, Any]) -> None:
    """Writes the report: whole or not at all.

    Raises:
        ReportUnwritable: if it cannot be written any more.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        partial.write_text(json.dumps(content, indent=2) + "\n")
        partial.replace(path)
    except OSError as error:
        raise ReportUnwritable(
            f"the report could not be written to {path} ({error.strerror})",
            "free the path and run again, or use --format json; the ledger is safe",
        ) from None
