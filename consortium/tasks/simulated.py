"""Hospitals that are made up, of patients that are public: one table dealt out over them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from consortium.tasks.errors import TaskUnknown
from consortium.tasks.task import Site, Split, declared, divided

if TYPE_CHECKING:
    import pandas as pd

FOUR_HOSPITALS: Final = (35, 28, 22, 15)
"""Percent of the patients at each of four hospitals."""

MOST_HOSPITALS: Final = 64
TEST_SHARE: Final = 0.20
VALIDATION_SHARE: Final = 0.15
_MOST_UNEQUAL: Final = 12
_DEALING_SEED: Final = 20231


@dataclass(frozen=True)
class Simulated:
    """The `load` and `divide` of a task with simulated hospitals.

    label: the column of outcomes. table: gives all patients, a row each.
    """

    task: str
    label: str
    table: "Callable[[], pd.DataFrame]"

    def load(self, data_dir: Path | None = None, hospitals: int | None = None) -> list[Site]:
        """The hospitals, each class dealt out by `shares`; `data_dir` is not used.

        Raises TaskUnknown for a number of hospitals outside 1 to 64.
        """
        parts = shares(4 if hospitals is None else hospitals, self.task)
        frame = self.table()
        ends = np.round(np.cumsum(parts), 12)
        of_hospital = np.zeros(len(frame), dtype=int)
        random = np.random.RandomState(_DEALING_SEED)
        for outcome in (0, 1):
            members = random.permutation(np.flatnonzero(frame[self.label] == outcome))
            position = (np.arange(len(members)) + 0.5) / len(members)
            of_hospital[members] = np.searchsorted(ends, position)
        train_share = 1 - TEST_SHARE - VALIDATION_SHARE
        return [
            Site(
                id=f"hospital-{index + 1}",
                title=f"Hospital {index + 1}",
                frame=frame[of_hospital == index].reset_index(drop=True),
                declared_patients=declared(len(frame), part * train_share),
            )
            for index, part in enumerate(parts)
        ]

    def divide(self, site: Site, seed: int) -> Split:
        """65 / 15 / 20 % for training, validation and test, drawn within each class."""
        of_the_rest = VALIDATION_SHARE / (1 - TEST_SHARE)
        return divided(site.frame, self.label, TEST_SHARE, of_the_rest, seed)


def shares(hospitals: int, task: str) -> tuple[float, ...]:
    """Part of the patients at each hospital, largest first; they sum to 1.

    Four hospitals hold 35, 28, 22 and 15 %; up to 12 each holds 0.87 of the one before. More share
    equally: too small to judge one another, they are for measuring what a large consortium costs.
    Raises TaskUnknown for a number of hospitals outside 1 to 64.
    """
    if type(hospitals) is not int or not 1 <= hospitals <= MOST_HOSPITALS:
        raise TaskUnknown(
            f"{task} does not come for {hospitals!r} hospitals",
            f"choose 1 to {MOST_HOSPITALS} hospitals",
        )
    smaller = 0.87 if hospitals <= _MOST_UNEQUAL else 1.0
    parts = FOUR_HOSPITALS if hospitals == 4 else [smaller**i for i in range(hospitals)]
    return tuple(part / sum(parts) for part in parts)
