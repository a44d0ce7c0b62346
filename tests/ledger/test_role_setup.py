"""How roles and schema come into a database, new or old, and the commands that do it."""

import json
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from alembic import command
from clusters import GENESIS, REFUSED, Cluster, LedgerDatabase, fresh_database, rights, state_of
from ledger_examples import Consortium
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from consortium.cli.main import app as consortium_app
from consortium.cli.run import run
from ledger import database
from ledger.database import (
    open_database,
    upgrade,
    upgrade_database,
)
from ledger.errors import DatabaseBehind, DatabaseFailed, DatabaseUnreachable
from ledger.postgres import EmbeddedPostgres, binaries
from ledger.postgres.account import Account
from ledger.privileges import Privileges, privileges
from ledger.store import LedgerStore
from migrations.roles import APPLICATION, AUDITOR, GRANTS, MIGRATOR, OWNER, ROLES

ROOT = Path(__file__).parents[2]
NEWEST = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("0*.py"))


def test_set_up_again_changes_nothing_and_takes_stray_rights_back(fresh: LedgerDatabase) -> None:
    before = rights(fresh)
    with fresh.engine() as superuser, superuser.begin() as connection:
        connection.execute(text(f"GRANT ALL ON entries TO {APPLICATION}, PUBLIC"))
        connection.execute(text(f"GRANT UPDATE (line) ON cosignatures TO {AUDITOR}"))
        connection.execute(text(f"GRANT CREATE ON SCHEMA public TO PUBLIC, {APPLICATION}"))
        connection.execute(text(ROLES))
        connection.execute(text(GRANTS))
    with fresh.engine(AUDITOR) as engine, engine.connect() as connection:
        assert state_of(connection, "UPDATE cosignatures SET line = line") == REFUSED
    assert rights(fresh) == before


@pytest.mark.parametrize("made", ["nothing", "roles"])
def test_databases_of_one_server_are_set_up_at_once(cluster: Cluster, made: str) -> None:
    """Roles that nobody has made yet, by another name: those of the ledger are here already."""
    script = text((ROLES + GRANTS).replace("medpole_", "race_"))
    waiting = text("SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'")
    with _databases(cluster.admin, 3) as names, cluster.admin.connect() as watching:
        engines = [
            create_engine(cluster.admin.url.set(database=name), poolclass=NullPool)
            for name in names
        ]

        def set_up(engine: Engine) -> None:
            with engine.begin() as connection:
                connection.execute(script)

        try:
            if made == "roles":
                for role in ("owner", "app", "auditor", "migrator"):
                    watching.execute(text(f"CREATE ROLE race_{role}"))
            with ThreadPoolExecutor(2) as pool:
                with engines[0].begin() as first:
                    first.execute(script)  # done, and not committed
                    others = [pool.submit(set_up, engine) for engine in engines[1:]]
                    deadline = time.monotonic() + 20
                    while watching.execute(waiting).scalar_one() < len(others):
                        assert time.monotonic() < deadline
                        time.sleep(0.01)
                for other in others:
                    other.result()
            found = watching.execute(
                text("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'race\\_%'")
            )
            assert found.scalar() == 4
            member = text("SELECT pg_has_role('race_migrator', 'race_owner', 'MEMBER')")
            assert watching.execute(member).scalar()
        finally:
            for engine in engines:
                _drop(engine, "race_")
            _drop_roles(cluster.admin, "race_")


def test_an_administrator_who_is_no_superuser(cluster: Cluster) -> None:
    """CREATEROLE and the database are enough; CREATEROLE alone is told so."""
    script = (ROLES + GRANTS).replace("medpole_", "managed_")
    with _databases(cluster.admin, 1) as (name,), cluster.admin.connect() as connection:
        connection.execute(text("CREATE ROLE manager LOGIN CREATEROLE PASSWORD 'm'"))
        url = cluster.admin.url.set(username="manager", password="m", database=name)
        managing = create_engine(url, poolclass=NullPool)
        try:
            with (
                pytest.raises(DBAPIError, match="owner of the database"),
                managing.begin() as inside,
            ):
                inside.execute(text(script))
            connection.execute(text(f"ALTER DATABASE {name} OWNER TO manager"))
            upgrade(managing)
            for _ in range(2):
                with managing.begin() as inside:
                    inside.execute(text(script))
            with managing.connect() as inside:
                owners = inside.execute(
                    text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
                ).scalars()
                assert list(owners) == ["managed_owner"]
        finally:
            connection.execute(text(f"ALTER DATABASE {name} OWNER TO CURRENT_USER"))
            _drop(create_engine(cluster.admin.url.set(database=name)), "managed_")
            _drop_roles(cluster.admin, "managed_")
            connection.execute(text("DROP ROLE manager"))


