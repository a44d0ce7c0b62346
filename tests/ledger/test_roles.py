"""What each role may do, by trying it: on the embedded server, and on one that a DBA has set up."""

from pathlib import Path

import pytest
from clusters import GENESIS, REFUSED, Cluster, LedgerDatabase, state_of
from ledger_examples import Consortium
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool

from ledger.database import (
    check_database,
    open_database,
)
from ledger.errors import DatabaseUnreachable
from ledger.privileges import privileges
from ledger.schema import metadata
from ledger.store import LedgerStore
from migrations.roles import APPLICATION, AUDITOR, MIGRATOR, OWNER

ROOT = Path(__file__).parents[2]

APPEND = {"SELECT", "INSERT"}
ON_LEDGER = ("entries", "blocks", "cosignatures", "conflicts")
MAY = {
    APPLICATION: {
        **dict.fromkeys((*ON_LEDGER, "submissions"), APPEND),
        "disclosures": {*APPEND, "DELETE", "LOCK"},  # who may delete may lock
        "alembic_version": {"SELECT"},
    },
    AUDITOR: {table: {"SELECT"} for table in (*ON_LEDGER, "alembic_version")},
    MIGRATOR: {},
}
INSERTS = {
    "entries": "INSERT INTO entries VALUES (0, 0, 't', NULL, NULL, NULL, 'b', sha256(''), NULL)",
    "blocks": "INSERT INTO blocks VALUES "
    "(1, 0, sha256('1'), sha256('0'), 'h', 'c', 's', '', 0, 1, '0')",
    "cosignatures": "INSERT INTO cosignatures VALUES (0, 'a', 'l')",
    "conflicts": "INSERT INTO conflicts VALUES (0, 'a', 'm')",
    "submissions": "INSERT INTO submissions VALUES ('k', 'a', 'b')",
    "disclosures": "INSERT INTO disclosures VALUES (sha256('c'), sha256('s'), 'v')",
    "alembic_version": "INSERT INTO alembic_version VALUES ('x')",
}


def attempts(table: str) -> dict[str, str]:
    column = {"alembic_version": "version_num"}.get(table) or metadata.tables[table].c[0].name
    return {
        "SELECT": f"SELECT * FROM {table}",
        "INSERT": INSERTS[table],
        "UPDATE": f"UPDATE {table} SET {column} = {column} WHERE false",
        "DELETE": f"DELETE FROM {table} WHERE false",
        "TRUNCATE": f"TRUNCATE {table} CASCADE",
        "TRIGGER": f"CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW "
        "EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
        "REFERENCES": f"CREATE TABLE r (x int); ALTER TABLE r ADD FOREIGN KEY (x) "
        f"REFERENCES {table}",
        "LOCK": f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    }


@pytest.mark.parametrize("role", list(MAY))
def test_truth_table(fresh: LedgerDatabase, role: str) -> None:
    with fresh.engine() as superuser, superuser.begin() as connection:
        connection.execute(text(GENESIS))
    found: dict[str, set[str]] = {}
    with fresh.engine(role) as engine, engine.connect() as connection:
        for table in (*metadata.tables, "alembic_version"):
            states = {name: state_of(connection, sql) for name, sql in attempts(table).items()}
            assert set(states.values()) <= {None, REFUSED}, (table, states)
            found[table] = {name for name, state in states.items() if state is None}
    assert found == {table: MAY[role].get(table, set()) for table in found}


@pytest.mark.parametrize("role", list(MAY))
@pytest.mark.parametrize(
    "statement",
    [
        "SET session_replication_role = replica",
        "ALTER TABLE entries DISABLE TRIGGER ALL",
        "ALTER TABLE entries DISABLE TRIGGER refuse_change",
        "ALTER TABLE entries ADD COLUMN more int",
        "DROP TABLE entries CASCADE",
        "DROP TRIGGER refuse_change ON entries",
        "DROP FUNCTION refuse_change CASCADE",
        "CREATE OR REPLACE FUNCTION public.refuse_change() RETURNS trigger LANGUAGE plpgsql "
        "AS 'BEGIN RETURN NEW; END'",
        "CREATE TABLE public.mine (n int)",
        "CREATE TEMPORARY TABLE entries (n int)",
        "CREATE SCHEMA mine",
        "DROP SCHEMA public CASCADE",
        "CREATE RULE r AS ON INSERT TO entries DO INSTEAD NOTHING",
        "CREATE ROLE mine",
        "ALTER ROLE CURRENT_USER SUPERUSER",
        "COPY (SELECT 1) TO PROGRAM 'true'",
        "SELECT * FROM pg_authid",
    ],
)
def test_refused_to_all_roles(cluster: Cluster, role: str, statement: str) -> None:
    """On the template itself: nothing of this works, and nothing is kept."""
    engine = create_engine(cluster.url(role, "medpole"), poolclass=NullPool)
    with engine.connect() as connection:
        assert state_of(connection, statement) == REFUSED


