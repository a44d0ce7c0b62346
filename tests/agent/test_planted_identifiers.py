"""Identifiers planted in a hospital's exports: none gets through, each is reported by its place.

After an export was read and stored, every byte of the hospital's folder and the whole report are
searched for every planted value.
"""

import json
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path

import pandas as pd
import pytest
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
    found_in,
    omop_export,
)

from consortium.tasks.errors import DataInvalid
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.data import split_table
from hospital_agent.folder import HospitalFolder
from hospital_agent.mapping import ColumnMapping, Mapping
from hospital_agent.sources.csv_file import CsvFile
from hospital_agent.sources.dicom import DicomSource, Images
from hospital_agent.sources.source import Source
from hospital_agent.sources.sql import Database, SqlQuery
from hospital_agent.table import Reading
from privacy.deidentification.identifiers import refuse
from privacy.deidentification.pseudonyms import PseudonymKey
from privacy.deidentification.safe_harbor import checklist
from privacy.errors import ResidualIdentifier

FROM_IMAGES = Mapping(
    patient="patient",
    columns={
        "age": ColumnMapping.model_validate({"from": "PatientAge"}),
        "sex": ColumnMapping.model_validate({"from": "PatientSex", "values": {"M": 1, "F": 0}}),
    },
)


@pytest.fixture
def hospital(tmp_path: Path) -> HospitalFolder:
    return HospitalFolder.create(tmp_path / "hospital", "hospital-1", "Hospital 1")


def stored(hospital: HospitalFolder, source: Source, mapping: Mapping | None = None) -> str:
    """Reads a source and stores its patients, as `data add` does; the report, as JSON."""
    reading = Reading(TASK, source, mapping or Mapping())
    numbers = pd.concat([rows.numbers for rows in reading.chunks()], ignore_index=True)
    problems = [error for name in reading.present for error in reading.problems(name)]
    report = {
        "identifiers": [asdict(finding) for finding in reading.findings],
        "dropped": reading.dropped,
        "safe_harbor": [
            asdict(item)
            for item in checklist(
                reading.findings, reading.kept, reading.dropped, reading.generalised
            )
        ],
    }
    refuse(reading.residual(), reading.kept)
    if problems:
        raise problems[0]
    split = split_table(TASK, numbers, 1)
    Cohort.add(hospital, TASK.name, split, 40, Decimal(3), Decimal("0.00001"), "cardiology", 1)
    return json.dumps(report)


def check_nothing_is_left(hospital: HospitalFolder, export: Export, report: str) -> None:
    planted = [text for texts in export.plants.values() for text in texts]
    assert found_in(planted, bytes_of(export.source.parent)) == planted  # the search can find
    assert found_in(planted, [*bytes_of(hospital.path), report.encode()]) == []
    ages = pd.concat([Cohort.open(hospital, TASK.name).frame(part) for part in PARTS])["age"]
    assert ages.max() == 90
    assert (ages == 90).sum() == len(OLD)


def test_a_table_with_identifiers_in_every_other_column(
    hospital: HospitalFolder, tmp_path: Path
) -> None:
    export = csv_export(tmp_path)
    report = stored(hospital, CsvFile(export.source))
    check_nothing_is_left(hospital, export, report)
    said = json.loads(report)
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
    images = Images(export.source, PseudonymKey.make())
    labels = CsvFile(export.source.with_name("labels.csv"))
    report = stored(hospital, DicomSource(images, labels), FROM_IMAGES)
    check_nothing_is_left(hospital, export, report)
    assert "comment" in {finding["column"] for finding in json.loads(report)["identifiers"]}


def test_a_clinical_database_asked_for_everything(hospital: HospitalFolder, tmp_path: Path) -> None:
    export = omop_export(tmp_path)
    database = Database(f"sqlite:///{export.source}")
    source = SqlQuery(database, OMOP_QUERY)
    report = stored(hospital, source)
    check_nothing_is_left(hospital, export, report)
    said = json.loads(report)
    assert set(export.plants) <= set(said["dropped"])
    assert set(export.plants) <= {finding["column"] for finding in said["identifiers"]}


def test_there_are_enough_plants(tmp_path: Path) -> None:
    exports = [csv_export(tmp_path), dicom_export(tmp_path), omop_export(tmp_path)]
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
    with pytest.raises((ResidualIdentifier, DataInvalid)) as refused:
        stored(hospital, CsvFile(csv_with(tmp_path, column, value)))
    said = refused.value.what + refused.value.resolve
    assert f"{column}: " in said
    assert found_in([value], [said.encode(), *bytes_of(hospital.path)]) == []
    assert [path.name for path in hospital.path.iterdir()] == ["hospital.json"]
