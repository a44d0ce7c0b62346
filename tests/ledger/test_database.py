import logging
import math
import os
import re
import socket
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import CheckConstraint, Engine, create_engine, insert, inspect, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool

from ledger import database
from ledger.database import check_database, open_database, upgrade
from ledger.errors import (
    DatabaseBehind,
    DatabaseFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUnsafe,
)
from ledger.postgres import EmbeddedPostgres
from ledger.postgres import server as server_module
from ledger.schema import (
    blocks,
    conflicts,
    cosignatures,
    disclosures,
    entries,
    metadata,
    submissions,
)
from migrations import NEWEST

ROOT = Path(__file__).parents[2]

ENTRY = {
    "idx": 0,
    "height": 0,
    "type": "commitment",
    "institution": "a",
    "job": "j",
    "round": 1,
    "body": b"{}",
    "leaf_hash": bytes(32),
    "submission_key": "k",
}
BLOCK = {
    "height": 0,
    "epoch": 0,
    "hash": b"h" * 32,
    "prev": bytes(32),
    "header": b"{}",
    "checkpoint": "c",
    "signature": "s",
    "parent_cert": "",
    "first_idx": 0,
    "count": 1,
    "time": "2026-01-01T00:00:00Z",
    "frontier": b"f" * 64,
}
COSIGNATURE = {"height": 0, "institution": "a", "line": "— a xyz"}
CONFLICT = {"height": 0, "institution": "a", "line": "— a other"}
SUBMISSION = {"key": "change/1", "institution": "a", "body": b"{}"}
DISCLOSURE = {"commitment": b"c" * 32, "salt": b"s" * 32, "value": "St. Mary's"}
KEYS = {
    "entries": "idx",
    "blocks": "height",
    "cosignatures": "height, institution",
    "conflicts": "height, institution, line",
    "submissions": "key",
}


@pytest.fixture
def filled(engine: Engine) -> Engine:
    with engine.begin() as connection:
        connection.execute(insert(entries), ENTRY)
        connection.execute(insert(blocks), BLOCK)
        connection.execute(insert(cosignatures), COSIGNATURE)
        connection.execute(insert(conflicts), CONFLICT)
        connection.execute(insert(submissions), SUBMISSION)
        connection.execute(insert(disclosures), DISCLOSURE)
    return engine


def test_bytes_come_back_as_they_went_in(filled: Engine) -> None:
    with filled.connect() as connection:
        assert dict(connection.execute(entries.select()).mappings().one()) == ENTRY
        assert dict(connection.execute(blocks.select()).mappings().one()) == BLOCK
        assert dict(connection.execute(cosignatures.select()).mappings().one()) == COSIGNATURE
        assert dict(connection.execute(conflicts.select()).mappings().one()) == CONFLICT
        assert dict(connection.execute(disclosures.select()).mappings().one()) == DISCLOSURE
        received = connection.execute(submissions.select()).mappings().one()
        assert {**SUBMISSION, "received": received["received"]} == dict(received)
        assert received["received"].tzinfo is not None


@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize("table", list(KEYS))
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE {table} SET {column} = {column}",
        "DELETE FROM {table}",
        "DELETE FROM ONLY {table} WHERE {column} IS NOT NULL",
        "TRUNCATE {table} CASCADE",
        "INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({key}) "
        "DO UPDATE SET {column} = excluded.{column}",
    ],
)
@pytest.mark.usefixtures("filled")
def test_nothing_is_changed_or_deleted(
    superuser_engine: Engine, role: str, table: str, change: str
) -> None:
    key = KEYS[table]
    column = key.split(",")[0]
    with superuser_engine.connect() as connection:
        assert connection.execute(text("SHOW is_superuser")).scalar() == "on"
        connection.execute(text(f"SET session_replication_role = {role}"))
        with pytest.raises(IntegrityError, match=r"append-only: (UPDATE|DELETE|TRUNCATE) on"):
            connection.execute(text(change.format(table=table, key=key, column=column)))
        connection.rollback()
        assert connection.execute(text(f"SELECT count(*) FROM {table}")).scalar() == 1


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        (entries, {"leaf_hash": bytes(31)}),
        (entries, {"idx": -1}),
        (entries, {"height": -1}),
        (entries, {"round": -1}),
        (entries, {"body": b""}),
        (entries, {"body": None}),
        (entries, {"type": None}),
        (entries, {"idx": 0}),
        (entries, {"idx": 1, "submission_key": "k"}),
        (blocks, {"height": 1, "hash": bytes(33), "prev": b"p" * 32}),
        (blocks, {"height": 1, "hash": b"1" * 32, "prev": b""}),
        (blocks, {"height": 1, "hash": b"1" * 32}),
        (blocks, {"height": 1, "prev": b"p" * 32}),
        (blocks, {"hash": b"1" * 32, "prev": b"p" * 32}),
        (blocks, {"height": 1, "hash": b"1" * 32, "prev": b"p" * 32, "count": -1}),
        (cosignatures, {}),
        (cosignatures, {"height": 1}),
        (blocks, {"height": 1, "hash": b"1" * 32, "prev": b"p" * 32, "frontier": bytes(33)}),
        (conflicts, {}),
        (conflicts, {"height": 1}),
        (submissions, {}),
        (submissions, {"key": "change/2", "body": b""}),
        (submissions, {"key": "change/2", "institution": None}),
        (disclosures, {}),
        (disclosures, {"commitment": b"d" * 31}),
        (disclosures, {"commitment": b"d" * 32, "salt": b"s"}),
        (disclosures, {"commitment": b"d" * 32, "value": None}),
    ],
)
def test_constraints(filled: Engine, table: object, wrong: dict[str, object]) -> None:
    whole = {
        entries: {**ENTRY, "idx": 1, "submission_key": "l"},
        blocks: BLOCK,
        cosignatures: COSIGNATURE,
        conflicts: CONFLICT,
        submissions: SUBMISSION,
        disclosures: DISCLOSURE,
    }
    row = {**whole[table], **wrong}
    with filled.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(insert(table), row)


