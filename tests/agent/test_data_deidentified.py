"""What `data add` stores is de-identified: it fails closed, makes patients alike, opens images."""

from pathlib import Path

import pandas as pd
import pytest
from commands import ok, refused
from dicom_examples import image
from dicom_examples import written as written_image
from heart_table import TASK, heart, written

from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import change_policy


@pytest.fixture
def folder(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")


def add(folder: HospitalFolder, source: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "hospital-agent", "data", "add", "cardiology", "--task", TASK, "--source", source,
        "--home", folder.path, "--declared-patients", "40", *more,
    )  # fmt: skip


def stored(folder: HospitalFolder) -> pd.DataFrame:
    cohort = Cohort.open(folder, TASK)
    return pd.concat([cohort.frame(part) for part in PARTS], ignore_index=True)


def test_a_column_that_would_stay_and_looks_like_an_identifier_stops_all(
    folder: HospitalFolder, tmp_path: Path
) -> None:
    source = tmp_path / "t.csv"
    heart().rename(columns={"chol": "ssn"}).to_csv(source, index=False)
    mapping = written(tmp_path / "m.toml", '[columns.chol]\nfrom = "ssn"\n')
    said = refused("ResidualIdentifier", *add(folder, source, "--mapping", mapping))
    assert "ssn: social security number (at least 50 rows)" in said
    assert [path.name for path in folder.path.iterdir()] == ["hospital.json"]


def test_ages_over_89_are_stored_as_90(folder: HospitalFolder, tmp_path: Path) -> None:
    frame = heart()
    frame.loc[:5, "age"] = [89, 90, 91, 97, 104, 119]
    frame.to_csv(tmp_path / "t.csv", index=False)
    ok(*add(folder, tmp_path / "t.csv"))
    ages = stored(folder)["age"]
    assert (ages.max(), (ages == 90).sum(), (ages == 89).sum()) == (90, 5, 1)


def test_patients_are_made_alike_when_the_policy_says_so(
    folder: HospitalFolder, tmp_path: Path
) -> None:
    heart(200).to_csv(tmp_path / "t.csv", index=False)
    change_policy(folder, {"fewest_alike": 5})
    done = ok(*add(folder, tmp_path / "t.csv"))
    assert "like at least 4 others" in done.out
    found = stored(folder)
    assert found.groupby(["age", "sex"], dropna=False).size().min() >= 5
    assert len(found) >= 190
    assert ok("hospital-agent", "data", "check", "cardiology", "--home", folder.path)


def test_no_age_over_90_is_stored_when_patients_are_made_alike(
    folder: HospitalFolder, tmp_path: Path
) -> None:
    frame = heart(200)
    frame["age"] = [*range(60, 100)] * 5
    frame.to_csv(tmp_path / "t.csv", index=False)
    change_policy(folder, {"fewest_alike": 12})
    assert "age by 10" in ok(*add(folder, tmp_path / "t.csv")).out
    assert stored(folder)["age"].max() == 90


def test_images_are_added_and_no_name_of_a_patient_is(
    folder: HospitalFolder, tmp_path: Path
) -> None:
    frame = heart(12)
    images = tmp_path / "images"
    for number, row in enumerate(frame.itertuples()):
        sex = "M" if row.sex else "F"
        written_image(
            images / f"{number}.dcm",
            image(PatientID=f"MRN{number}", PatientAge=f"{row.age:03d}Y", PatientSex=sex),
        )
    labels = frame.drop(columns=["age", "sex"]).assign(patient=[f"MRN{n}" for n in range(12)])
    labels.to_csv(tmp_path / "labels.csv", index=False)
    mapping = written(
        tmp_path / "m.toml",
        'patient = "patient"\n[columns.age]\nfrom = "PatientAge"\n'
        '[columns.sex]\nfrom = "PatientSex"\nvalues = { M = 1, F = 0 }\n',
    )
    options = ("--labels", tmp_path / "labels.csv", "--mapping", mapping)
    whole = (images / "3.dcm").read_bytes()
    (images / "3.dcm").write_bytes(whole[:-50])
    assert "image 6 of 12" in refused("DicomUnreadable", *add(folder, images, *options))
    assert [path.name for path in folder.path.iterdir()] == ["hospital.json"]
    (images / "3.dcm").write_bytes(whole)
    ok("hospital-agent", "data", "check", "--source", images, "--task", TASK, *options)
    ok(*add(folder, images, *options))
    found = stored(folder).sort_values(["chol", "trestbps"])[list(frame)]
    expected = frame.sort_values(["chol", "trestbps"])
    assert found.to_numpy(dtype=float).tolist() == expected.to_numpy(dtype=float).tolist()
    everything = b"".join(p.read_bytes() for p in folder.path.rglob("*") if p.is_file())
    assert b"MRN" not in everything
