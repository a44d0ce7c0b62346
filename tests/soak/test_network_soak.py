"""A real network of hospitals: every kind of fault in every phase, and 100 rounds in flat memory.

The kinds are those of `tests/network/test_faults.py`; here each is put into every phase.
"""

import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

sys.path.append(str(Path(__file__).parents[1] / "network"))
import fault_kinds as kinds
from faults import PHASES, PLACES, Faulty, faulty

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
AFTER = tuple(f"{phase}.after" for phase in PHASES)
ROUNDS, WARM, MOST_GROWTH = 100, 20, 1.10


@pytest.fixture(scope="module")
def founded() -> Iterator[Faulty]:
    with faulty() as made:
        yield made
        made.check_export()


@pytest.fixture
def site(founded: Faulty) -> Iterator[Faulty]:
    yield founded
    founded.tidy()


@pytest.mark.parametrize("process", kinds.SIDES)
def test_the_coordinators_side_in_every_phase(site: Faulty, process: str) -> None:
    kinds.the_coordinators_side_is_killed(site, [(process, place) for place in PLACES])


@pytest.mark.parametrize("places", [PLACES, AFTER], ids=["before it answers", "after"])
def test_an_agent_in_every_phase(site: Faulty, places: tuple[str, ...]) -> None:
    kinds.an_agent_is_killed(site, places)


def test_two_agents_in_every_phase_that_can_be_void(site: Faulty) -> None:
    kinds.two_agents_are_gone(site, ("train", "close"))


def test_a_slow_hospital_in_every_phase(site: Faulty) -> None:
    kinds.one_hospital_is_slow(site, PHASES)


def test_a_cut_of_half_a_minute(site: Faulty) -> None:
    kinds.a_cut_network_loses_nothing(site, seconds=30)


def test_an_idle_agent(site: Faulty) -> None:
    kinds.an_agent_is_idle(site, seconds=65, most_cpu=kinds.IDLE_CPU)


def test_a_hundred_rounds_in_flat_memory(site: Faulty) -> None:
    """No process of ours is larger after the last round than after a fifth of them."""
    job = site.submit(ROUNDS)
    site.await_result(job, WARM, seconds=900)
    before = _memory(site)
    site.await_result(job, ROUNDS, seconds=1800)
    after = _memory(site)
    print({name: f"{before[name] / 1e6:.0f} to {after[name] / 1e6:.0f} MB" for name in before})
    for name, size in before.items():
        assert after[name] < MOST_GROWTH * size, name
    site.check(job, ROUNDS)


def _memory(site: Faulty) -> dict[str, int]:
    found = dict.fromkeys((process.name for process in site.made.processes()), 0)
    for process in site.made.processes():
        top = psutil.Process(process.pid)
        for each in [top, *top.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):  # a connection of PostgreSQL's has ended
                found[process.name] += each.memory_full_info().uss
    return found