def test_equal_leaves_and_absent_submission_keys_are_permitted(filled: Engine) -> None:
    with filled.begin() as connection:
        for idx in (1, 2):
            connection.execute(insert(entries), {**ENTRY, "idx": idx, "submission_key": None})


def test_a_wrong_row_stays_out_of_the_error(filled: Engine) -> None:
    with filled.connect() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(insert(entries), {**ENTRY, "idx": 1, "body": b"Mustermann"})
    assert "hidden" in str(caught.value)
    assert "Mustermann" not in str(caught.value)


def test_migrations_make_what_the_schema_says(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
        for table in metadata.sorted_tables:
            found = {c["name"] for c in inspect(connection).get_check_constraints(table.name)}
            assert found == {
                str(c.name) for c in table.constraints if isinstance(c, CheckConstraint)
            }


def test_the_newest_revision_is_the_one_that_alembic_finds() -> None:
    folder = ScriptDirectory(str(ROOT / "migrations"))
    assert folder.get_current_head() == NEWEST


def test_upgrade_is_idempotent_and_silent(
    empty_database_url: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    engine = create_engine(empty_database_url, poolclass=NullPool)
    for _ in range(3):
        upgrade(engine)
    assert inspect(engine).has_table("entries")
    assert capfd.readouterr() == ("", "")
    assert [r for r in caplog.records if r.name.startswith("alembic")] == []


def test_concurrent_starters_upgrade_once(empty_database_url: str) -> None:
    script = (
        "import sys; from ledger.database import *\nwith open_database(None, sys.argv[1]): pass"
    )
    command = [sys.executable, "-c", script, empty_database_url]
    with ThreadPoolExecutor(4) as pool:
        runs = list(
            pool.map(
                lambda _: subprocess.run(command, cwd=ROOT, capture_output=True, text=True),
                range(4),
            )
        )
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 4


def test_threads_of_one_process_upgrade_once(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(upgrade, [engine] * 4))
    assert inspect(engine).has_table("cosignatures")


def test_a_schema_of_a_newer_version_is_refused(
    superuser_engine: Engine, database_url: str
) -> None:
    with superuser_engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseFailed, match="9999"):
        open_database(Path("/unused"), database_url).__enter__()


def test_a_failing_migration_leaves_nothing(empty_database_url: str) -> None:
    engine = create_engine(empty_database_url, poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE cosignatures (other int)"))
    with pytest.raises(DatabaseFailed, match="42P07"):
        upgrade(engine)
    assert inspect(engine).get_table_names() == ["cosignatures"]


def test_an_account_that_may_not_create_tables(empty_database_url: str) -> None:
    admin = create_engine(empty_database_url, poolclass=NullPool)
    with admin.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS guest"))
        connection.execute(text("CREATE ROLE guest LOGIN PASSWORD 'guest'"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    url = admin.url.set(username="guest", password="guest")
    with pytest.raises(DatabaseBehind, match="not there") as caught:
        open_database(Path("/unused"), url.render_as_string(hide_password=False)).__enter__()
    assert "consortium db upgrade" in caught.value.resolve
    assert "MEDPOLE_MIGRATOR_URL" in caught.value.resolve


def test_url_from_the_environment(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("postgresql", "postgres", "postgresql+psycopg2"):
        monkeypatch.setenv("DATABASE_URL", re.sub(r"^[^:]+", scheme, database_url))
        check_database()
        with open_database(tmp_path) as engine, engine.connect() as connection:
            assert connection.execute(text("SELECT 1")).scalar() == 1
            assert connection.get_isolation_level() == "READ COMMITTED"
    assert list(tmp_path.iterdir()) == []


def test_without_a_url_the_home_is_opened(
    postgres_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    check_database()
    with open_database(postgres_home) as engine:
        assert inspect(engine).has_table("entries")
    with pytest.raises(DBAPIError), engine.connect():
        pass


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "mysql://u:secret@h/d", "secret", "postgresql://u:secret@h:port/d"]
)
def test_other_databases_are_refused(url: str, tmp_path: Path) -> None:
    for attempt in (lambda: check_database(url), open_database(tmp_path, url).__enter__):
        with pytest.raises(DatabaseMissing) as caught:
            attempt()
        assert "postgresql://" in caught.value.resolve
        assert "secret" not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:secret@127.0.0.1:1/d",
        "postgresql://u:secret@name.invalid/d",
        "postgresql://u@127.0.0.1:1/d?password=secret",
        "postgresql://u:secret@127.0.0.1:1/d?nonsense=1",
        "postgresql://u:secret@/d?host=/nowhere",
    ],
)
def test_unreachable_is_said_quickly_and_without_the_password(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(DatabaseUnreachable) as caught:
        check_database(address)
    assert time.monotonic() - began < 8
    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_silent_server_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "CONNECT_TIMEOUT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        with pytest.raises(DatabaseUnreachable, match=r"127\.0\.0\.1.*timeout"):
            check_database(f"postgresql://u:secret@127.0.0.1:{silent.getsockname()[1]}/d")
        assert time.monotonic() - began < 6


def test_a_wrong_password_is_unreachable_too(database_url: str) -> None:
    url = make_url(database_url).set(password="mistaken").render_as_string(hide_password=False)
    with pytest.raises(DatabaseUnreachable, match="authentication failed") as caught:
        check_database(url)
    assert "mistaken" not in str(caught.value)


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit"])
def test_a_server_that_may_lose_is_refused(
    postgres_home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(server_module._SETTINGS, name, "off")
    with EmbeddedPostgres(postgres_home) as server:
        with pytest.raises(DatabaseUnsafe, match=f"{name} off"):
            check_database(server.url)
        with pytest.raises(DatabaseUnsafe, match=name):
            open_database(postgres_home, server.url).__enter__()


def test_a_database_that_may_lose_is_refused(database_url: str, superuser_engine: Engine) -> None:
    with superuser_engine.begin() as connection:
        name = make_url(database_url).database
        connection.execute(text(f"ALTER DATABASE {name} SET synchronous_commit = off"))
    with pytest.raises(DatabaseUnsafe, match="synchronous_commit off"):
        check_database(database_url)


def test_an_old_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_OLDEST_VERSION", 990000)
    with pytest.raises(DatabaseMissing, match="is needed"):
        check_database(database_url)


def test_another_encoding_is_refused(admin_engine: Engine) -> None:
    name = f"latin_{os.getpid()}"
    with admin_engine.connect() as connection:
        connection.execute(
            text(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
        )
        try:
            url = admin_engine.url.set(database=name).render_as_string(hide_password=False)
            with pytest.raises(DatabaseUnsafe, match="LATIN1") as caught:
                check_database(url)
            assert "UTF8" in caught.value.resolve
        finally:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.mark.parametrize("rested", [True, False])
def test_a_connection_that_has_rested_is_asked_before_it_is_used(
    engine: Engine, admin_engine: Engine, monkeypatch: pytest.MonkeyPatch, rested: bool
) -> None:
    monkeypatch.setattr(database, "_RESTED_S", 0 if rested else math.inf)
    pid = text("SELECT pg_backend_pid()")
    with engine.connect() as connection:
        own = connection.execute(pid).scalar_one()
    with admin_engine.connect() as connection:
        end = text("SELECT pg_terminate_backend(:own, 10000)")  # waits until it has ended
        assert connection.execute(end, {"own": own}).scalar_one()
    if rested:
        with engine.connect() as connection:
            assert connection.execute(pid).scalar_one() != own
    else:
        with engine.connect() as connection, pytest.raises(DBAPIError):
            connection.execute(pid)
