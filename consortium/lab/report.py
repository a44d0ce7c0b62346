"""The lab's outcome in files: all rows as JSON, the table as Markdown, the pictures."""

import json
from collections.abc import Sequence
from pathlib import Path

from consortium.lab import plots
from consortium.lab.catalogue import BY_NAME
from consortium.lab.options import LabOptions
from consortium.lab.runs import HONEST
from consortium.lab.summary import Row

HEADS = (
    "attack", "answered with", "caught", "false alarms", "lost: off", "on", "away", "within",
    "pay", "below mean", "not above",
)  # fmt: skip
LEGEND = (
    "Caught: trials (rounds of the attack) that were answered with an expected code. False alarms: "
    "of the honest hospitals' proofs, those that were not accepted. Lost: AUROC of the released "
    "model on the pooled test patients, below the same seed's where nobody cheats, mean of the "
    "runs: with nothing defended (off), as it is (on), and where the hospital that would cheat "
    "stays away (away). Within: runs that end at most .01 below that last one. Pay: the cheat's "
    "learning credits over the honest hospitals' mean, median of the runs. Below mean, not above: "
    "runs in which it earned less than that mean, and no more than any honest hospital."
)


def lab_report(options: LabOptions, rows: Sequence[Row], done: int, of: int) -> dict[str, object]:
    """All of the outcome, as JSON takes it; ``done`` of so many runs were played."""
    setting = options.setting
    return {
        "task": setting.task, "rounds": setting.rounds, "hospitals": setting.hospitals,
        "epsilon": str(setting.epsilon), "delta": str(setting.delta), "seeds": options.seeds,
        "runs": {"done": done, "planned": of},
        "attacks": [row.to_json() for row in rows],
    }  # fmt: skip


def title(options: LabOptions, private: bool) -> str:
    """What a table or a picture is about."""
    setting = options.setting
    noise = f"epsilon {setting.epsilon}" if private else "next to no noise"
    return (
        f"{setting.task}, {setting.hospitals} hospitals, {setting.rounds} rounds, {noise}, "
        f"{options.seeds} seeds"
    )


def cells(row: Row) -> tuple[str, ...]:
    """A row in words, in the order of `HEADS`."""
    expects = row.attack in BY_NAME and bool(BY_NAME[row.attack].codes)
    codes = ", ".join(f"{code} {count}" for code, count in row.codes.items())
    return (
        row.attack, codes if row.attack != HONEST else "",
        f"{row.caught} of {row.trials}" if expects else "",
        f"{row.false_alarms} of {row.honest}",
        _lost(row.lost_off), _lost(row.lost_on), _lost(row.lost_absent),
        "" if row.within_absent is None else f"{row.within_absent}/{row.runs}",
        f"{row.pay:.2f}" if row.pay is not None else "",
        "" if row.below_mean is None else f"{row.below_mean}/{row.runs}",
        "" if row.not_above is None else f"{row.not_above}/{row.runs}",
    )  # fmt: skip


def markdown(rows: Sequence[Row]) -> str:
    """The table, as Markdown."""
    lines = ["| " + " | ".join(HEADS) + " |", "|" + "---|" * len(HEADS)]
    lines += ["| " + " | ".join(cells(row)) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def write_files(folder: Path, options: LabOptions, rows: Sequence[Row], report: object) -> None:
    """Writes ``lab.json``, ``lab.md`` and the pictures into a folder, which it makes.

    Raises:
        OSError: if it cannot.
    """
    folder.mkdir(exist_ok=True)
    (folder / "lab.json").write_text(json.dumps(report, indent=2) + "\n")
    tables = []
    for private in options.modes:
        mode = [row for row in rows if row.private == private]
        said = title(options, private)
        tables.append(f"{said}\n\n{markdown(mode)}")
        end = "" if private else "-no-noise"
        pictures = {"caught": plots.caught, "harm": plots.harm, "pay": plots.pay}
        for name, picture in pictures.items() if mode else ():
            (folder / f"lab-{name}{end}.svg").write_text(picture(mode, said))
    (folder / "lab.md").write_text("\n".join(tables) + f"\n{LEGEND}\n")


def _lost(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}".replace("0.", ".", 1)
