"""What runs long begins first, dealt out to the workers, so that none is left alone with it.

`demo_home` is a demo that ran once for the whole test run (`recorded_demo`).
"""

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from recorded_demo import copy_of, recorded, recording_folder, report_of, said

_RUN = "MEDPOLE_TEST_RUN"
_LONG = (
    "test_demo.py", "test_lying.py", "test_walk.py", "test_compose.py", "test_e2e.py",
    "test_faults.py",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest at the head of each of the equal shares that `--dist worksteal` begins with.

    The other long ones follow in the last share: what is behind the longest of all cannot be
    stolen, if it is only one.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = sorted(filter(_rank, items), key=_rank, reverse=True)
    short = [item for item in items if not _rank(item)]
    shares: list[pytest.Item] = []
    for worker in range(workers):
        end = len(items) * (worker + 1) // workers
        head = long[worker : worker + 1] if worker < workers - 1 else long[worker:]
        shares += head
        count = max(0, end - len(shares))
        shares, short = shares + short[:count], short[count:]
    items[:] = shares + short


def _rank(item: pytest.Item) -> int:
    """The longer it runs the more; 0 if not long."""
    return _LONG.index(item.path.name) + 1 if item.path.name in _LONG else 0


@pytest.fixture(scope="session")
def demo_home() -> Iterator[Path]:
    """A home after one demo, this worker's own. Its ledger is to be read, not written."""
    home = copy_of(recorded(os.environ[_RUN]))
    yield home
    shutil.rmtree(home.parent, ignore_errors=True)


@pytest.fixture(scope="session")
def demo_report() -> dict[str, Any]:
    """What that demo reported."""
    recorded(os.environ[_RUN])
    return dict(json.loads(report_of(os.environ[_RUN]).read_text()))


@pytest.fixture(scope="session")
def demo_said() -> tuple[str, str]:
    """What it printed, on standard output and on standard error."""
    recorded(os.environ[_RUN])
    return said(os.environ[_RUN])


@pytest.fixture(scope="module")
def written_home() -> Iterator[Path]:
    """A home after that demo which the tests of one file may go on with."""
    home = copy_of(recorded(os.environ[_RUN]))
    yield home
    shutil.rmtree(home.parent, ignore_errors=True)


def pytest_configure() -> None:
    """Names the run, for all workers: they inherit the environment."""
    os.environ.setdefault(_RUN, uuid.uuid4().hex[:12])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """The recording goes with the run; workers only copied it."""
    if not hasattr(session.config, "workerinput"):
        shutil.rmtree(recording_folder(os.environ[_RUN]), ignore_errors=True)