@contextmanager
def _databases(admin: Engine, number: int) -> Iterator[list[str]]:
    if number == 0:
        yield []
        return
    with fresh_database(admin, "template0") as name, _databases(admin, number - 1) as others:
        yield [name, *others]


def _drop(engine: Engine, prefix: str) -> None:
    with engine.begin() as connection:
        for role in ("owner", "app", "auditor", "migrator"):
            connection.execute(
                text(
                    f"DO $$ BEGIN IF to_regrole('{prefix}{role}') IS NOT NULL THEN "
                    f"DROP OWNED BY {prefix}{role} CASCADE; END IF; END $$"
                )
            )
    engine.dispose()


def _drop_roles(admin: Engine, prefix: str) -> None:
    with admin.connect() as connection:
        for role in ("app", "auditor", "migrator", "owner"):
            connection.execute(text(f"DROP ROLE IF EXISTS {prefix}{role}"))


def test_a_dump_is_restored_and_opened(fresh: LedgerDatabase, tmp_path: Path) -> None:
    folder = next((f for f in _folders(fresh) if (f / "pg_dump").is_file()), None)
    if folder is None:
        pytest.skip("no pg_dump of the server's version here")
    four, dump = Consortium(4), tmp_path / "ledger.dump"
    with fresh.engine(APPLICATION) as engine:
        block = LedgerStore(engine).found(four.founding_entry, four.coordinator)
    source = fresh.cluster.admin.url.set(database=fresh.database, drivername="postgresql")
    with _databases(fresh.cluster.admin, 1) as (name,):
        restored = LedgerDatabase(fresh.cluster, name)
        target = source.set(database=name).render_as_string(hide_password=False)
        for call in (
            ["pg_dump", "-Fc", "-f", dump, source.render_as_string(hide_password=False)],
            ["pg_restore", "--exit-on-error", "--single-transaction", "-d", target, dump],
        ):
            subprocess.run([folder / str(call[0]), *call[1:]], check=True)
        with restored.engine() as superuser, superuser.begin() as connection:
            connection.execute(text(ROLES))
            connection.execute(text(GRANTS))
        assert rights(restored) == rights(fresh)
        with open_database(tmp_path, restored.url(APPLICATION)) as engine:
            assert LedgerStore(engine).block(0) == block


def _folders(fresh: LedgerDatabase) -> Iterator[Path]:
    """Where the programs of the server's version lie."""
    with fresh.cluster.admin.connect() as connection:
        number = str(connection.execute(text("SHOW server_version_num")).scalar())
    for found in binaries._installations(
        Account(), (*binaries.system_folders(), *binaries.packaged_folders())
    ):
        if found.major == int(number) // 10000:
            yield found.bin


# Migrating


@pytest.fixture
def empty(cluster: Cluster) -> Iterator[LedgerDatabase]:
    """A database with roles and without tables."""
    with fresh_database(cluster.admin, "template0") as name:
        made = LedgerDatabase(cluster, name)
        with made.engine() as superuser, superuser.begin() as connection:
            connection.execute(text(ROLES))
            connection.execute(text(GRANTS))
        yield made


def to_first(engine: Engine) -> None:
    """The schema of revision 0001, as whoever connects."""
    with engine.begin() as connection, database._alembic(connection) as config:
        command.upgrade(config, "0001")


