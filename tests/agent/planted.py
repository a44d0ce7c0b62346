"""A hospital's exports with identifiers planted in them, and the search for what got through.

Each export holds 60 patients who fit the task, and beside them, in columns, elements and headers
that real exports have, what identifies them.
"""

import contextlib
import csv
import re
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from dicom_examples import SECRETS, image, written
from fhir_examples import ndjson, of_one

from consortium import tasks

TASK = tasks.get("heart-disease")
ROWS = 60
_KINDS = ("Patient", "Observation", "Condition")
OLD = ("91", "93", "97", "104")
"""Ages of the first patients."""

COLUMNS = {
    "patient_name": ["Wyrzykowski, Zbigniew", "Okonkwo Adaeze", "Tremblay^Odile"],
    "mrn": ["MRN7712345", "MRN7712346"],
    "ssn": ["219-09-9871", "078-05-1120"],
    "date_of_birth": ["1931-05-17", "04.11.1926"],
    "admitted": ["2019-11-23T14:30:52Z", "23/11/2019"],
    "phone": ["+41 44 268 12 34", "(415) 555-2671"],
    "fax": ["+36 1 234 5678"],
    "email": ["z.wyrzykowski@example.org"],
    "zip": ["94110-1234", "03601"],
    "street": ["Bahnhofstrasse 12", "4711 North Elm Ave"],
    "health_plan": ["policy 55-123499"],
    "account": ["acct 9981277"],
    "licence": ["D1234567X"],
    "plate": ["ZH 123456"],
    "pacemaker": ["serial SN-99A1B2"],
    "website": ["https://family.example.net/zbigniew"],
    "last_login": ["192.168.10.44", "2001:db8::8a2e:370:7334"],
    "uuid": ["123e4567-e89b-12d3-a456-426614174000"],
    "remark": ["wife Adaeze asks to be called on 555-0199 before noon"],
    "referred_by": ["Dr. Quillfeather"],
    "ward": ["Zbigniew Wyrzykowski"],
    "lab": ["seen 4 March 2019 by Sinclair"],
    "age_in_words": ["97 years"],
}  # fmt: skip
"""Columns outside the task's schema, as exports have them, with what is planted there."""

IN_THE_SCHEMA = {
    "chol": ["MRN7712345", "219-09-9871", "20191123", "4155552671"],
    "trestbps": ["Wyrzykowski", "z.wyrzykowski@example.org", "2019-11-23"],
    "thalach": ["192.168.10.44", "9981277"],
    "sex": ["Zbigniew", "+41 44 268 12 34"],
    "cp": ["seen 4 March 2019 by Sinclair"],
    "disease": ["Dr. Quillfeather"],
}
"""Identifiers where the task's own columns should be."""


@dataclass(frozen=True)
class Export:
    """Files to add, and what is planted in them by place. Where a place is "", none is reported."""

    source: Path
    plants: Mapping[str, list[str]]


def patients() -> pd.DataFrame:
    """Patients who fit the task, as texts."""
    rng = np.random.default_rng(4)
    draw = {
        "age": rng.integers(30, 85, ROWS), "sex": rng.integers(0, 2, ROWS),
        "trestbps": rng.integers(95, 180, ROWS), "chol": rng.integers(150, 400, ROWS),
        "fbs": rng.integers(0, 2, ROWS), "thalach": rng.integers(80, 190, ROWS),
        "exang": rng.integers(0, 2, ROWS), "oldpeak": rng.integers(0, 40, ROWS) / 10,
        "cp": rng.integers(1, 5, ROWS), "restecg": rng.integers(0, 3, ROWS),
        "disease": np.arange(ROWS) % 2,
    }  # fmt: skip
    frame = pd.DataFrame(draw).astype(str).astype(object)
    frame.loc[: len(OLD) - 1, "age"] = list(OLD)
    return frame


