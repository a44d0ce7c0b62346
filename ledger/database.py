"""The ledger's PostgreSQL: ``DATABASE_URL`` where it is set, else the embedded server of a home.

A database is opened only if it keeps what it acknowledges (fsync, full_page_writes and
synchronous_commit on, UTF-8, PostgreSQL 15 or newer) and has the newest schema. What opens it is
the application's account, which reads and appends. What migrates it is another, where there is one:
``MEDPOLE_MIGRATOR_URL``, or the embedded server's superuser; it acts as the role that owns the
tables (``migrations/roles.py``). With one account for both, that account could also change the
ledger: ``privileges`` says so, and only co-signed heads would show it.

A password need not stand in a URL: ``DATABASE_PASSWORD_FILE`` and
``MEDPOLE_MIGRATOR_PASSWORD_FILE`` name files that hold nothing else.
"""

import logging
import math
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psycopg2.extensions import encrypt_password
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry

from ledger.errors import (
    DatabaseBehind,
    DatabaseBusy,
    DatabaseFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUnsafe,
    LedgerMissing,
)
from ledger.privileges import privileges
from ledger.schema import metadata
from migrations import NEWEST
from migrations.roles import (
    APPLICATION,
    AUDITOR,
    GRANTS,
    LOGINS,
    MIGRATION_LOCK,
    MIGRATOR,
    OWNER,
    ROLES,
)

if TYPE_CHECKING:
    from alembic.config import Config

CONNECT_TIMEOUT_S = 5
_LINK: Mapping[str, int] = {
    "connect_timeout": CONNECT_TIMEOUT_S, "keepalives_idle": 10, "keepalives_interval": 5,
    "keepalives_count": 3, "tcp_user_timeout": 25_000,
}  # fmt: skip
"""A server whose machine is gone is given up after half a minute, not after a quarter of an hour;
what the URL says counts."""
POOL_SIZE = 10
_RESTED_S = 1.0
MIGRATION_PATIENCE_S = 60
_OLDEST_VERSION = 150000
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")
_APPLICATION_URL = "DATABASE_URL"
_MIGRATOR_URL = "MEDPOLE_MIGRATOR_URL"
_ADMIN_URL = "MEDPOLE_ADMIN_URL"
PASSWORD_FILES: Mapping[str, str] = {
    APPLICATION: "DATABASE_PASSWORD_FILE",
    MIGRATOR: "MEDPOLE_MIGRATOR_PASSWORD_FILE",
    AUDITOR: "MEDPOLE_AUDITOR_PASSWORD_FILE",
}
"""Variables that name the file with a role's password."""


@contextmanager
def open_database(home: Path, url: str | None = None) -> Iterator[Engine]:
    """Open the ledger's database as the application, checked and migrated, for the context's time.

    ``url`` or ``DATABASE_URL`` names a PostgreSQL server; without either, the embedded server of
    ``home`` is started, and stopped on exit. ``MEDPOLE_MIGRATOR_URL`` migrates what
    ``DATABASE_URL`` names, only if it is behind. Raises DatabaseUnreachable, DatabaseMissing,
    DatabaseUnsafe, DatabaseBehind, DatabaseBusy, DatabaseFailed or HomeInvalid.
    """
    configured = url or os.environ.get(_APPLICATION_URL)
    if configured:
        migrator = None if url else os.environ.get(_MIGRATOR_URL)
        with _checked_engine(_postgres_url(configured)) as engine:
            if migrator and not _is_newest(engine):
                with _checked_engine(
                    _postgres_url(migrator, _MIGRATOR_URL), _MIGRATOR_URL
                ) as migrating:
                    upgrade(migrating)
            upgrade(engine)
            _check_rights(engine)
            yield engine
        return
    # Only here: the supervisor is for POSIX systems, a DATABASE_URL serves all.
    from ledger.postgres import EmbeddedPostgres

    with EmbeddedPostgres(home) as server:
        with _checked_engine(_postgres_url(server.superuser_url)) as migrating:
            upgrade(migrating)
        with _checked_engine(_postgres_url(server.url)) as engine:
            yield engine