def test_a_role_cannot_grant_itself_more(fresh: LedgerDatabase) -> None:
    for role in (APPLICATION, AUDITOR):
        with fresh.engine(role) as engine, engine.connect() as connection:
            for become in (OWNER, MIGRATOR, "pg_write_all_data", "pg_write_server_files"):
                assert state_of(connection, f"SET ROLE {become}") == REFUSED
            with connection.begin():  # a warning only: no privileges were granted
                connection.exec_driver_sql(f"GRANT ALL ON entries TO {role}")
            assert state_of(connection, "DELETE FROM entries") == REFUSED


def test_the_migrator_becomes_the_owner_on_purpose_only(fresh: LedgerDatabase) -> None:
    with fresh.engine(MIGRATOR) as engine, engine.connect() as connection:
        assert state_of(connection, "SELECT * FROM entries") == REFUSED
        connection.exec_driver_sql(f"SET ROLE {OWNER}")
        connection.exec_driver_sql("ALTER TABLE entries ADD COLUMN more int")
        connection.rollback()


def test_a_superuser_in_replica_mode_is_still_refused(fresh: LedgerDatabase) -> None:
    with fresh.engine() as superuser:
        with superuser.begin() as connection:
            connection.execute(text(GENESIS))
            for table in (*ON_LEDGER, "submissions"):
                connection.execute(text(INSERTS[table]))
        with superuser.connect() as connection:
            for table in (*ON_LEDGER, "submissions"):
                connection.execute(text("SET session_replication_role = replica"))
                column = metadata.tables[table].c[0].name
                for change in (
                    f"UPDATE {table} SET {column} = {column}",
                    f"DELETE FROM {table}",
                    f"TRUNCATE {table} CASCADE",
                ):
                    with pytest.raises(IntegrityError, match="append-only"):
                        connection.execute(text(change))
                    connection.rollback()
                    connection.execute(text("SET session_replication_role = replica"))


def test_a_disclosure_is_erased_by_the_application(fresh: LedgerDatabase) -> None:
    with fresh.engine(APPLICATION) as engine, engine.begin() as connection:
        connection.execute(text(INSERTS["disclosures"]))
        assert connection.execute(text("DELETE FROM disclosures")).rowcount == 1


def test_a_ledger_is_founded_and_appended_to(fresh: LedgerDatabase, tmp_path: Path) -> None:
    four = Consortium(4)
    with open_database(tmp_path, fresh.url(APPLICATION)) as engine:
        store = LedgerStore(engine)
        store.found(four.founding_entry, four.coordinator)
        for height in (0, 1):
            for line in four.cosign(store.checkpoint(height)):
                store.add_cosignature(height, line)
            store.propose([four.entry(job=f"job-{height}")], four.coordinator)
        assert store.final_height() == 1
        assert store.block(2).entries == (four.entry(job="job-1"),)
    with fresh.engine(AUDITOR) as engine:
        assert LedgerStore(engine).block(1).entries == (four.entry(job="job-0"),)


def test_privileges_of_each_role(fresh: LedgerDatabase) -> None:
    def of(role: str | None = None) -> tuple[str, ...]:
        with fresh.engine(role) as engine:
            return privileges(engine).reasons

    assert of(APPLICATION) == of(AUDITOR) == ()
    assert of(MIGRATOR) == ("owner",)
    assert of() == ("superuser",)
    with fresh.engine() as superuser:
        with superuser.begin() as connection:
            connection.execute(text(f"GRANT UPDATE (body) ON entries TO {APPLICATION}"))
            connection.execute(text(f"GRANT TRUNCATE ON conflicts TO {APPLICATION}"))
            connection.execute(text(f"GRANT pg_write_server_files TO {APPLICATION}"))
        try:
            assert of(APPLICATION) == ("server-files", "update", "truncate")
        finally:
            with superuser.begin() as connection:
                connection.execute(text(f"REVOKE pg_write_server_files FROM {APPLICATION}"))


def test_who_has_no_role_does_not_come_in(fresh: LedgerDatabase) -> None:
    with fresh.cluster.admin.connect() as connection:
        connection.execute(text("CREATE ROLE stranger LOGIN PASSWORD 'unknown here'"))
        try:
            url = make_url(fresh.url(APPLICATION)).set(username="stranger", password="unknown here")
            with pytest.raises(DatabaseUnreachable, match="permission denied for database"):
                check_database(url.render_as_string(hide_password=False))
        finally:
            connection.execute(text("DROP ROLE stranger"))
