"""The lab's options, checked before any work starts and before anything heavy is imported."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import CheatUnknown, ReportUnwritable
from consortium.lab.catalogue import BY_NAME
from consortium.lab.runs import Setting
from consortium.simulation.options import (
    between,
    chance_of,
    check_data_dir,
    positive,
    task_called,
)

FEWEST_HOSPITALS, MOST_HOSPITALS = 4, 20
MOST_ROUNDS, MOST_SEEDS, MOST_JOBS = 200, 1000, 64


@dataclass(frozen=True)
class LabOptions:
    """What a person asks of the lab. ``modes``: with privacy, without, or both."""

    setting: Setting
    attacks: tuple[str, ...]
    seeds: int
    modes: tuple[bool, ...]
    jobs: int
    out: Path | None


def check_options(
    *, attacks: Sequence[str], task: str, data_dir: Path | None, seeds: int, rounds: int,
    hospitals: int, epsilon: str, delta: str | None, private: bool | None, jobs: int,
    out: Path | None,
) -> LabOptions:  # fmt: skip
    """The options, if every one of them can be used; no attack named: all of the catalogue.

    Raises:
        ConsortiumError: naming the first that cannot, and what would be allowed.
    """
    known = task_called(task)
    unknown = [name for name in attacks if name not in BY_NAME]
    if unknown:
        raise CheatUnknown(
            f"there is no attack {unknown[0][:60]!r}", f"choose one of: {', '.join(BY_NAME)}"
        )
    check_data_dir(known, data_dir)
    between("--seeds", seeds, 1, MOST_SEEDS)
    between("--rounds", rounds, 2, MOST_ROUNDS)
    between("--hospitals", hospitals, FEWEST_HOSPITALS, MOST_HOSPITALS)
    between("--jobs", jobs, 1, MOST_JOBS)
    chance = chance_of(delta, known)
    if out is not None:
        _check_folder(out)
    setting = Setting(task, rounds, hospitals, positive("--epsilon", epsilon), chance, data_dir)
    wanted = [name for name in BY_NAME if name in attacks or not attacks]
    modes = (True, False) if private is None else (private,)
    return LabOptions(setting, tuple(wanted), seeds, modes, jobs, out)


def _check_folder(out: Path) -> None:
    there = out if out.exists() else out.resolve().parent
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise ReportUnwritable(
            f"nothing can be written into {out}",
            "name a folder that you may write to, or a new one in a folder that is there",
        )