def csv_export(folder: Path) -> Export:
    """A table with everything in it, and two headers that are data themselves."""
    frame = patients()
    for name, values in COLUMNS.items():
        frame[name] = None
        frame.loc[range(len(values)), name] = values
    frame["mrn"] = [f"MRN{7712345 + number}" for number in range(ROWS)]  # it names the patient
    frame["Zbigniew Wyrzykowski-Okonkwo"] = "1"
    frame["19310517"] = "1"
    path = folder / "export.csv"
    frame.to_csv(path, index=False, quoting=csv.QUOTE_ALL)
    headers = {"column 35": ["Zbigniew Wyrzykowski-Okonkwo"], "column 36": ["19310517"]}
    return Export(path, COLUMNS | headers)


def csv_with(folder: Path, column: str, value: str) -> Path:
    """A table that fits, but for one identifier in one of the task's own columns."""
    frame = patients()
    frame.loc[7, column] = value
    path = folder / "with.csv"
    frame.to_csv(path, index=False)
    return path


def dicom_export(folder: Path) -> Export:
    """Images with planted headers, and labels that name patients."""
    frame = patients().drop(columns=["age", "sex"])
    ids = [f"PAT77{n:05d}" for n in range(ROWS)]
    for n, patient in enumerate(ids):
        age = int(OLD[n]) if n < len(OLD) else 40 + n % 40
        one = image(PatientID=patient, PatientAge=f"{age:03d}Y", PatientSex="MF"[n % 2])
        written(folder / "images" / f"wyrzykowski-{n}.dcm", one)
    frame.insert(0, "patient", ids)
    frame["comment"] = None
    frame.loc[3, "comment"] = "asked by Dr. Quillfeather on 23/11/2019"
    frame.to_csv(folder / "labels.csv", index=False)
    planted = {"comment": ["Dr. Quillfeather", "23/11/2019"], "": [*ids[:5]]}
    planted[""] += [text for name, text in SECRETS.items() if name != "PatientID"]  # one each
    planted[""] += ["private-secret", "nested-secret", "overlay-secret", "preamble-secret"]
    return Export(folder / "images", planted)


FHIR_PLANTS = {
    "Patient.name": ["Wyrzykowski", "Zbigniew Adaeze"],
    "Patient.identifier": ["MRN7712345", "219-09-9871"],
    "Patient.telecom": ["+41 44 268 12 34", "z.wyrzykowski@example.org"],
    "Patient.address": ["Bahnhofstrasse 12", "94110-1234"],
    "Patient.birthDate": ["1933-06-30", "1931-06-30", "1927-06-30", "1920-06-30"],
    "Patient.contact": ["Tremblay Odile"],
    "Patient.generalPractitioner": ["Dr. Quillfeather"],
    "Patient.photo": ["https://family.example.net/zbigniew"],
    "Patient.text": ["seen 4 March 2019 by Sinclair"],
    "Observation.note": ["asks to be called on 555-0199"],
    "Observation.performer": ["NPI 1093817465"],
    "Observation.device": ["serial SN-99A1B2"],
    "Condition.recorder": ["Moira Okonkwo"],
}
"""Elements outside the mapping, with what is planted there."""


def fhir_export(folder: Path) -> Export:
    """An export as NDJSON, in which every kind of resource names somebody."""
    frame = patients().astype(
        {name: float if name == "oldpeak" else int for name in patients().columns}
    )
    resources = [
        one for number, row in enumerate(frame.itertuples(), start=1) for one in of_one(number, row)
    ]
    first = {kind: next(r for r in resources if r["resourceType"] == kind) for kind in _KINDS}
    for place, texts in FHIR_PLANTS.items():
        kind, _, element = place.partition(".")
        if element != "birthDate":
            first[kind][element] = [{"value": text} for text in texts]
    return Export(ndjson(folder / "export.ndjson", resources), FHIR_PLANTS)


