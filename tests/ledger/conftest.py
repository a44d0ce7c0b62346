"""One PostgreSQL per pytest session (per xdist worker), and a fresh database for each test.

``engine`` is what a ledger test wants: an empty, migrated database, dropped afterwards.
``postgres_home`` is a home with a complete, stopped database of its own, to be started by a test.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from ledger.database import open_database
from ledger.postgres import EmbeddedPostgres

_numbers = count()


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
    """The session's server, outside any ledger database, in autocommit."""
    url = make_url(server.url).set(database="postgres")
    engine = create_engine(url, isolation_level="AUTOCOMMIT")
    yield engine
    engine.dispose()


def _database(admin: Engine, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_numbers)}"
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name} TEMPLATE {template}"))
    yield admin.url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def database_url(admin_engine: Engine) -> Iterator[str]:
    """The URL of a fresh database with the schema and no rows."""
    yield from _database(admin_engine, "medpole")


@pytest.fixture
def empty_database_url(admin_engine: Engine) -> Iterator[str]:
    """The URL of a fresh database without any table."""
    yield from _database(admin_engine, "template0")


@pytest.fixture
def engine(database_url: str, tmp_path: Path) -> Iterator[Engine]:
    """An engine on a fresh database, opened as a coordinator opens it."""
    with open_database(tmp_path, database_url) as opened:
        yield opened
