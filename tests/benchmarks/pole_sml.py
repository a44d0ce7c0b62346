"""What the Secure Mapping Layer costs a hospital, of the CPU of its rounds in a real deployment."""

import json
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks.run import Figure

sys.path.append(str(Path(__file__).parents[1] / "network"))
from deployment import HEART, deployment, until
from hospital_tables import BREAST, write_tables
from hospital_tables import HEART as HEART_TASK

ROUNDS = 12
PARTS = ("alpha", "groups", "prove", "verify", "derive", "map", "unmap")


def figures() -> dict[str, Figure]:
    """`sml.round_overhead`, and each part in CPU milliseconds a hospital and round."""
    with tempfile.TemporaryDirectory(prefix="medpole-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)  # the database's account passes through
        rounds = _timed_rounds(folder)
    whole = sum(cpu for cpu, _ in rounds)
    spent = {part: sum(parts[part] for _, parts in rounds) for part in PARTS}
    found = {
        f"sml.{part}": Figure(1e3 * seconds / len(rounds), "CPU ms a hospital and round")
        for part, seconds in spent.items()
    }
    return found | {
        "sml.round_overhead": Figure(sum(spent.values()) / whole, "of a hospital's CPU in a round"),
        "sml.round_cpu": Figure(whole / len(rounds), "CPU s a hospital and round"),
    }


def _timed_rounds(folder: Path) -> list[tuple[float, dict[str, float]]]:
    """CPU seconds of every hospital's every whole round, and of the SML's parts in it."""
    task = HEART_TASK if HEART.is_dir() else BREAST
    tables = write_tables(folder / "tables", task, HEART if task == HEART_TASK else None)
    with deployment(folder / "network", task) as network:
        network.begin()
        network.found({n: (path, site.declared_patients) for n, (path, site) in tables.items()})
        for hospital in network.hospitals.values():
            _, *arguments = hospital.agent.arguments
            hospital.agent.arguments = [
                "python", "-m", "tests.benchmarks.timed_agent", folder / hospital.id, *arguments,
            ]  # fmt: skip
        network.start()
        network.until_ready()
        job = network.submit(ROUNDS)
        log = network.coordinator
        until(lambda: f"job: {job} has ended" in log.text(), 300, "it ends")
        return [r for h in network.hospitals for r in _rounds(folder / h)]


def _rounds(file: Path) -> list[tuple[float, dict[str, float]]]:
    """What lies between one line and the next: a round, from its training to the next one's.

    Without the first, in which an agent loads what it needs for a job: that is no round's cost.
    """
    lines = [json.loads(line) for line in file.read_text().splitlines()]

    def seconds(line: dict[str, Any], part: str) -> float:
        return float(line["parts"].get(part, (0, 0.0))[1])

    return [
        (after["cpu"] - before["cpu"], {p: seconds(after, p) - seconds(before, p) for p in PARTS})
        for before, after in pairwise(lines[1:])
    ]