@contextmanager
def attached_database(home: Path) -> Iterator[Engine]:
    """Open, as the application, the database that another process keeps open for ``home``.

    It is as long there as that process. Raises DatabaseMissing, DatabaseUnreachable, DatabaseBehind
    or HomeInvalid.
    """
    if configured := os.environ.get(_APPLICATION_URL):
        with open_database(home, configured) as engine:
            yield engine
        return
    from ledger.postgres import running_url

    with _checked_engine(_postgres_url(running_url(home))) as engine:
        if not _is_newest(engine):
            raise DatabaseBehind(
                "the database is being migrated, or is of an older version",
                "Try again in a moment; then upgrade the process that keeps it open.",
            )
        yield engine


def check_database(url: str | None = None) -> None:
    """Check early, before any work, that the configured database answers and is safe.

    Does nothing where neither ``url`` nor ``DATABASE_URL`` is set. Raises DatabaseUnreachable,
    DatabaseMissing or DatabaseUnsafe, within CONNECT_TIMEOUT_S for each address of the host.
    """
    configured = url or os.environ.get(_APPLICATION_URL)
    if configured:
        with _checked_engine(_postgres_url(configured)):
            pass


@dataclass(frozen=True)
class Upgraded:
    """The schema's revision before and after, and what the migrating account should not be for."""

    previous: str | None
    revision: str
    warning: str | None = None


def upgrade_database(home: Path) -> Upgraded:
    """Migrate, with the account that is there for it, the database that a start would open.

    That is ``MEDPOLE_MIGRATOR_URL``, else ``DATABASE_URL`` (the answer then carries the warning of
    ``privileges``), else the embedded server of ``home``. Raises LedgerMissing where there is none,
    and what ``open_database`` raises.
    """
    for variable in (_MIGRATOR_URL, _APPLICATION_URL):
        if configured := os.environ.get(variable):
            with _checked_engine(_postgres_url(configured, variable), variable) as engine:
                done = upgrade(engine)
                warning = privileges(engine).warning if variable == _APPLICATION_URL else None
                return Upgraded(done.previous, done.revision, warning)
    if not os.path.lexists(home / "postgres"):
        raise LedgerMissing(
            f"there is no database in {home}",
            "Name its folder with --home, or set DATABASE_URL and MEDPOLE_MIGRATOR_URL.",
        )
    from ledger.postgres import EmbeddedPostgres

    with (
        EmbeddedPostgres(home) as server,
        _checked_engine(_postgres_url(server.superuser_url)) as engine,
    ):
        return upgrade(engine)


def upgrade(engine: Engine) -> Upgraded:
    """Bring the schema to the newest migration: whole or not at all, one starter at a time.

    Nothing is attempted where it is the newest already. Where the roles are set up, the tables are
    made by their owner, and granted. Raises DatabaseBehind where this account may not change the
    schema, DatabaseBusy or DatabaseFailed.
    """
    previous: str | None = None
    try:
        with engine.begin() as connection:
            separated = connection.execute(text(_MAY_BECOME_OWNER), {"owner": OWNER}).scalar_one()
            if separated:
                connection.execute(text(f"SET LOCAL ROLE {OWNER}"))
            previous = _revision(connection)
            if previous == NEWEST:
                return Upgraded(previous, NEWEST)
            connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_PATIENCE_S}s'"))
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
            previous = _revision(connection)  # another starter may have been faster
            if previous != NEWEST:
                _migrate(connection, previous)
                if separated:
                    connection.execute(text(GRANTS))
    except DBAPIError as error:
        state = getattr(error.orig, "pgcode", None)
        if state == "55P03":  # lock_not_available
            raise DatabaseBusy(
                f"another process has migrated this database for {MIGRATION_PATIENCE_S} s",
                "Wait until it is done, then start again.",
            ) from error
        if state == "42501":  # insufficient_privilege: the tables are somebody else's
            raise _behind(previous) from error
        raise DatabaseFailed(
            f"the database's schema could not be made (SQLSTATE {state})",
            "Give the ledger an empty database of its own, in which the account may create tables.",
        ) from error
    return Upgraded(previous, NEWEST)


def roles_script() -> tuple[str, tuple[str, ...]]:
    """The SQL with which an administrator makes the roles, and those that then need a password."""
    return f"BEGIN;\n\n{ROLES}\n{GRANTS}\nCOMMIT;\n", LOGINS


