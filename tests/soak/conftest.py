"""One process that has imported everything, one founded home; a copy of it for each test."""

import subprocess
from collections.abc import Iterator

import pytest
from soak_consortium import Consortium, new_folder
from soak_disks import SmallDisks
from soak_processes import Forker


@pytest.fixture(scope="session")
def forker() -> Iterator[Forker]:
    with new_folder() as folder, Forker(folder / "forker.log") as running:
        yield running


@pytest.fixture(scope="session")
def _founded(forker: Forker) -> Iterator[Consortium]:
    """A consortium of four at its genesis, which nobody has co-signed yet; stopped."""
    with new_folder() as folder:
        consortium = Consortium(forker, folder)
        consortium.found()
        yield consortium


@pytest.fixture
def empty_consortium(forker: Forker) -> Iterator[Consortium]:
    """Nothing yet. Whatever the test leaves running is killed in the end."""
    with new_folder() as folder:
        made = Consortium(forker, folder)
        try:
            yield made
        finally:
            made.kill_all()


@pytest.fixture
def consortium(empty_consortium: Consortium, _founded: Consortium) -> Consortium:
    """Four institutions, stopped."""
    subprocess.run(["cp", "-a", _founded.home, empty_consortium.home], check=True)
    return empty_consortium


@pytest.fixture
def small_disks() -> Iterator[SmallDisks]:
    with SmallDisks() as disks:
        yield disks
