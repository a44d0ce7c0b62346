"""Identifiers planted in a hospital's exports: none gets through, each is reported by its place.

After `data check` and `data add`, every byte of the hospital's folder and all that was printed is
searched for every planted value.
"""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from commands import call, ok
from fhir_examples import MAPPING
from heart_table import written
from planted import (
    COLUMNS,
    IN_THE_SCHEMA,
    OLD,
    OMOP_QUERY,
    TASK,
    Export,
    bytes_of,
    csv_export,
    csv_with,
    dicom_export,
    fhir_export,
    found_in,
    omop_export,
)

from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.folder import HospitalFolder

FROM_IMAGES = """
patient = "patient"
[columns.age]
from = "PatientAge"
[columns.sex]
from = "PatientSex"
values = { M = 1, F = 0 }
"""


@pytest.fixture
def hospital(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "hospital", "hospital-1", "Hospital 1")


def stored(hospital: HospitalFolder, source: str | Path, *more: str | Path) -> dict[str, Any]:
    """Checks a source and adds its patients, as people do it; all that both commands printed."""
    asked = ("--home", hospital.path, "--task", TASK.name, "--source", source, *more)
    checked = ok("hospital-agent", "data", "check", *asked, "--format", "json")
    shown = ok("hospital-agent", "data", "check", *asked)
    added = ok(
        "hospital-agent", "data", "add", "cardiology", *asked, "--declared-patients", "40",
        "--seed", "1",
    )  # fmt: skip
    printed = "".join(done.out + done.err for done in (checked, shown, added))
    return json.loads(checked.out) | {"printed": printed}


def check_nothing_is_left(hospital: HospitalFolder, export: Export, report: dict[str, Any]) -> None:
    planted = [text for texts in export.plants.values() for text in texts]
    assert found_in(planted, bytes_of(export.source.parent)) == planted  # the search can find
    assert found_in(planted, [*bytes_of(hospital.path), report["printed"].encode()]) == []
    ages = pd.concat([Cohort.open(hospital, TASK.name).frame(part) for part in PARTS])["age"]
    assert ages.max() == 90
    assert (ages == 90).sum() == len(OLD)


def test_a_table_with_identifiers_in_every_other_column(
    hospital: HospitalFolder, tmp_path: Path
) -> None:
    export = csv_export(tmp_path)
    said = stored(hospital, export.source)
    check_nothing_is_left(hospital, export, said)
    assert set(export.plants) <= set(said["dropped"])
    places = {finding["column"] for finding in said["identifiers"]}
    assert set(COLUMNS) <= places
    assert "age" in places
    states = {item["letter"]: item["state"] for item in said["safe_harbor"]}
    assert {states[letter] for letter in "ABDEFGHIJKLMNOR"} == {"dropped"}
    assert states["C"] == "generalised"


def test_images_with_identifiers_in_their_headers_and_labels(
    hospital: HospitalFolder, tmp_path: Path
) -> None:
    export = dicom_export(tmp_path)
    mapping = written(tmp_path / "mapping.toml", FROM_IMAGES)
    labels = export.source.with_name("labels.csv")
    said = stored(hospital, export.source, "--labels", labels, "--mapping", mapping)
    check_nothing_is_left(hospital, export, said)
    assert "comment" in {finding["column"] for finding in said["identifiers"]}


def test_an_export_in_fhir(hospital: HospitalFolder, tmp_path: Path) -> None:
    export = fhir_export(tmp_path)
    said = stored(hospital, export.source, "--mapping", written(tmp_path / "m.toml", MAPPING))
    check_nothing_is_left(hospital, export, said)
    assert set(export.plants) <= {*said["dropped"]}


def test_a_clinical_database_asked_for_everything(hospital: HospitalFolder, tmp_path: Path) -> None:
    export = omop_export(tmp_path)
    query = written(tmp_path / "everything.sql", OMOP_QUERY)
    said = stored(hospital, f"sqlite:///{export.source}", "--query", query)
    check_nothing_is_left(hospital, export, said)
    assert set(export.plants) <= set(said["dropped"])
    assert set(export.plants) <= {finding["column"] for finding in said["identifiers"]}


def test_there_are_enough_plants(tmp_path: Path) -> None:
    makers = (csv_export, dicom_export, omop_export, fhir_export)
    exports = [maker(tmp_path) for maker in makers]
    counts = [sum(map(len, export.plants.values())) for export in exports]
    assert min(counts) >= 14
    assert sum(counts) + sum(map(len, IN_THE_SCHEMA.values())) >= 100


@pytest.mark.parametrize(
    ("column", "value"),
    [(name, value) for name, values in IN_THE_SCHEMA.items() for value in values],
)
def test_an_identifier_in_a_column_of_the_task_is_refused_by_its_place(
    hospital: HospitalFolder, tmp_path: Path, column: str, value: str
) -> None:
    done = call(
        "hospital-agent", "data", "add", "cardiology", "--home", hospital.path, "--task", TASK.name,
        "--source", csv_with(tmp_path, column, value), "--declared-patients", "40",
    )  # fmt: skip
    assert done.code == 1
    assert "error[ResidualIdentifier]" in done.err or "error[DataInvalid]" in done.err
    assert f"{column}: " in done.err
    assert found_in([value], [(done.out + done.err).encode(), *bytes_of(hospital.path)]) == []
    assert [path.name for path in hospital.path.iterdir()] == ["hospital.json"]
