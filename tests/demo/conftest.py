"""Homes for demos, and one demo that several tests look at."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from demo_command import Demo


@pytest.fixture(scope="session")
def new_home() -> Iterator[Callable[[], Path]]:
    """Makes homes that the database's account can reach when the tests run as root."""
    base = Path(tempfile.mkdtemp(prefix="medpole-demo-"))
    base.chmod(0o711)
    made: list[Path] = []

    def make() -> Path:
        made.append(base / f"home-{len(made)}")
        return made[-1]

    yield make
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture(scope="module")
def demo(new_home: Callable[[], Path]) -> Demo:
    """Four hospitals after one job."""
    return Demo(new_home(), "--compare-nonprivate")
