"""Databases as sources, on SQLite: any query, and the OMOP Common Data Model; only ever read."""

import contextlib
import sqlite3
from pathlib import Path
from urllib.parse import quote

import pandas as pd
import pytest
from commands import refused
from heart_table import check, codes, heart, report, written

from consortium import tasks
from hospital_agent.errors import (
    DatabaseUnreadable,
    MappingFileInvalid,
    SecretInAddress,
    SourceEmpty,
    SourceUnsupported,
)
from hospital_agent.mapping import read_mapping
from hospital_agent.sources.omop import OmopDatabase
from hospital_agent.sources.sql import Database, SqlQuery
from hospital_agent.table import Reading

TASK = tasks.get("heart-disease")
SECRET = "Wyrzykowski"


@pytest.fixture
def address(tmp_path: Path) -> str:
    path = tmp_path / "hospital.sqlite"
    frame = heart().assign(surname=SECRET, id=range(60))
    with contextlib.closing(sqlite3.connect(path)) as database:
        frame.to_sql("stays", database, index=False)
    return f"sqlite:///{path}"


def asked(tmp_path: Path, query: str) -> tuple[str, Path]:
    return "--query", written(tmp_path / "query.sql", query)


def test_a_query_gives_rows(tmp_path: Path, address: str) -> None:
    query = "-- everything\nSELECT *, substr('10:30', 1, 2) AS hour FROM stays WHERE id >= 0;\n"
    found = report(address, *asked(tmp_path, query))
    assert (found["usable"], found["kind"]) == (True, "sql")
    assert found["dropped"] == ["surname", "id", "hour"]
    source = SqlQuery(Database(address), "SELECT age, sex, NULL AS x FROM stays")
    frame = pd.concat(list(source.chunks(["x", "age"])))
    assert frame["age"].astype(int).tolist() == heart()["age"].tolist()
    assert frame["x"].isna().all()


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM stays", "WITH x AS (SELECT 1) DELETE FROM stays", "SELECT 1 AS a, 2 AS b; DROP "
     "TABLE stays", "SELECT * FROM nowhere", f"SELECT '{SECRET}' FROM", "DROP TABLE stays",
     "/* x */ UPDATE stays SET age = 1", "PRAGMA query_only = OFF"],
)  # fmt: skip
def test_a_query_only_ever_reads(tmp_path: Path, address: str, query: str) -> None:
    done = check(address, *asked(tmp_path, query))
    assert "error[DatabaseUnreadable]" in done.err
    assert SECRET not in done.out + done.err
    with contextlib.closing(sqlite3.connect(tmp_path / "hospital.sqlite")) as database:
        assert database.execute("SELECT count(*), sum(age) FROM stays").fetchone() == (
            60, int(heart()["age"].sum()),
        )  # fmt: skip


def test_a_file_is_the_one_that_is_named(tmp_path: Path, address: str) -> None:
    for name in ("a%20b.sqlite", "a#b.sqlite", "a?b.sqlite"):
        (tmp_path / name).write_bytes((tmp_path / "hospital.sqlite").read_bytes())
        database = Database(f"sqlite:///{tmp_path}/{quote(name)}")
        assert len(SqlQuery(database, "SELECT age, sex FROM stays").columns()) == 2


def test_a_password_never_stands_in_an_address(tmp_path: Path) -> None:
    for secret in (
        f"postgresql://ann:{SECRET}@localhost/db",
        f"postgresql://ann@localhost/db?password={SECRET}",
    ):
        done = check(secret, *asked(tmp_path, "SELECT 1"))
        assert "error[SecretInAddress]" in done.err
        assert SECRET not in done.out + done.err
        with pytest.raises(SecretInAddress):
            Database(secret)


def test_addresses_that_lead_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    query = asked(tmp_path, "SELECT 1")
    for address, code in (
        ("nosuchthing://host/db", "DatabaseUnreadable"),
        (f"sqlite:///{tmp_path}/nowhere.sqlite", "DatabaseUnreadable"),
        (f"postgresql://ann@/db?host={tmp_path}", "DatabaseUnreadable"),
        ("mysql+pymysql://host/db", "SourceUnsupported"),
    ):
        monkeypatch.setenv("MEDPOLE_SOURCE_PASSWORD", SECRET)
        done = check(address, *query)
        assert f"error[{code}]" in done.err, address
        assert SECRET not in done.out + done.err
    assert not (tmp_path / "nowhere.sqlite").exists()
    with pytest.raises(DatabaseUnreadable, match="password"):
        Database(f"sqlite:///{tmp_path}/x", tmp_path / "nowhere")
    with pytest.raises(SourceUnsupported):
        Database("://")


