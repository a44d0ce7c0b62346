"""The ledger's PostgreSQL: ``DATABASE_URL`` where it is set, else the embedded server of a home.

A database is opened only if it keeps what it acknowledges (fsync, full_page_writes and
synchronous_commit on, PostgreSQL 15 or newer), and is brought to the newest schema before use.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import as_file, files
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from ledger.errors import (
    DatabaseBusy,
    DatabaseFailed,
    DatabaseMissing,
    DatabaseUnreachable,
    DatabaseUnsafe,
)

CONNECT_TIMEOUT_S = 5
POOL_SIZE = 10
MIGRATION_PATIENCE_S = 60
_OLDEST_VERSION = 150000
_MIGRATION_LOCK = 0x6D65_6450_6F4C_6501  # "medPoLe", 1: any number that nobody else uses
_DURABLE = ("fsync", "full_page_writes", "synchronous_commit")


@contextmanager
def open_database(home: Path, url: str | None = None) -> Iterator[Engine]:
    """Open the ledger's database, checked and migrated, for the time of the context.

    ``url`` or ``DATABASE_URL`` names a PostgreSQL server; without either, the embedded server of
    ``home`` is started, and stopped on exit. Raises DatabaseUnreachable, DatabaseMissing,
    DatabaseUnsafe, DatabaseBusy, DatabaseFailed or HomeInvalid.
    """
    configured = url or os.environ.get("DATABASE_URL")
    if configured:
        with _checked_engine(_postgres_url(configured)) as engine:
            upgrade(engine)
            yield engine
        return
    # Only here: the supervisor is for POSIX systems, a DATABASE_URL serves all.
    from ledger.postgres import EmbeddedPostgres

    with EmbeddedPostgres(home) as server, _checked_engine(_postgres_url(server.url)) as engine:
        upgrade(engine)
        yield engine


def check_database(url: str | None = None) -> None:
    """Check early, before any work, that the configured database answers and is safe.

    Does nothing where neither ``url`` nor ``DATABASE_URL`` is set. Raises DatabaseUnreachable,
    DatabaseMissing or DatabaseUnsafe, within CONNECT_TIMEOUT_S for each address of the host.
    """
    configured = url or os.environ.get("DATABASE_URL")
    if configured:
        with _checked_engine(_postgres_url(configured)):
            pass


def upgrade(engine: Engine) -> None:
    """Bring the schema to the newest migration: whole or not at all, one starter at a time."""
    # Alembic announces each run; a coordinator's output is its own.
    logging.getLogger("alembic").setLevel(logging.WARNING)
    with as_file(files("migrations")) as folder:
        config = Config()
        config.set_main_option("script_location", str(folder).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        try:
            with engine.begin() as connection:
                connection.execute(text(f"SET LOCAL lock_timeout = '{MIGRATION_PATIENCE_S}s'"))
                connection.execute(
                    text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK}
                )
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except CommandError as error:
            raise DatabaseFailed(
                f"the database's schema is not one of this version's: {error}",
                "Use the MedPoLe that wrote this database last, or a newer one.",
            ) from error
        except DBAPIError as error:
            state = getattr(error.orig, "pgcode", None)
            if state == "55P03":  # lock_not_available
                raise DatabaseBusy(
                    f"another process has migrated this database for {MIGRATION_PATIENCE_S} s",
                    "Wait until it is done, then start again.",
                ) from error
            raise DatabaseFailed(
                f"the database's schema could not be made (SQLSTATE {state})",
                "The account in DATABASE_URL must be allowed to create tables in its schema "
                "(GRANT CREATE ON SCHEMA public), and an empty database of its own.",
            ) from error


def _postgres_url(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise DatabaseMissing(  # without the cause: it may quote the password
            "DATABASE_URL is not a database URL", "Use postgresql://USER:PASSWORD@HOST:5432/NAME"
        ) from None
    dialect = parsed.drivername.partition("+")[0]
    if dialect not in ("postgresql", "postgres"):
        raise DatabaseMissing(
            f"DATABASE_URL names a {dialect} database; the ledger is kept in PostgreSQL only",
            "Use postgresql://USER:PASSWORD@HOST:5432/NAME, or unset DATABASE_URL for the "
            "embedded PostgreSQL.",
        )
    return parsed.set(drivername="postgresql+psycopg2")


@contextmanager
def _checked_engine(url: URL) -> Iterator[Engine]:
    timeout = {} if "connect_timeout" in url.query else {"connect_timeout": CONNECT_TIMEOUT_S}
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_size=POOL_SIZE,
        max_overflow=0,
        isolation_level="READ COMMITTED",
        hide_parameters=True,  # record bodies stay out of exceptions and logs
        connect_args={"application_name": "medpole", **timeout},
    )
    try:
        try:
            connection = engine.connect()
        except DBAPIError as error:
            raise _unreachable(url, error) from None
        with connection:
            _check_safe(connection)
        yield engine
    finally:
        engine.dispose()


def _unreachable(url: URL, error: DBAPIError) -> DatabaseUnreachable:
    """Say who did not answer and why; never with the password, which libpq may quote."""
    where = url.host or url.query.get("host") or "the local socket"
    lines = str(error.orig).strip().splitlines() or ["no reason given"]
    reason = lines[0].rpartition("failed: ")[2]
    for secret in (url.password, url.query.get("password")):
        if secret:
            reason = reason.replace(str(secret), "***")
    return DatabaseUnreachable(
        f"the database at {where} could not be reached: {reason}",
        "Check that PostgreSQL runs there, and host, port, user and password in DATABASE_URL.",
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
