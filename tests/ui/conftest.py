"""Founded homes and a portal for several tests to look at, and a browser."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from founded import Portal, found_home, running


@pytest.fixture(scope="session")
def homes() -> Iterator[tuple[Path, Path]]:
    """Two equal homes, in memory where there is some: a database is 1,300 small files."""
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = Path(tempfile.mkdtemp(prefix="medpole-test-", dir=parent))
    folder.chmod(0o711)  # the database's own account passes through
    first, second = folder / "1", folder / "2"
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DATABASE_URL", raising=False)
        found_home(first, 2)
        subprocess.run(["cp", "-a", first, second], check=True)
        yield first, second
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def portal(homes: tuple[Path, Path]) -> Iterator[Portal]:
    with running(homes[0]) as started:
        yield started
