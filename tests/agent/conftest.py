"""A consortium founded once a session, with a copy for each test."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from consortium_in_memory import Consortium, copy_of, found, repeatable

from consortium.phases import Phase


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    with repeatable():
        return found(tmp_path_factory.mktemp("founded"))


@pytest.fixture(scope="session")
def played(founded: Consortium, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    """After the four phases of round 1, before its block."""
    consortium = copy_of(founded, tmp_path_factory.mktemp("played"))
    with repeatable():
        consortium.play(1, Phase.VERIFY)
    return consortium


@pytest.fixture(autouse=True)
def _repeatable() -> Iterator[None]:
    with repeatable():
        yield


@pytest.fixture
def four(founded: Consortium, tmp_path: Path) -> Consortium:
    """Four hospitals, a final job, no round yet."""
    return copy_of(founded, tmp_path / "four")


@pytest.fixture
def after_verify(played: Consortium, tmp_path: Path) -> Consortium:
    """Four hospitals that have answered all phases of round 1."""
    return copy_of(played, tmp_path / "after")