def test_the_migrator_migrates_and_the_application_opens(
    empty: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url(APPLICATION))
    with pytest.raises(DatabaseBehind, match="not there") as caught:
        open_database(tmp_path).__enter__()
    assert "consortium db upgrade" in caught.value.resolve
    assert "MEDPOLE_MIGRATOR_URL" in caught.value.resolve
    monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", empty.url(MIGRATOR))
    with open_database(tmp_path) as engine:
        assert privileges(engine) == Privileges(APPLICATION, ())
        with engine.connect() as connection:
            found = connection.execute(
                text("SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = 'public'")
            )
            assert found.scalars().all() == [OWNER]
    # At the newest schema the migrator is not even asked.
    monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", "postgresql://u:p@127.0.0.1:1/d")
    with open_database(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_an_older_ledger_gets_roles_and_keeps_its_rows(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(cluster.admin, "template0") as name:
        old = LedgerDatabase(cluster, name)
        with old.engine() as superuser:
            to_first(superuser)
            with superuser.begin() as connection:
                connection.execute(text(GENESIS))
            with superuser.begin() as connection:
                connection.execute(text(ROLES))
                connection.execute(text(GRANTS))
        monkeypatch.setenv("DATABASE_URL", old.url(APPLICATION))
        with pytest.raises(DatabaseBehind, match="0001"):
            open_database(tmp_path).__enter__()
        monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", old.url(MIGRATOR))
        assert (upgrade_database(tmp_path).previous, upgrade_database(tmp_path).previous) == (
            "0001",
            NEWEST,
        )
        with open_database(tmp_path) as engine, engine.connect() as connection:
            rows = connection.execute(text("SELECT height, frontier FROM blocks")).all()
            assert [tuple(row) for row in rows] == [(0, None)]
            connection.rollback()
            assert state_of(connection, "INSERT INTO conflicts VALUES (0, 'a', 'm')") is None


def test_one_account_for_all_works_and_is_named(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fresh_database(cluster.admin, "template0") as name, cluster.admin.connect() as connection:
        connection.execute(text("CREATE ROLE single LOGIN PASSWORD 's'"))
        connection.execute(text(f"ALTER DATABASE {name} OWNER TO single"))
        try:
            url = cluster.admin.url.set(username="single", password="s", database=name)
            monkeypatch.setenv("DATABASE_URL", url.render_as_string(hide_password=False))
            monkeypatch.delenv("MEDPOLE_MIGRATOR_URL", raising=False)
            with open_database(tmp_path) as engine:
                found = privileges(engine)
                assert found.role == "single"
                assert found.reasons == ("owner", "update", "delete", "truncate", "trigger")
                assert found.could_alter
            warning = upgrade_database(tmp_path).warning
            assert warning == found.warning
            assert "single could change" in str(warning)
        finally:
            connection.execute(text(f"ALTER DATABASE {name} OWNER TO CURRENT_USER"))
            _drop_single(cluster, name)
            connection.execute(text("DROP ROLE single"))


def _drop_single(cluster: Cluster, name: str) -> None:
    engine = create_engine(cluster.admin.url.set(database=name), poolclass=NullPool)
    with engine.begin() as connection:
        connection.execute(text("DROP OWNED BY single CASCADE"))


def test_an_account_without_its_rights_is_told(fresh: LedgerDatabase) -> None:
    with fresh.engine() as superuser, superuser.begin() as connection:
        connection.execute(text(f"REVOKE INSERT ON entries FROM {APPLICATION}"))
    with pytest.raises(DatabaseFailed, match="may not read and append to entries") as caught:
        open_database(Path("/unused"), fresh.url(APPLICATION)).__enter__()
    assert f"GRANT {APPLICATION} TO" in caught.value.resolve


def test_the_migrators_password_stays_out_of_errors(
    empty: LedgerDatabase, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url(APPLICATION))
    wrong = make_url(empty.url(MIGRATOR)).set(password="mistaken")
    monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", wrong.render_as_string(hide_password=False))
    for attempt in (lambda: upgrade_database(tmp_path), open_database(tmp_path).__enter__):
        with pytest.raises(DatabaseUnreachable) as caught:
            attempt()
        assert "MEDPOLE_MIGRATOR_URL" in caught.value.resolve
        shown = "".join(traceback.format_exception(caught.value))
        for secret in ("mistaken", *empty.cluster.passwords.values()):
            assert secret not in shown + caught.value.resolve


# The commands


def consortium(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        run(consortium_app, ["db", *arguments])
    return int(str(ended.value.code)), *capsys.readouterr()


def test_db_upgrade(
    empty: LedgerDatabase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", empty.url(APPLICATION))
    monkeypatch.delenv("MEDPOLE_MIGRATOR_URL", raising=False)
    code, _, error = consortium(capsys, "upgrade")
    assert code == 1
    assert error.startswith("error[DatabaseBehind]: ")
    assert "how to resolve: Run `consortium db upgrade` with MEDPOLE_MIGRATOR_URL" in error
    monkeypatch.setenv("MEDPOLE_MIGRATOR_URL", empty.url(MIGRATOR))
    assert consortium(capsys, "upgrade") == (0, f"revision  {NEWEST}\n", "")
    code, output, _ = consortium(capsys, "upgrade", "--format", "json")
    assert json.loads(output) == {"previous": NEWEST, "revision": NEWEST}


def test_db_upgrade_makes_no_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("DATABASE_URL", "MEDPOLE_MIGRATOR_URL"):
        monkeypatch.delenv(variable, raising=False)
    code, _, error = consortium(capsys, "upgrade", "--home", str(tmp_path / "none"))
    assert code == 1
    assert error.startswith("error[LedgerMissing]")
    assert list(tmp_path.iterdir()) == []


def test_db_upgrade_of_a_home(
    postgres_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for variable in ("DATABASE_URL", "MEDPOLE_MIGRATOR_URL"):
        monkeypatch.delenv(variable, raising=False)
    code, output, _ = consortium(capsys, "upgrade", "--home", str(postgres_home))
    assert (code, output) == (0, f"previous  {NEWEST}\nrevision  {NEWEST}\n")


def test_db_roles_is_what_psql_takes(
    fresh: LedgerDatabase, capsys: pytest.CaptureFixture[str]
) -> None:
    code, output, _ = consortium(capsys, "roles", "--format", "json")
    assert code == 0
    told = json.loads(output)
    assert ROLES in told["sql"]
    assert GRANTS in told["sql"]
    _, script, _ = consortium(capsys, "roles")
    assert told["sql"] in script
    assert script.splitlines()[-3:] == told["psql"]
    psql = next((f / "psql" for f in _folders(fresh) if (f / "psql").is_file()), None)
    if psql is None:
        pytest.skip("no psql of the server's version here")
    url = fresh.cluster.admin.url.set(database=fresh.database, drivername="postgresql")
    before = rights(fresh)
    for _ in range(2):
        subprocess.run(
            [psql, "-X", "-q", "-f", "-", url.render_as_string(hide_password=False)],
            input="".join(line for line in script.splitlines(True) if "\\password" not in line),
            text=True,
            check=True,
        )
    assert rights(fresh) == before


# A home from before there were roles

KILLED = """
import os, signal, sys
from pathlib import Path
import psycopg2
from ledger.database import open_database
home, step = Path(sys.argv[1]), sys.argv[2]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

connect = psycopg2.connect
class Cursor(psycopg2.extensions.cursor):
    def execute(self, query, *arguments):
        super().execute(query, *arguments)
        if step in str(query):
            die()
psycopg2.connect = lambda *a, **k: connect(*a, **{**k, "cursor_factory": Cursor})
if step == "password written":
    from ledger.postgres import folder
    folder.os.fsync = die
if step == "password renamed":
    from ledger.postgres import folder
    folder._sync = die
with open_database(home):
    pass
"""


@pytest.fixture
def old_home(postgres_home: Path) -> Path:
    """A ledger at 0001 whose tables are the superuser's, without roles or a second password."""
    with EmbeddedPostgres(postgres_home) as server:
        url = make_url(server.superuser_url)
        admin = create_engine(
            url.set(database="postgres"), isolation_level="AUTOCOMMIT", poolclass=NullPool
        )
        with admin.connect() as connection:
            connection.execute(text("DROP DATABASE medpole"))
            for role in (APPLICATION, AUDITOR, MIGRATOR, OWNER):
                connection.execute(text(f"DROP ROLE {role}"))
            connection.execute(text("CREATE DATABASE medpole"))
        superuser = create_engine(url, poolclass=NullPool)
        to_first(superuser)
        with superuser.begin() as connection:
            connection.execute(text(GENESIS))
    (postgres_home / "postgres" / "application-password").unlink()
    return postgres_home


def test_a_home_from_before_is_upgraded_in_place_whenever_it_is_killed(
    old_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    for step in (
        "password written",
        "password renamed",
        "DO $roles$",
        "DO $grants$",
        "PASSWORD",
        "alembic_version",
        "ADD COLUMN frontier",
        "UPDATE alembic_version",
    ):
        died = subprocess.run(
            [sys.executable, "-c", KILLED, str(old_home), step], cwd=ROOT, capture_output=True
        )
        assert died.returncode == -signal.SIGKILL, (step, died.stderr)
    for _ in range(2):
        with open_database(old_home) as engine, engine.connect() as connection:
            assert privileges(engine) == Privileges(APPLICATION, ())
            assert connection.execute(text("SELECT height FROM blocks")).scalars().all() == [0]
            connection.rollback()
            assert state_of(connection, "DELETE FROM blocks") == REFUSED
    secret = old_home / "postgres" / "application-password"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert secret.stat().st_uid == (old_home / "postgres" / "password").stat().st_uid
    assert not secret.with_name("application-password.new").exists()
    assert secret.read_text() != (old_home / "postgres" / "password").read_text()
    assert secret.read_text().strip() not in (old_home / "postgres.log").read_text()


def test_a_lost_application_password_is_made_anew(
    postgres_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    secret = postgres_home / "postgres" / "application-password"
    before = secret.read_text()
    secret.unlink()
    with open_database(postgres_home) as engine:
        assert engine.url.username == APPLICATION
    assert secret.read_text() != before


def test_the_fixtures_are_two_accounts_on_one_database(
    engine: Engine, superuser_engine: Engine
) -> None:
    assert privileges(engine).reasons == ()
    assert privileges(superuser_engine).reasons == ("superuser",)
    with engine.connect() as one, superuser_engine.connect() as other:
        ask = text("SELECT current_database()")
        assert one.execute(ask).scalar() == other.execute(ask).scalar()
