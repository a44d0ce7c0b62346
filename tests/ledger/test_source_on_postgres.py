"""A hospital's PostgreSQL as a source of patients: its password, its cursor, its read-only word."""

from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import Engine, create_engine, text

from consortium import tasks
from hospital_agent.errors import DatabaseUnreadable
from hospital_agent.mapping import read_mapping
from hospital_agent.sources.omop import OmopDatabase
from hospital_agent.sources.source import CHUNK
from hospital_agent.sources.sql import PASSWORD, Database, SqlQuery

SECRET = "Wyrzykowski"


@pytest.fixture
def patients(empty_database_url: str) -> Engine:
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(
            text(
                "CREATE TABLE stays AS SELECT n AS id, n % 90 AS age, n % 2 = 0 AS smoker "
                f"FROM generate_series(1, {2 * CHUNK + 1}) AS n"
            )
        )
    engine.dispose()
    return engine


def test_rows_come_in_chunks_with_a_password_from_a_file_or_the_environment(
    patients: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = patients.url
    file = tmp_path / "password"
    file.write_text(f"{url.password or ''}\n")
    address = f"postgresql://{_without_password(patients)}"
    source = SqlQuery(Database(address, file), "SELECT id, age, smoker::int FROM stays;")
    assert source.columns() == ["id", "age", "smoker"]
    sizes = [len(chunk) for chunk in source.chunks(["age", "id"])]
    assert sizes == [CHUNK, CHUNK, 1]
    monkeypatch.setenv(PASSWORD, url.password or "")
    (only,) = SqlQuery(Database(address), "SELECT smoker, NULL AS x FROM stays LIMIT 2").chunks()
    pd.testing.assert_frame_equal(
        only, pd.DataFrame({"smoker": ["0", "1"], "x": [None, None]}, dtype=object)
    )


@pytest.mark.parametrize(
    "query",
    ["WITH gone AS (DELETE FROM stays RETURNING id) SELECT * FROM gone",
     "SELECT id, setval('counter', 7) FROM stays", f"SELECT '{SECRET}'::int, 1",
     "SELECT * FROM nowhere"],
)  # fmt: skip
def test_nothing_is_written_and_no_text_of_the_database_is_shown(
    patients: Engine, tmp_path: Path, query: str
) -> None:
    with patients.begin() as connection:
        connection.execute(text("CREATE SEQUENCE counter"))
    file = tmp_path / "password"
    file.write_text(patients.url.password or "")
    source = SqlQuery(Database(f"postgresql://{_without_password(patients)}", file), query)
    with pytest.raises(DatabaseUnreadable) as refused:
        list(source.chunks())
    assert SECRET not in str(refused.value.args)
    assert "SQLSTATE" in refused.value.what
    with patients.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM stays")) == 2 * CHUNK + 1
        assert connection.scalar(text("SELECT is_called FROM counter")) is False
    patients.dispose()


def test_a_second_statement_is_refused_here_and_by_the_session(
    patients: Engine, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(patients.url.password or "")
    database = Database(f"postgresql://{_without_password(patients)}", file)
    two = "SELECT 1 AS a, 2 AS b; COMMIT; DROP TABLE stays"
    with pytest.raises(DatabaseUnreadable, match="one statement"):
        SqlQuery(database, two)
    with pytest.raises(DatabaseUnreadable), database.rows(text(two)):
        pass
    with patients.connect() as connection:
        assert connection.scalar(text("SELECT count(*) FROM stays")) == 2 * CHUNK + 1
    patients.dispose()


CDM = """
CREATE SCHEMA cdm;
CREATE TABLE cdm.person (person_id int, gender_concept_id int, year_of_birth int,
    month_of_birth int, day_of_birth int, birth_datetime timestamp);
CREATE TABLE cdm.measurement (measurement_id bigint, person_id int, measurement_concept_id int,
    measurement_date date, value_as_number numeric, value_as_concept_id int, unit_concept_id int,
    operator_concept_id int DEFAULT 4172703);
CREATE TABLE cdm.condition_occurrence (person_id int, condition_concept_id int,
    condition_start_date date);
CREATE TABLE cdm.concept (concept_id int, concept_code varchar(50), vocabulary_id varchar(20));
INSERT INTO cdm.concept VALUES (8840, 'mg/dL', 'UCUM');
INSERT INTO cdm.person VALUES (1, 8507, 1960, 12, 31, '1960-12-31'), (2, 8532, 1970, 1, 1, NULL);
INSERT INTO cdm.measurement VALUES (1, 1, 3027114, '2019-01-01', 180, NULL, 8840),
    (2, 1, 3027114, '2020-01-01', 201.5, NULL, 8840), (3, 1, 3027114, '2024-01-01', 9, NULL, 8840);
INSERT INTO cdm.condition_occurrence VALUES (2, 312327, '2020-02-02');
"""
OMOP = """
[source]
kind = "omop"
schema = "cdm"
[columns.age]
person = "age"
at = 2020-06-30
[columns.sex]
person = "gender"
values = { 8507 = 1, 8532 = 0 }
[columns.chol]
measurement = [3027114]
take = "newest"
until = 2023-12-31
[columns.disease]
condition = [312327]
since = 2020-01-01
values = { present = 1, absent = 0 }
"""


def test_a_common_data_model_in_a_schema_of_its_own(
    empty_database_url: str, tmp_path: Path
) -> None:
    engine = create_engine(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text(CDM))
    file, mapping_file = tmp_path / "password", tmp_path / "m.toml"
    file.write_text(engine.url.password or "")
    mapping_file.write_text(OMOP)
    engine.dispose()
    database = Database(f"postgresql://{_without_password(engine)}", file)
    source = OmopDatabase(database, read_mapping(mapping_file, tasks.get("heart-disease")))
    (rows,) = source.chunks()
    assert rows.sort_values("person_id").to_dict("list") == {
        "person_id": ["1", "2"], "age": ["59", "50"], "sex": ["8507", "8532"],
        "chol": ["201.5", None], "disease": ["absent", "present"], "chol.unit": ["mg/dL", None],
        "person.birth_datetime": ["1960-12-31 00:00:00", None],
    }  # fmt: skip


def _without_password(engine: Engine) -> str:
    shown = engine.url.render_as_string(hide_password=False).partition("://")[2]
    return shown.replace(f":{engine.url.password}@", "@", 1)
