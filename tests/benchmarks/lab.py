"""What the attack lab has to show: what is always rejected, what others do to the model, and earn.

Every hospital cheats in turn, in every round of ten, at epsilon 1: what is always rejected with six
seeds on breast cancer (216 trials or more of each), the others with ten on both tasks (40 runs).
"""

import os
import sys
from decimal import Decimal

from consortium.lab.catalogue import CATALOGUE
from consortium.lab.runs import Setting, carried_out, planned
from consortium.lab.summary import Row, summary
from tests.benchmarks.models import HEART
from tests.benchmarks.run import Figure

ALWAYS = [cheat.name for cheat in CATALOGUE if cheat.codes and cheat.always]
JUDGED = ("label-flip", "sign-flip", "free-rider")
BREAST = Setting("breast-cancer", 10, 4, Decimal(1), Decimal("0.00001"))


def measure() -> dict[str, Figure]:
    """Plays all of it, in as many processes as there are cores."""
    rejected = played(BREAST, ALWAYS, 6)
    figures = {
        "lab.rejected": Figure(min(row.caught / row.trials for row in rejected), "of 1"),
        "lab.rejected_trials": Figure(min(row.trials for row in rejected), "fewest of an attack"),
    }
    settings = {"breast": BREAST}
    if HEART.is_dir():
        settings["heart"] = Setting("heart-disease", 10, 4, Decimal(1), Decimal("0.001"), HEART)
    else:
        print(f"no heart data in {HEART}: set MEDPOLE_HEART_DATA", file=sys.stderr)
    honest, false_alarms = counted(rejected)
    for name, setting in settings.items():
        rows = played(setting, JUDGED, 10)
        honest, false_alarms = honest + counted(rows)[0], false_alarms + counted(rows)[1]
        framed = played(setting, ["frame"], 10)
        for row in (*rows, *framed):
            figures |= judged(f"lab.{name}.{row.attack}", row)
        beside = counted(framed)
        figures[f"lab.{name}.frame.named"] = Figure(beside[1], f"of {beside[0]} honest proofs")
    figures["lab.false_alarms"] = Figure(false_alarms, f"of {honest} honest proofs")
    return figures


def played(setting: Setting, attacks: "list[str] | tuple[str, ...]", seeds: int) -> list[Row]:
    """The rows of these attacks."""
    runs = planned(setting, attacks, seeds, [True])
    if attacks is ALWAYS:  # what is rejected each time does the model no harm
        runs = [run for run in runs if run.attack in ALWAYS and run.defended]
    return summary(list(carried_out(setting, runs, os.cpu_count() or 1)))


def counted(rows: list[Row]) -> tuple[int, int]:
    """The honest proofs, and those that were not accepted."""
    return sum(row.honest for row in rows), sum(row.false_alarms for row in rows)


def judged(name: str, row: Row) -> dict[str, Figure]:
    """An attack's harm to the model, and its pay."""
    if row.lost_on is None or row.not_above is None or row.below_mean is None:
        return {}
    of = f"of {row.runs} runs"
    return {
        f"{name}.auroc_lost": Figure(row.lost_on, "AUROC", "the hospital stays away",
                                     row.lost_absent),
        f"{name}.undefended_lost": Figure(row.lost_off or 0.0, "AUROC"),
        f"{name}.within": Figure(row.within_absent or 0, of),
        f"{name}.within_honest": Figure(row.within or 0, of),
        f"{name}.not_above_any": Figure(row.not_above, of),
        f"{name}.below_mean": Figure(row.below_mean, of),
    }  # fmt: skip