OMOP = """
    CREATE TABLE person (person_id INTEGER, year_of_birth INTEGER, birth_datetime TEXT,
        gender_source_value TEXT,
        person_source_value TEXT, location_id INTEGER, provider_id INTEGER);
    CREATE TABLE location (location_id INTEGER, address_1 TEXT, city TEXT, zip TEXT);
    CREATE TABLE provider (provider_id INTEGER, provider_name TEXT, npi TEXT, dea TEXT);
    CREATE TABLE death (person_id INTEGER, death_date TEXT);
    CREATE TABLE note (person_id INTEGER, note_title TEXT, note_text TEXT);
    CREATE TABLE device_exposure (person_id INTEGER, unique_device_id TEXT);
    CREATE TABLE visit_occurrence (person_id INTEGER, visit_start_date TEXT,
        visit_source_value TEXT);
"""
OMOP_QUERY = """
    SELECT fact.*, birth_datetime, person_source_value, address_1, city, zip, provider_name, npi,
        dea, death_date, note_title, note_text, unique_device_id, visit_start_date,
        visit_source_value
    FROM fact JOIN person ON person.person_id = fact.patient
        LEFT JOIN location USING (location_id) LEFT JOIN provider USING (provider_id)
        LEFT JOIN death USING (person_id) LEFT JOIN note USING (person_id)
        LEFT JOIN device_exposure USING (person_id) LEFT JOIN visit_occurrence USING (person_id)
"""
OMOP_PLANTS = {
    "birth_datetime": ["1931-05-17 00:00:00"], "person_source_value": ["MRN7712345"],
    "address_1": ["Bahnhofstrasse 12"], "city": ["Entenhausen"], "zip": ["94110-1234"],
    "provider_name": ["Quillfeather, Moira"], "npi": ["1093817465"], "dea": ["BQ1234563"],
    "death_date": ["2019-11-23"], "note_title": ["letter to Dr. Sinclair"],
    "note_text": ["Mr Wyrzykowski, living with his parrot, was seen by his daughter Odile"],
    "unique_device_id": ["(01)00643169007222"], "visit_start_date": ["2019-11-20"],
    "visit_source_value": ["VIS-5512399"],
}  # fmt: skip


def omop_export(folder: Path) -> Export:
    """A CDM in SQLite, asked by a query that takes everything along."""
    path = folder / "cdm.sqlite"
    planted = {name: texts[0] for name, texts in OMOP_PLANTS.items()}
    frame = patients()
    frame.insert(0, "patient", np.arange(ROWS) + 501)
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(OMOP)
        frame.to_sql("fact", database, index=False)
        for person in frame["patient"].tolist():
            one = person == 501
            values = {name: text if one else None for name, text in planted.items()}
            database.execute(
                "INSERT INTO person VALUES "
                "(:id, 1950, :birth_datetime, 'M', :person_source_value, 1, 1)",
                values | {"id": person},
            )
        database.execute("INSERT INTO location VALUES (1, :address_1, :city, :zip)", planted)
        database.execute("INSERT INTO provider VALUES (1, :provider_name, :npi, :dea)", planted)
        database.execute("INSERT INTO death VALUES (501, :death_date)", planted)
        database.execute("INSERT INTO note VALUES (501, :note_title, :note_text)", planted)
        database.execute("INSERT INTO device_exposure VALUES (501, :unique_device_id)", planted)
        database.execute(
            "INSERT INTO visit_occurrence VALUES (501, :visit_start_date, :visit_source_value)",
            planted,
        )
        database.commit()
    return Export(path, OMOP_PLANTS)


def found_in(texts: Iterable[str], where: Iterable[bytes]) -> list[str]:
    """Those of the texts that stand anywhere in the bytes; one of few letters only as a word."""
    everything = b"\n".join(where)
    edge = rb"(?![0-9A-Za-z])"

    def there(text: bytes) -> bool:
        if len(text) >= 8:
            return text in everything
        return re.search(rb"(?<![0-9A-Za-z])" + re.escape(text) + edge, everything) is not None

    return [text for text in texts if there(text.encode())]


def bytes_of(folder: Path) -> list[bytes]:
    """Every byte below a folder, and the names of its files; databases with their journals."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    dumps = []
    for path in files:
        if path.suffix == ".sqlite":
            with sqlite3.connect(path) as database:
                dumps.append("\n".join(database.iterdump()).encode())
    return [*(path.read_bytes() for path in files), *(str(p).encode() for p in files), *dumps]
