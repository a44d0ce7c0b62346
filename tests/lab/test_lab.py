"""The command, and what it makes of its runs."""

import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from decimal import Decimal
from pathlib import Path

import pytest

from consortium.cli.main import app
from consortium.cli.run import run as run_app
from consortium.errors import (
    CheatUnknown,
    ConsortiumError,
    DatasetUnknown,
    OptionInvalid,
    ReportUnwritable,
    RunsCutOff,
)
from consortium.lab import plots
from consortium.lab.options import LabOptions, check_options
from consortium.lab.report import HEADS, cells, markdown
from consortium.lab.runs import ABSENT, HONEST, Outcome, Run, Setting, carried_out, planned
from consortium.lab.summary import summary

SETTING = Setting("breast-cancer", 10, 4, Decimal(1), Decimal("0.00001"))


def options(**changed: object) -> LabOptions:
    given = {
        "attacks": (), "task": "breast-cancer", "data_dir": None, "seeds": 1, "rounds": 2,
        "hospitals": 4, "epsilon": "1", "delta": None, "private": None, "jobs": 1, "out": None,
    }  # fmt: skip
    return check_options(**(given | changed))


def outcome(attack: str, cheat: int, auroc: float, own: int = 0, **run: object) -> Outcome:
    names = ["a", "b", "c"]
    learning = {name: 100 * (i + 1) for i, name in enumerate(names)} | {names[cheat]: own}
    codes = {"Accepted": 6, "Harmful": 4}
    return Outcome(
        Run(attack, cheat, run.pop("seed", 0), True, **run),
        names[cheat], codes, 20, 1, auroc, learning, learning,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"attacks": ("nan", "bribery")}, CheatUnknown),
        ({"task": "mnist"}, DatasetUnknown),
        ({"data_dir": Path()}, OptionInvalid),
        ({"seeds": 0}, OptionInvalid),
        ({"rounds": 1}, OptionInvalid),
        ({"hospitals": 3}, OptionInvalid),
        ({"jobs": 0}, OptionInvalid),
        ({"epsilon": "none"}, OptionInvalid),
        ({"delta": "0.5"}, OptionInvalid),
        ({"out": Path(__file__)}, ReportUnwritable),
        ({"out": Path(__file__).parent / "not" / "there"}, ReportUnwritable),
    ],
)
def test_what_cannot_be_used_is_refused_with_a_code(changed: dict, error: type) -> None:
    with pytest.raises(error) as raised:
        options(**changed)
    assert isinstance(raised.value, ConsortiumError)
    assert raised.value.resolve


def test_no_attack_named_is_all_of_them_in_both_modes() -> None:
    everything = options()
    assert everything.modes == (True, False)
    assert "label-flip" in everything.attacks
    assert "forked-block" in everything.attacks
    assert options(attacks=("nan", "replay"), private=True).attacks == ("replay", "nan")


def test_every_hospital_cheats_with_every_seed_beside_what_it_is_compared_with() -> None:
    runs = planned(SETTING, ["label-flip", "forked-block"], 2, [True])
    assert len(runs) == len(set(runs)) == 2 * (1 + 4 * 4)
    assert {run.cheat for run in runs if run.attack == "label-flip" and not run.defended} == {
        0, 1, 2, 3,
    }  # fmt: skip
    assert not [run for run in runs if run.attack == "forked-block" and not run.defended]


def test_a_row_says_what_the_runs_came_to() -> None:
    outcomes = [outcome(HONEST, 0, 0.9), outcome(HONEST, 0, 0.8, seed=1)]
    for seed, auroc in ((0, 0.895), (1, 0.765)):
        outcomes += [
            outcome(ABSENT, 0, auroc + 0.005, seed=seed),
            outcome("label-flip", 0, auroc, own=50 + 300 * seed, seed=seed),
            outcome("label-flip", 0, 0.5, seed=seed, defended=False),
        ]
    honest, row = summary(outcomes)
    assert (honest.attack, honest.lost_on, honest.trials) == (HONEST, None, 20)
    assert (row.trials, row.caught, row.honest, row.false_alarms) == (20, 8, 40, 2)
    assert row.lost_off == pytest.approx(0.35)
    assert row.lost_on == pytest.approx(0.02)
    assert row.lost_absent == pytest.approx(0.015)
    assert row.lost_most == pytest.approx(0.035)
    assert (row.within, row.within_absent) == (1, 2)
    # of the others, b earned 200 and c 300
    assert row.earned == (0.2, 1.4)
    assert (row.below_mean, row.not_above, row.pay) == (1, 1, pytest.approx(0.8))
    assert len(cells(row)) == len(HEADS) == markdown([row]).splitlines()[0].count("|") - 1
    for picture in (plots.caught, plots.harm, plots.pay):
        ElementTree.fromstring(picture([honest, row], "a < b"))


def test_runs_without_what_they_are_compared_with_say_nothing_of_harm() -> None:
    (row,) = summary([outcome("label-flip", 0, 0.9), outcome("label-flip", 1, 0.9)])
    assert (row.lost_on, row.within_absent, row.not_above, row.earned) == (None, None, None, ())


def test_the_command_prints_a_table_and_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "lab"
    command = f"lab no-reveal --seeds 1 --rounds 2 --private --jobs 1 --out {out} --format json"
    with pytest.raises(SystemExit) as ended:
        run_app(app, command.split())
    printed = capsys.readouterr()
    report = json.loads(printed.out)
    assert ended.value.code == 0
    assert report == json.loads((out / "lab.json").read_text())
    assert report["runs"] == {"done": 5, "planned": 5}
    honest, row = report["attacks"]
    assert (honest["honest"], honest["false_alarms"]) == (8, 0)
    assert (row["attack"], row["codes"], row["caught"]) == ("no-reveal", {"NoAnswer": 8}, 8)
    assert "5 of 5 jobs" in printed.err
    assert "| no-reveal | NoAnswer 8 |" in (out / "lab.md").read_text()
    ElementTree.parse(out / "lab-caught.svg")


def killed(setting: Setting, run: Run) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_ends_in_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("consortium.lab.runs.carry_out", killed)
    runs = planned(SETTING, ["nan"], 1, [True])
    with pytest.raises(RunsCutOff, match="was killed"):
        list(carried_out(SETTING, runs, 2))


@pytest.mark.slow
def test_what_was_finished_is_shown_when_it_is_interrupted(tmp_path: Path) -> None:
    out = tmp_path / "lab"
    code = "from consortium.cli.main import main; main()"
    arguments = f"lab no-reveal --seeds 500 --rounds 2 --private --jobs 2 --out {out}".split()
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    process.stderr.readline()  # some jobs are done
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
    printed, errors = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "error[Interrupted]" in errors
    assert "Traceback" not in errors
    assert "no-reveal" in printed
    done = json.loads((out / "lab.json").read_text())["runs"]
    assert 0 < done["done"] < done["planned"]