def test_options_that_do_not_belong(tmp_path: Path, address: str) -> None:
    command = ("hospital-agent", "data", "check", "--task", TASK.name, "--source")
    assert "--query" in refused("OptionInvalid", *command, address)
    csv = written(tmp_path / "t.csv", "a,b\n1,2\n")
    refused("OptionInvalid", *command, csv, *asked(tmp_path, "SELECT 1"))
    refused("OptionInvalid", *command, csv, "--labels", csv)
    refused("TableUnreadable", *command, address, "--query", tmp_path / "nowhere.sql")
    (tmp_path / "images").mkdir()
    refused("LabelsMissing", *command, tmp_path / "images")
    with pytest.raises(SourceEmpty):
        list(SqlQuery(Database(address), "SELECT * FROM stays WHERE id < 0").chunks())


# OMOP

MAPPING = """
[source]
kind = "omop"
[columns.age]
person = "age"
at = 2024-12-31
[columns.sex]
person = "gender"
values = { 8507 = 1, 8532 = 0 }
[columns.trestbps]
measurement = [3004249]
take = "newest"
[columns.chol]
measurement = [3027114, 3019900]
take = "newest"
molar_mass = "386.65 g/mol"
[columns.fbs]
measurement = [3037110]
take = "first"
above = "120 mg/dL"
low = "20 mg/dL"
high = "1500 mg/dL"
[columns.thalach]
measurement = [3004500]
take = "newest"
unit = "/min"
[columns.exang]
condition = [4028367]
values = { present = 1, absent = 0 }
[columns.oldpeak]
observation = [2000001]
take = "newest"
[columns.cp]
observation = [2000002]
take = "newest"
values = { 11 = 1, 12 = 2, 13 = 3, 14 = 4 }
[columns.restecg]
observation = [2000003]
take = "newest"
unit = "1"
[columns.disease]
condition = [312327]
values = { present = 1, absent = 0 }
"""
SCHEMA = """
CREATE TABLE person (person_id, gender_concept_id, year_of_birth, month_of_birth, day_of_birth,
    person_source_value);
CREATE TABLE measurement (measurement_id INTEGER PRIMARY KEY, person_id, measurement_concept_id,
    measurement_date, value_as_number, value_as_concept_id, unit_concept_id,
    operator_concept_id DEFAULT 4172703);
CREATE TABLE observation (observation_id INTEGER PRIMARY KEY, person_id, observation_concept_id,
    observation_date, value_as_number, value_as_concept_id, unit_concept_id);
CREATE TABLE condition_occurrence (person_id, condition_concept_id, condition_start_date);
CREATE TABLE concept (concept_id, concept_code, vocabulary_id);
CREATE TABLE cohort (cohort_definition_id, subject_id);
INSERT INTO concept VALUES (8840, 'mg/dL', 'UCUM'), (8753, 'mmol/L', 'UCUM'),
    (8876, 'mm[Hg]', 'UCUM'), (8588, 'mm', 'UCUM');
"""
MG, MMOL, HG, MM = 8840, 8753, 8876, 8588


def facts(number: int, row: object) -> list[tuple[str, tuple[object, ...]]]:
    """Each person's rows of measurement and observation; some of them are not the ones to take."""
    values = vars(row) if hasattr(row, "__dict__") else row._asdict()  # type: ignore[attr-defined]
    of = {
        "measurement": [
            (3004249, "2020-01-01", values["trestbps"], None, HG),
            (3027114, "2018-01-01", 1, None, MG),
            (3019900, "2020-01-01", values["chol"] / 38.665, None, MMOL),
            (3027114, "2021-01-01", None, None, MG),
            (3037110, "2019-01-01", 140 if values["fbs"] else 90, None, MG),
            (3037110, "2019-01-01", 0, None, MG),
            (3004500, "2019-01-01", values["thalach"], None, None),
        ],
        "observation": [
            (2000001, "2020-01-01", values["oldpeak"], None, MM),
            (2000002, "2020-01-01", None, 10 + values["cp"], None),
            (2000003, "2020-01-01", values["restecg"], None, None),
        ],
    }
    return [(table, (number, *fact)) for table, rows in of.items() for fact in rows]


