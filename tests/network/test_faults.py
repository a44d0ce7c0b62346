"""What breaks in a network of hospitals, one of each kind, over one deployment.

`tests/soak/test_network_soak.py` has every kind in every phase. One test with parts, not one for
each kind: the deployment takes a while to found, and must not be founded by every worker.
"""

from collections.abc import Callable, Iterator

import fault_kinds as kinds
import pytest
from agent_checks import (
    each_hospital_s_test_results_come_onto_the_ledger,
    hospitals_listen_nowhere_but_on_their_own_loopback,
    what_the_agents_log_says_no_more_than_codes,
)
from faults import Faulty, faulty

KINDS: list[Callable[[Faulty], None]] = [
    kinds.a_cut_network_loses_nothing,
    kinds.the_coordinators_side_is_killed,
    kinds.an_agent_is_killed,
    kinds.a_stranger_is_refused,
    kinds.a_suspended_hospital_is_refused,
]
# As many jobs again: not in every run.
MORE: list[Callable[[Faulty], None]] = [
    kinds.two_agents_are_gone,
    kinds.a_changed_bundle_is_refused,
]
# What measures time or CPU wants a machine of its own.
QUIET: list[Callable[[Faulty], None]] = [
    kinds.one_hospital_is_slow,
    kinds.an_agent_ends_in_order,
    kinds.an_agent_is_idle,
    kinds.a_clone_is_stopped,  # the last: that hospital needs new keys
]


@pytest.fixture
def site() -> Iterator[Faulty]:
    with faulty() as made:
        yield made


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "wanted", [KINDS, pytest.param(MORE, marks=pytest.mark.slow)], ids=["most", "more"]
)
def test_every_kind_of_fault(
    site: Faulty, subtests: pytest.Subtests, wanted: list[Callable[[Faulty], None]]
) -> None:
    play(site, subtests, wanted)
    # After jobs with every kind of fault in them.
    each_hospital_s_test_results_come_onto_the_ledger(site.made)
    hospitals_listen_nowhere_but_on_their_own_loopback(site.made)
    what_the_agents_log_says_no_more_than_codes(site.made)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kinds_that_measure_time(site: Faulty, subtests: pytest.Subtests) -> None:
    play(site, subtests, QUIET)


def play(site: Faulty, subtests: pytest.Subtests, wanted: list[Callable[[Faulty], None]]) -> None:
    for kind in wanted:
        with subtests.test(kind.__name__.replace("_", " ")):
            try:
                kind(site)
            except BaseException:
                site.tidy()
                raise
    site.check_export()