def make_roles() -> list[str]:
    """Make the roles, as the administrator of ``MEDPOLE_ADMIN_URL``; may run again at any time.

    The roles of whom ``PASSWORD_FILES`` names a file get that password; they are returned. The
    server sees only what it stores of it. Raises DatabaseMissing, DatabaseUnreachable,
    DatabaseUnsafe or DatabaseFailed.
    """
    configured = os.environ.get(_ADMIN_URL)
    if not configured:
        raise DatabaseMissing(
            f"{_ADMIN_URL} is not set", "Name the database and its administrator's account in it."
        )
    passwords = {
        role: _password(variable)
        for role, variable in PASSWORD_FILES.items()
        if os.environ.get(variable)
    }
    with _checked_engine(_postgres_url(configured, _ADMIN_URL), _ADMIN_URL) as engine:
        try:
            with engine.begin() as connection:
                connection.execute(text(ROLES))
                connection.execute(text(GRANTS))
                raw = connection.connection.driver_connection
                for role, password in passwords.items():
                    stored = encrypt_password(password, role, raw, "scram-sha-256")
                    connection.exec_driver_sql(f"ALTER ROLE {role} PASSWORD %s", (stored,))
        except DBAPIError as error:
            raise DatabaseFailed(
                f"the roles could not be made (SQLSTATE {getattr(error.orig, 'pgcode', None)})",
                f"Let {_ADMIN_URL} name a superuser, or the database's owner with CREATEROLE.",
            ) from None  # what it quotes may hold a password's digest
    return list(passwords)


# Who owns the tables migrates them; where there are none, the owner's role if it may make them.
_MAY_BECOME_OWNER = """
    SELECT coalesce(bool_or(
        pg_has_role(current_user, oid, 'MEMBER')
        AND CASE WHEN to_regclass('entries') IS NULL
            THEN coalesce(has_schema_privilege(oid, current_schema(), 'CREATE'), false)
            ELSE (SELECT relowner FROM pg_class WHERE oid = to_regclass('entries')) = role.oid
        END), false)
    FROM pg_roles AS role WHERE rolname = :owner
"""
_MAY_CREATE = "SELECT coalesce(has_schema_privilege(current_schema(), 'CREATE'), false)"


@contextmanager
def _alembic(connection: Connection) -> Iterator["Config"]:
    """Alembic's configuration for migrations over a connection."""
    from alembic.config import Config  # slow to import, and seldom needed

    # It announces each run; a coordinator's output is its own.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with as_file(files("migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = connection
        yield config


def _migrate(connection: Connection, previous: str | None) -> None:
    """Applies the migrations that are missing, in the connection's transaction."""
    from alembic import command
    from alembic.script import ScriptDirectory
    from alembic.util import CommandError

    with _alembic(connection) as config:
        try:
            if previous is not None:
                ScriptDirectory.from_config(config).get_revision(previous)
            if not connection.execute(text(_MAY_CREATE)).scalar_one():
                raise _behind(previous)
            command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseFailed(
                f"the database's schema is not one of this version's: {error}",
                "Use the MedPoLe that wrote this database last, or a newer one.",
            ) from error


def _revision(connection: Connection) -> str | None:
    """The schema's revision, None where there is none that this account may see."""
    table = connection.execute(
        text(
            "SELECT to_regclass('alembic_version') IS NOT NULL "
            "AND has_table_privilege(to_regclass('alembic_version'), 'SELECT')"
        )
    ).scalar()
    if not table:
        return None
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def _is_newest(engine: Engine) -> bool:
    with engine.connect() as connection:
        return _revision(connection) == NEWEST


def _behind(revision: str | None) -> DatabaseBehind:
    return DatabaseBehind(
        f"the database's schema is {revision or 'not there, or not to be read'}, {NEWEST} is "
        "needed, and this account may not change it",
        f"Run `consortium db upgrade` with {_MIGRATOR_URL} set to the migrating account. If that "
        f"was done, this account lacks its rights: GRANT {APPLICATION} TO it.",
    )


def _check_rights(engine: Engine) -> None:
    """Check that the account may read and append. Raises DatabaseFailed."""
    with engine.connect() as connection:
        missing = connection.execute(
            text(
                "SELECT current_user, relname FROM pg_class WHERE relname = ANY(:tables) "
                "AND pg_table_is_visible(oid) AND NOT (has_table_privilege(oid, 'SELECT') "
                "AND has_table_privilege(oid, 'INSERT')) ORDER BY relname LIMIT 1"
            ),
            {"tables": list(metadata.tables)},
        ).first()
    if missing is not None:
        raise DatabaseFailed(
            f"the database account {missing[0]} may not read and append to {missing[1]}",
            f'Run GRANT {APPLICATION} TO "{missing[0]}"; or, without roles, let one account own '
            "the tables.",
        )