@pytest.fixture
def cdm(tmp_path: Path) -> str:
    path = tmp_path / "cdm.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.executescript(SCHEMA)
        for number, row in enumerate(heart(30).itertuples(index=False), start=1):
            person = (number, 8507 if row.sex else 8532, 2024 - row.age, 6, None, "MRN7712345")
            database.execute("INSERT INTO person VALUES (?, ?, ?, ?, ?, ?)", person)
            for table, fact in facts(number, row):
                database.execute(
                    f"INSERT INTO {table} (person_id, {table}_concept_id, {table}_date, "
                    "value_as_number, value_as_concept_id, unit_concept_id) "
                    "VALUES (?, ?, ?, ?, ?, ?)",
                    fact,
                )
            for concept, there in ((4028367, row.exang), (312327, row.disease)):
                if there:
                    fact = (number, concept, "2020-01-01")
                    database.execute("INSERT INTO condition_occurrence VALUES (?, ?, ?)", fact)
            if number <= 12:
                database.execute("INSERT INTO cohort VALUES (7, ?)", (number,))
        database.commit()
    return f"sqlite:///{path}"


def numbers(cdm: str, tmp_path: Path, text: str) -> pd.DataFrame:
    mapping = read_mapping(written(tmp_path / "m.toml", text), TASK)
    reading = Reading(TASK, OmopDatabase(Database(cdm), mapping), mapping)
    return pd.concat([rows.numbers for rows in reading.chunks()], ignore_index=True)


def test_one_row_for_each_person(cdm: str, tmp_path: Path) -> None:
    found = numbers(cdm, tmp_path, MAPPING)[list(heart(30))]
    pd.testing.assert_frame_equal(found, heart(30).astype(float), rtol=1e-9)
    said = report(cdm, "--mapping", tmp_path / "m.toml")
    assert (said["usable"], said["kind"], said["patients"]) == (True, "omop", "one row each")
    assert said["dropped"] == ["person_id", "person.person_source_value"]
    assert ("person.person_source_value", "record, account or licence number") in {
        (finding["column"], finding["kind"]) for finding in said["identifiers"]
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [("operator_concept_id = 4171756", "are not numbers"),
     ("unit_concept_id = 9529", "a unit that is not known")],
)  # fmt: skip
def test_a_measurement_that_says_more_is_not_taken_for_less(
    cdm: str, tmp_path: Path, change: str, said: str
) -> None:
    with contextlib.closing(sqlite3.connect(cdm.removeprefix("sqlite:///"))) as database:
        wide = f"UPDATE measurement SET {change} WHERE measurement_concept_id = 3004500"
        database.execute(f"{wide} AND person_id < 4")
        database.commit()
    (problem,) = report(cdm, "--mapping", written(tmp_path / "m.toml", MAPPING))["problems"]
    assert (
        problem["what"] == f"thalach: fewer than 5 rows {'have ' if 'unit' in said else ''}{said}"
    )


def test_one_cohort_of_the_database(cdm: str, tmp_path: Path) -> None:
    some = numbers(cdm, tmp_path, MAPPING.replace("[columns", "cohort = 7\n[columns", 1))
    assert len(some) == 12


def test_days_are_kept_to(cdm: str, tmp_path: Path) -> None:
    early = MAPPING.replace("3019900]", "3019900]\nuntil = 2019-12-31")
    assert set(numbers(cdm, tmp_path, early)["chol"]) == {1.0}
    late = MAPPING.replace("[312327]", "[312327]\nsince = 2021-01-01")
    assert set(numbers(cdm, tmp_path, late)["disease"]) == {0.0}


def test_what_is_no_cdm_and_no_concept(address: str, tmp_path: Path) -> None:
    mapping = written(tmp_path / "m.toml", MAPPING)
    assert "error[DatabaseUnreadable]" in check(address, "--mapping", mapping).err
    text = MAPPING.replace("[3004249]", '["8480-6"]')
    with pytest.raises(MappingFileInvalid, match="trestbps"):
        OmopDatabase(Database(address), read_mapping(written(tmp_path / "n.toml", text), TASK))


def test_what_is_not_mapped_is_shown_how_to(cdm: str, tmp_path: Path) -> None:
    text = MAPPING.split("[columns.disease]")[0]
    found = report(cdm, "--mapping", written(tmp_path / "m.toml", text))
    assert codes(found) == ["LabelsMissing"]
    assert "measurement = [CONCEPT_ID]" in found["problems"][0]["resolve"]
