"""A task's thresholds: what was measured is kept, and is what jobs are held to."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consortium import tasks
from consortium.cli.main import app
from consortium.contract import JobOrder, check_job, make_job
from consortium.coordinator.submission import copies_found
from consortium.errors import JobInvalid
from consortium.lab import calibration
from consortium.tasks.thresholds import calibration_of

DECLARED = {f"hospital-{i}": 100 for i in (1, 2, 3, 4)}


def job(epsilon: str = "1"):
    order = JobOrder("breast-cancer", 10, Decimal(epsilon), Decimal("0.00001"), 0)
    return make_job("0" * 64, "job-1", order, DECLARED)


@pytest.mark.parametrize("name", sorted(tasks.TASKS))
def test_what_was_measured_holds_what_was_chosen(name: str) -> None:
    kept, limits = calibration_of(name), tasks.get(name).thresholds
    measured = kept["measured"]
    assert kept["counts"]["steps"] >= 5_000
    assert kept["counts"]["pairs_taken_for_copies"] <= 3 * kept["counts"]["pairs"] / 10_000
    assert float(limits.reach) >= 1.49 * measured["reach"][-1]
    assert float(limits.opposition) >= measured["opposition_without_noise"][-1] - 1e-4
    assert 0 < float(limits.residual_signal) < measured["residual_signal_least"]
    assert measured["against_in_noise"][-1] < 3.7


def test_a_job_is_held_to_its_tasks_thresholds() -> None:
    contract = job()
    assert contract.thresholds == tasks.get("breast-cancer").thresholds
    members = dict.fromkeys(DECLARED)
    check_job(contract, members)
    for field in ("opposition", "reach"):
        looser = contract.thresholds.model_copy(update={field: "9"})
        with pytest.raises(JobInvalid, match="thresholds"):
            check_job(contract.model_copy(update={"thresholds": looser}), members)


def test_a_small_calibration_is_repeatable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    small = calibration.Scope((2,), (3,), (0,), ("1",))
    monkeypatch.setattr(calibration, "WHOLE", small)
    path = tmp_path / "calibration.json"
    done = CliRunner().invoke(app, ["task", "calibrate", "breast-cancer", "--out", str(path)])
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    assert found["counts"] == {
        "steps": 6, "pairs": 6, "pairs_taken_for_copies": 0, "falls": 3,
        "jobs_without_noise": 4,
    }  # fmt: skip
    assert found["thresholds"]["false_alarm"] == "0.0001"
    assert found == calibration.calibrate("breast-cancer", None, scope=small)


def test_tasks_are_listed_and_shown() -> None:
    listed = CliRunner().invoke(app, ["task", "list"])
    assert [line.split()[0] for line in listed.stdout.splitlines()] == list(tasks.TASKS)
    shown = CliRunner().invoke(app, ["task", "show", "heart-disease", "--format", "json"])
    content = json.loads(shown.stdout)
    assert content["parameters"] == 14
    assert content["opposition"] == tasks.get("heart-disease").thresholds.opposition


def test_whoever_submits_a_job_reads_what_copies_can_be_found() -> None:
    of_1, of_3 = (float(copies_found(job(e)).split(" of its")[0].split()[-1]) for e in ("1", "3"))
    assert 1 > of_1 > of_3 > 0
    assert "31 parameters" in copies_found(job())
