"""Homes for demos, and one demo that several tests look at."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from demo_command import Finished


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
def demo(written_home: Path, demo_report: dict[str, Any], demo_said: tuple[str, str]) -> Finished:
    """Four hospitals after one job: the recorded demo's, in which the first one cheats."""
    return Finished(written_home, demo_report, *demo_said)
