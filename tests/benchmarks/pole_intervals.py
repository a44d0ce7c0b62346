"""How regular the blocks of Proof of Learning are, beside proof of work at the same mean.

The rounds are the demo's own: four hospitals train, prove, verify and co-sign, in one process tree,
with PostgreSQL, witnesses and Flower's simulation engine. An interval lies between two rounds'
blocks becoming final. Proof of work is hashed on the same machine, right after.
"""

import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from consortium.simulation.options import check_options
from tests.benchmarks.interval_plot import svg
from tests.benchmarks.proof_of_work import difficulty_for, mine
from tests.benchmarks.run import Figure

if TYPE_CHECKING:
    from consortium.coordinator.strategy import Progress
    from consortium.simulation.demo import DemoResult

BLOCKS = 120
PLOT = Path(__file__).parents[2] / "docs/images/block-intervals.svg"
_RESAMPLES = 10_000


def figures() -> dict[str, Figure]:
    """Coefficients of variation of both, with 95 % intervals; draws `PLOT`."""
    learned = learning_intervals(BLOCKS)
    difficulty = difficulty_for(float(np.mean(learned)))
    print(f"mining {BLOCKS} blocks of {difficulty:,} hashes", file=sys.stderr)
    worked = [block.seconds for block in mine(difficulty, BLOCKS)]
    PLOT.write_text(svg(learned, worked))
    return _figures("pole", learned) | _figures("pow", worked)


def learning_intervals(blocks: int) -> list[float]:
    """Seconds between the final blocks of successive rounds of the demo's job, ``blocks`` of them.

    The engine starts before the first of these blocks and is not in an interval.
    """
    from consortium.simulation.demo import run_demo

    final: list[float] = []
    verified: list[int] = []

    def watch(step: str, progress: "Progress | None") -> None:
        if step:
            print(step, file=sys.stderr)
        if progress is not None and progress.phase == "final":
            final.append(time.monotonic())

    def at_end(result: "DemoResult") -> None:
        verified.append(result.verified.blocks)

    with tempfile.TemporaryDirectory(prefix="medpole-bench-", dir="/tmp") as name:
        Path(name).chmod(0o755)  # the database's account passes through
        options = check_options(
            dataset="breast-cancer", data_dir=None, hospitals=4, rounds=blocks + 1, epsilon="1",
            lifetime_epsilon=None, delta=None, seed=0, home=Path(name) / "home", cheat=None,
            report=None, compare_nonprivate=False,
        )  # fmt: skip
        run_demo(options, watch, time.monotonic(), at_end)
    assert verified[0] > blocks + 1  # each round is a block of a ledger that verifies
    return [later - earlier for earlier, later in pairwise(final)]


def variation(intervals: Sequence[float]) -> float:
    """The coefficient of variation: sample standard deviation over mean."""
    return float(_variation(np.asarray(intervals, dtype=np.float64)))


def variation_interval(intervals: Sequence[float]) -> tuple[float, float]:
    """95 % percentile bootstrap interval of `variation` (Efron 1979), intervals independent."""
    values = np.asarray(intervals, dtype=np.float64)
    chosen = np.random.default_rng(0).integers(0, len(values), (_RESAMPLES, len(values)))
    low, high = np.quantile(_variation(values[chosen]), [0.025, 0.975])
    return float(low), float(high)


def _variation(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    spread: npt.NDArray[np.float64] = values.std(axis=-1, ddof=1) / values.mean(axis=-1)
    return spread


def _figures(name: str, intervals: Sequence[float]) -> dict[str, Figure]:
    low, high = variation_interval(intervals)
    return {
        f"{name}.interval_cv": Figure(variation(intervals), "of the mean"),
        f"{name}.interval_cv_low": Figure(low, "of the mean, 95 % bootstrap"),
        f"{name}.interval_cv_high": Figure(high, "of the mean, 95 % bootstrap"),
        f"{name}.interval_mean": Figure(float(np.mean(intervals)), f"s, {len(intervals)} blocks"),
        f"{name}.interval_longest": Figure(max(intervals), "s"),
    }
