"""However a coordinator and f members lie, no two honest members hold different final blocks.

The simulator is `lying`. Here it is played, and shown to be able to fail.
"""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from lying import SIZES, Forked, Outcome, Scenario, Shown, WitnessMember, play, simulated

from hospital_agent import replica
from hospital_agent.errors import ForkRefused
from ledger.block import Header
from ledger.quorum import faulty

SCHEDULES, SOAK, RANGE = 100, 10_000, 50


@pytest.fixture(autouse=True)
def _simulated() -> Iterator[None]:
    with simulated():
        yield


def ranges(first: int, end: int, size: int) -> list[range]:
    return [range(at, min(at + size, end)) for at in range(first, end, size)]


def first_fork(scenario: Callable[[int], Scenario], kind: str) -> str:
    """What the first of the schedules says that fails in this way."""
    for seed in range(SCHEDULES):
        try:
            play(scenario(seed))
        except Forked as forked:
            if kind in str(forked):
                return str(forked)
    pytest.fail(f"no schedule of {SCHEDULES} fails: {kind}")


@pytest.mark.parametrize("seeds", ranges(0, SCHEDULES, RANGE), ids=str)
def test_no_lie_forks_the_ledger(seeds: range) -> None:
    outcomes = [play(Scenario.of(seed)) for seed in seeds]
    check_that_much_was_tried(outcomes)


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ranges(SCHEDULES, SOAK, 200), ids=str)
def test_no_lie_forks_the_ledger_in_a_long_run(seeds: range) -> None:
    test_no_lie_forks_the_ledger(seeds)


def test_no_lie_breaks_an_honest_witness_or_stops_it_for_good() -> None:
    outcomes = [play(Scenario.of(seed)) for seed in range(0, SCHEDULES, 7)]
    assert [error for o in outcomes for error in (*o.broke, *o.stopped)] == []


def check_that_much_was_tried(outcomes: list[Outcome]) -> None:
    """Else the schedules would prove nothing."""
    many = len(outcomes)
    assert sum(o.contested > 0 for o in outcomes) > 0.8 * many  # honest members signed two blocks
    assert sum(o.final >= 3 for o in outcomes) > 0.3 * many
    assert sum(o.forks_refused for o in outcomes) > 4 * many
    assert sum(o.refused - o.forks_refused for o in outcomes) > 0.05 * many
    assert sum(o.crashed for o in outcomes) > many
    assert sum(o.changed for o in outcomes) > 0.05 * many
    assert sum(o.forgot for o in outcomes) > 0.2 * many


@pytest.mark.parametrize("real", [False, True])
@pytest.mark.parametrize("n", SIZES)
def test_with_honest_people_every_block_becomes_final_everywhere(n: int, real: bool) -> None:
    """Those who lie elsewhere keep silent here: the others are enough."""
    for seed in range(3):
        scenario = Scenario(seed, n, 0, changes=2, lies=False, rounds=6, real=real)
        outcome = play(scenario)
        assert (outcome.final, outcome.contested) == (scenario.rounds - 1, 0)
        assert outcome.held == {scenario.rounds - 1}
        assert (outcome.refused, outcome.broke, outcome.stopped) == (0, [], [])


# it can fail


def test_with_the_better_known_quorum_of_2f_plus_1_it_forks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ledger.membership.quorum", lambda n: 2 * faulty(n) + 1)

    def of_five(seed: int) -> Scenario:
        return replace(Scenario.of(seed), n=5, liars=1, forgets=False, changes=0, real=False)

    found = first_fork(of_five, "hold different final blocks")
    assert found.startswith("seed ")
    assert "\n  propose B0 (genesis) at height 0\n" in found


@pytest.mark.parametrize("n", [4, 6, 7, 10])  # at n = 5 two quorums share three: one more is borne
def test_with_one_member_more_than_f_that_forgets_what_it_signed_it_forks(n: int) -> None:
    def one_too_many(seed: int) -> Scenario:
        found = Scenario.of(seed)
        return replace(found, n=n, liars=faulty(n), forgets=True, changes=0, real=False)

    first_fork(one_too_many, "hold different final blocks")
    first_fork(one_too_many, "certificates of")


def test_with_a_replica_that_overwrites_an_honest_member_signs_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The compare-and-set of `hospital_agent.replica` is what holds it."""
    stored, step = replica._stored, WitnessMember.step

    def overwritten(connection: sqlite3.Connection, header: Header) -> str | None:
        try:
            return stored(connection, header)
        except ForkRefused:
            for table in ("blocks", "entries", "certificates"):
                connection.execute(f"DELETE FROM {table} WHERE height >= ?", (header.height,))
            return None

    def restarted_step(member: WitnessMember, api: Shown) -> None:
        member.restart()  # so that it reads its copy anew
        step(member, api)

    monkeypatch.setattr(replica, "_stored", overwritten)
    monkeypatch.setattr(WitnessMember, "step", restarted_step)
    first_fork(lambda seed: replace(Scenario.of(seed), real=True), "signed two different blocks")
