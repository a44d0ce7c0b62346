"""A hospital's own table: checked, split, stored whole; no message holds anything of a patient."""

import errno
import json
import os
import stat
import sys
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
from commands import call, ok, refused

from consortium import tasks
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.data import Added, add_cohort, examine, round_declared
from hospital_agent.data_report import rows_band, share_band
from hospital_agent.errors import CohortExists, FolderInvalid, PolicyRefused
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import Policy, change_policy, default_policy
from hospital_agent.sources.frame import FrameSource
from hospital_agent.sources.opening import Address

TASK = tasks.get("breast-cancer")
SECRET = "19510704"  # stands for what only the patient's record says


@pytest.fixture
def folder(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")


@pytest.fixture
def frame() -> pd.DataFrame:
    return TASK.sites()[1].frame.copy()


@pytest.fixture
def source(tmp_path: Path, frame: pd.DataFrame) -> Path:
    return written(tmp_path, frame)


def written(tmp_path: Path, frame: pd.DataFrame, name: str = "table.csv") -> Path:
    frame.to_csv(tmp_path / name, index=False)
    return tmp_path / name


def add(folder: HospitalFolder, source: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "hospital-agent", "data", "add", "oncology", "--task", TASK.name, "--source", source,
        "--home", folder.path, *(more or ("--declared-patients", "104")),
    )  # fmt: skip


def stored(
    folder: HospitalFolder, source: Path, declared: int = 100, seed: int | None = None,
    name: str = "a", task: str = TASK.name,
) -> Added:  # fmt: skip
    return add_cohort(folder, name, task, Address(str(source)), declared, seed)


# adding


def test_a_table_becomes_a_cohort_with_a_budget_and_its_task_is_allowed(
    folder: HospitalFolder, source: Path, frame: pd.DataFrame
) -> None:
    done = ok(*add(folder, source, "--declared-patients", "104", "--seed", "7"))
    cohort = Cohort.open(folder, TASK.name)
    assert (cohort.name, cohort.declared_patients, cohort.seed) == ("oncology", 100, 7)
    status = folder.budget.status(cohort.id)
    assert (status.epsilon_limit, status.epsilon_spent) == (Decimal(3), 0)
    policy = Policy.read(folder.path / "policy.json")
    assert policy.tasks == (TASK.name,)
    assert policy.fewest_institutions == default_policy().fewest_institutions
    parts = [cohort.frame(part) for part in PARTS]
    together = pd.concat(parts).sort_values(list(frame.columns)).reset_index(drop=True)
    expected = frame.sort_values(list(frame.columns)).reset_index(drop=True)
    pd.testing.assert_frame_equal(together, expected, check_dtype=False)
    sizes = [len(part) / len(frame) for part in parts]
    assert sizes == pytest.approx([0.64, 0.16, 0.20], abs=0.02)
    shares = [part[TASK.label].mean() for part in parts]
    assert shares == pytest.approx([frame[TASK.label].mean()] * 3, abs=0.03)
    assert "public" in done.value("declared is")


def test_what_is_stored_is_closed_to_others(folder: HospitalFolder, source: Path) -> None:
    ok(*add(folder, source))
    stored = Cohort.open(folder, TASK.name).folder
    assert stat.S_IMODE(stored.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in stored.iterdir()} == {0o600}


def test_the_same_seed_draws_the_same_parts_and_none_a_new_one(
    tmp_path: Path, source: Path
) -> None:
    tests = []
    for number, seed in enumerate([5, 5, None, None]):
        folder = HospitalFolder.create(tmp_path / f"h{number}", "hospital-1", "H")
        cohort = stored(folder, source, seed=seed).cohort
        tests.append((cohort.seed, (cohort.folder / "test.csv").read_bytes()))
    assert tests[0] == tests[1]
    assert tests[2][0] != tests[3][0]
    assert len({content for _, content in tests}) == 3


def test_columns_outside_the_schema_are_dropped_and_named(
    folder: HospitalFolder, tmp_path: Path, frame: pd.DataFrame
) -> None:
    frame.insert(0, "birthday", SECRET)
    frame["ward"] = 7
    done = ok(*add(folder, written(tmp_path, frame), "--declared-patients", "100"))
    assert done.value("dropped columns") == "birthday, ward"
    stored = Cohort.open(folder, TASK.name)
    assert "birthday" not in stored.frame("train").columns
    everything = b"".join(p.read_bytes() for p in folder.path.rglob("*") if p.is_file())
    assert SECRET.encode() not in everything


def test_a_second_cohort_for_a_task_is_refused(
    folder: HospitalFolder, source: Path, tmp_path: Path, frame: pd.DataFrame
) -> None:
    ok(*add(folder, source))
    cohort = Cohort.open(folder, TASK.name)
    before = {path: path.read_bytes() for path in cohort.folder.iterdir()}
    other = written(tmp_path, frame.head(60), "other.csv")
    assert "already" in refused("CohortExists", *add(folder, other))
    assert {path: path.read_bytes() for path in cohort.folder.iterdir()} == before
    assert folder.budget.cohorts() == (cohort.id,)
    with pytest.raises(CohortExists, match="called"):
        stored(folder, source, name="oncology", task="heart-disease")


def test_a_policy_that_is_there_is_kept(folder: HospitalFolder, source: Path) -> None:
    Policy("2", "0.0001", ("heart-disease",), 5, "0.5", "always").write(folder.path / "policy.json")
    ok(*add(folder, source))
    policy = Policy.read(folder.path / "policy.json")
    assert policy == Policy("2", "0.0001", (TASK.name, "heart-disease"), 5, "0.5", "always")
    status = folder.budget.status(Cohort.open(folder, TASK.name).id)
    assert (status.epsilon_limit, status.delta) == (Decimal(2), Decimal("0.0001"))


@pytest.mark.parametrize(("given", "public"), [(5, 5), (9, 5), (10, 10), (104, 100)])
def test_the_declared_number_is_rounded_down(given: int, public: int) -> None:
    assert round_declared(given) == public


def test_the_declared_number_is_never_taken_from_the_table(
    folder: HospitalFolder, source: Path
) -> None:
    text = refused("DeclaredPatientsInvalid", *add(folder, source, "--seed", "1"))
    assert "public" in text
    refused("DeclaredPatientsInvalid", *add(folder, source, "--declared-patients", "4"))
    assert not (folder.path / "cohorts").exists()


def test_a_declared_number_far_off_is_a_warning(folder: HospitalFolder, source: Path) -> None:
    report = stored(folder, source, 1000).report
    assert "more than twice" in report.warnings[-1]


@pytest.mark.parametrize("name", ["", "../x", ".x", "a" * 61, "a\nb"])
def test_a_name_that_cannot_be_used(folder: HospitalFolder, source: Path, name: str) -> None:
    refused(
        "CohortNameInvalid", "hospital-agent", "data", "add", "--task", TASK.name, "--source",
        source, "--home", folder.path, "--declared-patients", "100", "--", name,
    )  # fmt: skip


def test_a_lost_cohort_file_never_brings_a_fresh_budget(
    folder: HospitalFolder, source: Path
) -> None:
    ok(*add(folder, source))
    (Cohort.open(folder, TASK.name).folder / "cohort.json").unlink()
    with pytest.raises(FolderInvalid, match="budget"):
        stored(folder, source, name="again")


def add_and_die(folder: HospitalFolder, source: Path, left: int) -> int:
    """Adds in a process that dies before it opens or renames one file too many; its exit code."""
    child = os.fork()
    if child == 0:
        opened = 0

        def dying(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal opened
            own = event in ("open", "sqlite3.connect") and str(folder.path) in str(arguments[0])
            opened += own or event in ("os.rename", "os.mkdir")
            if opened > left:
                os._exit(9)

        sys.addaudithook(dying)
        try:
            stored(folder, source, seed=1)
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_killed_anywhere_there_is_all_of_it_or_nothing(tmp_path: Path, source: Path) -> None:
    codes: list[int] = []
    states = set()
    while not codes or codes[-1] == 9:
        left = len(codes)
        folder = HospitalFolder.create(tmp_path / f"h{left}", "hospital-1", "H")
        codes.append(add_and_die(folder, source, left))
        there = folder.path.joinpath("cohorts", TASK.name).exists()
        states.add(there)
        if not there:
            stored(folder, source, seed=1)  # the same command again
        cohort = Cohort.open(folder, TASK.name)
        assert folder.budget.status(cohort.id).epsilon_limit == Decimal(3)
        assert sum(len(cohort.frame(part)) for part in PARTS) > 100
        assert Policy.read(folder.path / "policy.json").tasks == (TASK.name,)
        assert left < 100
    assert codes[-1] == 0
    assert len(codes) > 8
    assert states == {True, False}


def test_a_full_disk_leaves_no_patient_behind(
    folder: HospitalFolder, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith("test.csv"):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left" in refused("FileAccess", *add(folder, source))
    assert synced
    assert [*folder.path.joinpath("cohorts").iterdir()] == []


# what cannot be added


def test_other_sources_are_refused_by_name(folder: HospitalFolder, tmp_path: Path) -> None:
    (tmp_path / "table.xlsx").write_bytes(b"PK")
    text = refused("SourceUnsupported", *add(folder, tmp_path / "table.xlsx"))
    assert "CSV" in text


def test_an_unknown_task_is_refused(folder: HospitalFolder, source: Path) -> None:
    refused(
        "TaskUnknown", "hospital-agent", "data", "add", "a", "--task", "lungs", "--source", source,
        "--home", folder.path, "--declared-patients", "100",
    )  # fmt: skip


def test_a_table_without_a_header_names_nobody(tmp_path: Path, frame: pd.DataFrame) -> None:
    frame.insert(0, "born", SECRET)
    bare = tmp_path / "bare.csv"
    frame.to_csv(bare, index=False, header=False)
    done = call("hospital-agent", "data", "check", "--source", bare, "--task", TASK.name)
    assert done.code == 1
    assert SECRET not in done.out + done.err


@pytest.mark.parametrize("twice", [False, True])
def test_without_a_header_the_first_patient_is_not_shown(tmp_path: Path, twice: bool) -> None:
    names = ["Wyrzykowski", *["Smith", "Jones"] * 6]
    weights = ["87.65", *["70"] * 12]
    table = pd.DataFrame({"a": names, "b": weights, "c": weights if twice else names[::-1]})
    table.to_csv(tmp_path / "bare.csv", index=False, header=False)
    done = call(
        "hospital-agent", "data", "check", "--source", tmp_path / "bare.csv", "--task", TASK.name
    )
    assert done.code == 1
    assert ("column 2 and column 3 alike" in done.err) is twice
    assert ("column 1  name" in done.out) is not twice
    assert not {"Wyrzykowski", "87.65"} & {*(done.out + done.err).replace(",", " ").split()}


def test_everything_that_is_wrong_is_reported_and_no_value(
    tmp_path: Path, frame: pd.DataFrame
) -> None:
    frame = frame.astype(object)
    frame.loc[3, "mean_radius"] = SECRET
    frame.loc[4, "mean_texture"] = f"about {SECRET}"
    frame.loc[5, TASK.label] = 2
    frame.loc[6:40, "mean_area"] = None
    path = written(tmp_path, frame.drop(columns="worst_area"))
    done = call("hospital-agent", "data", "check", "--source", path, "--task", TASK.name)
    assert done.code == 1
    problems = [line for line in done.out.splitlines() if line.startswith("problem: ")]
    assert [line.split(":")[1].strip() for line in problems[:-1]] == [
        "worst_area", "mean_radius", "mean_texture", TASK.label,
    ]  # fmt: skip
    assert "mean_radius: date" in problems[-1]
    assert "20 to 40 %" in next(x for x in done.out.splitlines() if x.startswith("  mean_area "))
    assert done.out.splitlines()[-1] == "not usable"
    assert SECRET not in done.out + done.err


def test_a_table_that_is_wrong_is_not_added(
    folder: HospitalFolder, tmp_path: Path, frame: pd.DataFrame
) -> None:
    frame.loc[3, "mean_radius"] = 1e6
    text = refused("DataInvalid", *add(folder, written(tmp_path, frame)))
    assert "mean_radius" in text
    assert "data check" in text
    assert not (folder.path / "cohorts").exists()
    assert Policy.read(folder.path / "policy.json").tasks == ()
    refused("DataInvalid", *add(folder, written(tmp_path, frame.head(3))))


# reports


def test_a_good_table_is_usable_and_nothing_is_stored(folder: HospitalFolder, source: Path) -> None:
    done = ok(
        "hospital-agent", "data", "check", "--source", source, "--task", TASK.name, "--format",
        "json",
    )  # fmt: skip
    report = json.loads(done.out)
    assert (report["usable"], report["rows"]) == (True, "100 to 199")
    assert (report["positive"], report["duplicates"]) == ("20 to 40 %", "none")
    assert [path.name for path in folder.path.iterdir()] == ["hospital.json"]


def test_duplicates_and_one_sided_tables_are_warnings(frame: pd.DataFrame) -> None:
    twice = pd.concat([frame, frame.head(20)])
    report = examine(TASK, FrameSource(twice))
    assert any("same as another" in text for text in report.warnings)
    report = examine(TASK, FrameSource(frame[frame[TASK.label] == 1]))
    assert report.usable
    assert any("judge no model" in text for text in report.warnings)
    assert examine(TASK, FrameSource(frame)).warnings == ()


def test_one_outcome_only_is_a_warning_that_the_policy_may_refuse(
    folder: HospitalFolder, tmp_path: Path, frame: pd.DataFrame
) -> None:
    source = written(tmp_path, frame[frame[TASK.label] == 1])
    change_policy(folder, {"one_class": "refused"})
    with pytest.raises(PolicyRefused, match="one_class"):
        stored(folder, source)
    assert not (folder.path / "cohorts").exists()
    ok("hospital-agent", "policy", "set", "--one-class", "allowed", "--home", folder.path)
    assert any("one outcome only" in text for text in stored(folder, source).report.warnings)


def test_cohorts_are_listed_and_checked_by_name(folder: HospitalFolder, source: Path) -> None:
    ok(*add(folder, source))
    listed = json.loads(
        ok("hospital-agent", "data", "list", "--home", folder.path, "--format", "json").out
    )
    assert [(row["name"], row["task"], row["epsilon_limit"]) for row in listed] == [
        ("oncology", TASK.name, "3")
    ]
    assert ok("hospital-agent", "data", "check", "oncology", "--home", folder.path).out.endswith(
        "\nusable\n"
    )
    refused("CohortMissing", "hospital-agent", "data", "check", "other", "--home", folder.path)
    refused("OptionInvalid", "hospital-agent", "data", "check", "--source", source)


@pytest.mark.parametrize(
    ("count", "band"),
    [(9, "fewer than 10"), (10, "10 to 19"), (49, "20 to 49"), (50, "50 to 99"),
     (199, "100 to 199"), (200, "200 to 499"), (9_999, "5000 to 9999")],
)  # fmt: skip
def test_bands_of_rows(count: int, band: str) -> None:
    assert rows_band(count) == band


@pytest.mark.parametrize(
    ("share", "band"),
    [(0, "none"), (0.001, "under 5 %"), (0.05, "5 to 20 %"), (0.5, "40 to 60 %"),
     (0.95, "over 95 %"), (0.999, "over 95 %"), (1, "all")],
)  # fmt: skip
def test_bands_of_shares(share: float, band: str) -> None:
    assert share_band(share) == band