def _postgres_url(url: str, variable: str = _APPLICATION_URL) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseMissing(  # without the cause: it may quote the password
            f"{variable} is not a database URL", "Use postgresql://USER:PASSWORD@HOST:5432/NAME"
        ) from None
    dialect = parsed.drivername.partition("+")[0]
    if dialect not in ("postgresql", "postgres"):
        raise DatabaseMissing(
            f"{variable} names a {dialect} database; the ledger is kept in PostgreSQL only",
            "Use postgresql://USER:PASSWORD@HOST:5432/NAME, or unset DATABASE_URL for the "
            "embedded PostgreSQL.",
        )
    file = variable.replace("URL", "PASSWORD_FILE")
    if parsed.password is None and os.environ.get(file):
        parsed = parsed.set(password=_password(file))
    return parsed.set(drivername="postgresql+psycopg2")


def _password(variable: str) -> str:
    """The password in the file that a variable names; a newline at its end is not part of it."""
    path = Path(os.environ[variable])
    try:
        password = path.read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError):
        password = ""
    if not password:
        raise DatabaseMissing(
            f"the file {path} in {variable} is empty or cannot be read",
            "Write the password into it, and let this account read it.",
        )
    return password


@contextmanager
def _checked_engine(url: URL, variable: str = _APPLICATION_URL) -> Iterator[Engine]:
    link = {name: value for name, value in _LINK.items() if name not in url.query}
    engine = create_engine(
        url,
        pool_size=POOL_SIZE,
        max_overflow=0,
        isolation_level="READ COMMITTED",
        hide_parameters=True,  # record bodies stay out of exceptions and logs
        connect_args={"application_name": "medpole", **link},
    )
    _ask_rested(engine)
    try:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            raise _unreachable(url, variable, error) from None
        with connection:
            _check_safe(connection)
        yield engine
    finally:
        engine.dispose()


def _ask_rested(engine: Engine) -> None:
    """A connection that has rested is asked whether it still holds before it is used again.

    SQLAlchemy's own ``pool_pre_ping`` asks before every use, which costs as much as a small query.
    """

    @event.listens_for(engine, "checkin")
    def rests(_: object, record: ConnectionPoolEntry) -> None:
        record.info["rests_since"] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def asked(connection: Any, record: ConnectionPoolEntry, _: object) -> None:
        if time.monotonic() - record.info.get("rests_since", math.inf) < _RESTED_S:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error:
            raise DisconnectionError from None  # the pool makes another


def _unreachable(url: URL, variable: str, error: DBAPIError) -> DatabaseUnreachable:
    """Say who did not answer and why; never with the password, which libpq may quote."""
    where = url.host or url.query.get("host") or "the local socket"
    lines = str(error.orig).strip().splitlines() or ["no reason given"]
    reason = lines[0].rpartition("failed: ")[2]
    for secret in (url.password, url.query.get("password")):
        if secret:
            reason = reason.replace(str(secret), "***")
    return DatabaseUnreachable(
        f"the database at {where} could not be reached: {reason}",
        f"Check that PostgreSQL runs there, and host, port, user and password in {variable}.",
    )


def _check_safe(connection: Connection) -> None:
    version = int(connection.execute(text("SHOW server_version_num")).scalar_one())
    if version < _OLDEST_VERSION:
        raise DatabaseMissing(
            f"the server in DATABASE_URL is PostgreSQL {version // 10000}; 15 or newer is needed",
            "Upgrade it, or unset DATABASE_URL for the embedded PostgreSQL.",
        )
    settings = {name: connection.execute(text(f"SHOW {name}")).scalar_one() for name in _DURABLE}
    unsafe = [name for name, value in settings.items() if value == "off"]
    if unsafe:
        raise DatabaseUnsafe(
            f"the database has {', '.join(unsafe)} off: it may lose what it has acknowledged",
            f"Set {' and '.join(f'{name} = on' for name in unsafe)} in postgresql.conf (and for "
            "this role and database), then reload PostgreSQL.",
        )
    encoding = connection.execute(text("SHOW server_encoding")).scalar_one()
    if encoding != "UTF8":
        raise DatabaseUnsafe(
            f"the database's encoding is {encoding}: it cannot hold every record as it was signed",
            "Make a new one: CREATE DATABASE name ENCODING 'UTF8' TEMPLATE template0.",
        )
