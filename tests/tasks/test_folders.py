"""Tasks of the house: found by name, refused by reason, fingerprinted with their code."""

import json
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from consortium import tasks
from consortium.cli.main import app
from consortium.errors import OptionInvalid
from consortium.tasks.checklist import checklist
from consortium.tasks.errors import DataMissing, TaskInvalid, TaskUncalibrated, TaskUnknown
from consortium.tasks.image import Images
from consortium.tasks.new import new_task
from consortium.tasks.task import Split
from consortium.tasks.thresholds import calibration_of
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder

CALIBRATED = json.dumps(calibration_of("heart-disease"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "tasks"
    folder.mkdir()
    monkeypatch.setenv("MEDPOLE_TASKS", f"{tmp_path / 'none'}:{folder}")
    return folder


def test_a_folder_is_a_task(place: Path) -> None:
    assert tasks.names() == sorted(tasks.TASKS)
    new_task("gout", place)
    assert "gout" in tasks.names()
    task = tasks.get("gout")
    assert (task.name, task.folder) == ("gout", place / "gout")
    with pytest.raises(TaskUncalibrated):
        task.fingerprint()
    (place / "gout" / "calibration.json").write_text(CALIBRATED)
    print_ = task.fingerprint()
    with (place / "gout" / "task.py").open("a") as file:
        file.write("# read again\n")
    assert tasks.get("gout").fingerprint() != print_


def test_its_limits_are_part_of_it(place: Path) -> None:
    new_task("gout", place)
    file = place / "gout" / "calibration.json"
    for broken in ("{", "{}", '{"thresholds": {"reach": 1}}'):
        file.write_text(broken)
        with pytest.raises(TaskUncalibrated, match="gout"):
            tasks.get("gout").thresholds  # noqa: B018 -- what is read is the file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("TASK = 1", "does not define TASK"),
        ("1 / 0", "ZeroDivisionError"),
        ("def f(:", "SyntaxError"),
        ("from consortium.tasks import TASKS\nTASK = TASKS['heart-disease']", "called 'gout'"),
    ],
)
def test_what_is_no_task_is_refused(place: Path, content: str, said: str) -> None:
    (place / "gout").mkdir()
    (place / "gout" / "task.py").write_text(content)
    with pytest.raises(TaskInvalid, match=said):
        tasks.get("gout")


def test_an_installed_task_is_not_replaced(place: Path) -> None:
    (place / "heart-disease").mkdir()
    (place / "heart-disease" / "task.py").write_text("TASK = 1")
    assert tasks.get("heart-disease") is tasks.TASKS["heart-disease"]
    with pytest.raises(TaskUnknown, match="no task"):
        tasks.get("../heart-disease")


@pytest.mark.parametrize("name", ["", "Gout", "gout_2", "-gout", "a" * 33, "../x", "heart-disease"])
def test_names_that_no_task_may_have(place: Path, name: str) -> None:
    with pytest.raises(OptionInvalid):
        new_task(name, place)
    assert not list(place.iterdir())


def test_a_new_task_says_what_is_missing(place: Path) -> None:
    done = CliRunner().invoke(app, ["task", "new", "gout", "--out", str(place)])
    assert "gout/task.py" in done.output
    items = {item.name: item for item in checklist(tasks.get("gout"))}
    assert [n for n, i in items.items() if i.state == "ok"] == [
        "model", "mapping", "privacy", "tests",
    ]  # fmt: skip
    assert "TODO" in items["inputs"].found
    assert items["data"].found.startswith("DataMissing")
    checked = CliRunner().invoke(app, ["task", "check", "gout"])
    assert checked.exit_code == 1
    assert max(map(len, checked.output.splitlines())) <= 80
    with pytest.raises(DataMissing):
        tasks.get("gout").sites()


def test_a_new_task_of_images_can_be_trained(place: Path) -> None:
    with pytest.raises(OptionInvalid, match="512"):
        new_task("spots", place, 4)
    new_task("spots", place, 16)
    task = tasks.get("spots")
    assert task.inputs == Images(16)
    items = {item.name: item for item in checklist(task)}
    assert {items[name].state for name in ("model", "mapping", "privacy")} == {"ok"}
    assert "hidden.2" in items["mapping"].found


def test_a_file_that_changes_is_another_task_at_once(place: Path, tmp_path: Path) -> None:
    """An agent that runs must not train by the old constants under the new fingerprint."""
    path, _ = new_task("gout", place)
    patients = pd.DataFrame({"age": [55, 65] * 10, "sex": [0, 1] * 10, "outcome": [0, 1] * 10})
    hospital = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    parts = Split(patients, patients, patients)
    cohort = Cohort.add(hospital, "gout", parts, 20, Decimal(3), Decimal("0.00001"))
    before = cohort.tensors("train")[0][:2, 0].tolist()
    path.write_text(path.read_text().replace('"55", "10"', '"65", "5"'))
    assert (before, cohort.tensors("train")[0][:2, 0].tolist()) == ([0.0, 1.0], [-2.0, 0.0])


def test_the_list_names_wrong_tasks(place: Path) -> None:
    path, _ = new_task("gout", place)
    text = path.read_text().replace("TODO: ", "")
    for right, wrong, name, said in (
        ('"55", "10"', '"155", "10"', "inputs", "centre"),
        ('"55", "10"', '"55", "0"', "inputs", "scale"),
        ("network=Mlp()", "network=__import__('torch').nn.Identity()", "model", "AttributeError"),
    ):
        assert right in text
        path.write_text(text.replace(right, wrong))
        found = {item.name: item for item in checklist(tasks.get("gout"))}
        assert (found[name].state, said in found[name].found) == ("missing", True)
