"""One PostgreSQL per pytest session (per xdist worker), and a fresh database for each test.

``engine`` is what a ledger test wants: an empty, migrated database, opened as the application and
dropped afterwards; ``superuser_engine`` tampers with the same one.
``cluster`` is each kind of PostgreSQL that a ledger may stand in, with all roles to log in as:
the packaged binaries, embedded, and a system's server that an administrator has set up.
``postgres_home`` is a home with a complete, stopped database of its own, to be started by a test.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clusters import (
    Cluster,
    LedgerDatabase,
    autocommit,
    embedded,
    fresh_database,
    shown,
    system,
)
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from ledger.database import open_database
from ledger.postgres import EmbeddedPostgres
from migrations.roles import ROLES


def _fast_folder() -> str:
    """Memory where there is enough: a database is 1,300 small files."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    return str(memory) if roomy and shutil.disk_usage(memory).free > 2**30 else "/tmp"


_FAST = _fast_folder()


@pytest.fixture(scope="session")
def homes() -> Iterator[Callable[..., Path]]:
    """Make empty homes with a short path, open to the account that the server runs as.

    (pytest's own folders are closed to it where the tests run as root.)
    """
    made: list[Path] = []

    def make(parent: str = _FAST) -> Path:
        home = Path(tempfile.mkdtemp(prefix="medpole-test-", dir=parent))
        home.chmod(0o711)
        made.append(home)
        return home

    yield make
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def _template(homes: Callable[..., Path]) -> Path:
    """A home with a migrated database, stopped; made once, copied for whoever needs one."""
    home = homes()
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        with open_database(home):
            pass
    return home


def _copy(template: Path, home: Path) -> Path:
    subprocess.run(["cp", "-a", template / "postgres", home], check=True)
    return home


@pytest.fixture
def postgres_home(homes: Callable[..., Path], _template: Path) -> Iterator[Path]:
    home = _copy(_template, homes())
    yield home
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def server(homes: Callable[..., Path], _template: Path) -> Iterator[EmbeddedPostgres]:
    """The session's server. Its database ``medpole`` is the template: do not connect to it."""
    with EmbeddedPostgres(_copy(_template, homes())) as running:
        yield running


@pytest.fixture(scope="session")
def admin_engine(server: EmbeddedPostgres) -> Iterator[Engine]:
    """The session's server as its superuser, outside any ledger database, in autocommit."""
    with autocommit(make_url(server.superuser_url).set(database="postgres")) as engine:
        yield engine


@pytest.fixture
def _ledger_database(admin_engine: Engine) -> Iterator[str]:
    with fresh_database(admin_engine, "medpole") as name:
        yield name


@pytest.fixture
def database_url(server: EmbeddedPostgres, _ledger_database: str) -> str:
    """The application's URL of a fresh database with the schema and no rows."""
    return shown(make_url(server.url).set(database=_ledger_database))


@pytest.fixture
def empty_database_url(admin_engine: Engine) -> Iterator[str]:
    """The superuser's URL of a fresh database without any table."""
    with fresh_database(admin_engine, "template0") as name:
        yield shown(admin_engine.url.set(database=name))


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a fresh database, opened as a coordinator opens it."""
    with open_database(tmp_path, database_url) as opened:
        yield opened


@pytest.fixture
def superuser_engine(admin_engine: Engine, _ledger_database: str) -> Iterator[Engine]:
    """The superuser's engine on the database of ``engine``, for tests that tamper."""
    tampering = create_engine(admin_engine.url.set(database=_ledger_database))
    yield tampering
    tampering.dispose()


@pytest.fixture(scope="session", params=["embedded", "system"])
def cluster(request: pytest.FixtureRequest, homes: Callable[..., Path]) -> Iterator[Cluster]:
    yield from {"embedded": embedded, "system": system}[request.param](homes())


@pytest.fixture
def fresh(cluster: Cluster) -> Iterator[LedgerDatabase]:
    """A fresh, migrated ledger with its roles. (A template lends no rights to the database.)"""
    with fresh_database(cluster.admin, "medpole") as name:
        made = LedgerDatabase(cluster, name)
        with made.engine() as superuser, superuser.begin() as connection:
            connection.execute(text(ROLES))
        yield made
