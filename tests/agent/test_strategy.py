"""The coordinator's strategy over a whole job: attempts, the pause, and how long phases wait."""

from collections.abc import Iterator
from typing import Any

import pytest
from consortium_in_memory import Consortium
from coordinator_in_memory import FOUR, THREE, Grid, a_run, results, start

from consortium.coordinator import strategy as module
from consortium.coordinator.strategy import Progress
from consortium.errors import Interrupted, JobPaused
from consortium.phases import Phase, Request
from ledger.records import Durations, JobEnd


@pytest.fixture(autouse=True)
def _run() -> Iterator[None]:
    with a_run():
        yield


def test_the_job_pauses_after_three_attempts_in_a_row_and_goes_on(four: Consortium) -> None:
    def two_do_not_close(request: Request, name: str) -> bool:
        return request.round == 2 and request.phase is Phase.CLOSE and name in (THREE, FOUR)

    with pytest.raises(JobPaused) as paused:
        start(four, Grid(four, two_do_not_close))
    assert f"{THREE} (NoAnswer in close), {FOUR} (NoAnswer in close)" in paused.value.what
    assert "3 attempts in a row at round 2" in paused.value.what
    places = [(1, 1, False), (2, 1, True), (2, 2, True), (2, 3, True)]
    assert [(r.round, r.attempt, r.again) for r in results(four)] == places
    start(four, Grid(four))
    places += [(2, 4, False), (3, 1, False)]
    assert [(r.round, r.attempt, r.again) for r in results(four)] == places
    end = four.api.blocks[-1].entries[-1].record
    assert isinstance(end, JobEnd)
    assert (end.status, end.rounds) == ("finished", 3)


def test_only_attempts_in_a_row_count(four: Consortium) -> None:
    def twice_each_round(request: Request, name: str) -> bool:
        return request.attempt < 3 and request.phase is Phase.CLOSE and name in (THREE, FOUR)

    start(four, Grid(four, twice_each_round))
    assert len(results(four)) == 9


def test_no_attempt_begins_without_a_quorum(four: Consortium) -> None:
    asked: list[bool] = []

    def here() -> bool:
        asked.append(len(asked) > 2)
        assert results(four) == [] or len(asked) > 2
        return asked[-1]

    start(four, Grid(four), quorum_here=here)
    assert asked[:4] == [False, False, False, True]
    assert [(r.attempt, r.absent) for r in results(four)] == [(1, ())] * 3


def test_who_waits_for_a_quorum_can_be_stopped(four: Consortium) -> None:
    with pytest.raises(Interrupted):
        start(four, Grid(four), quorum_here=lambda: False, stopped=lambda: True)
    assert results(four) == []


def test_each_phase_waits_as_long_as_the_contract_says(
    four: Consortium, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds: list[tuple[Phase, float]] = []
    real = module.exchange

    def noted(grid: Any, presence: Any, asked: Any) -> None:
        seconds.append((asked.request.phase, asked.seconds))
        real(grid, presence, asked)

    monkeypatch.setattr(module, "exchange", noted)
    durations = Durations(train=11, close=12, reveal=13, verify=14)
    shown: list[Progress] = []
    start(four, Grid(four), job=four.job.model_copy(update={"durations": durations}),
          on_progress=shown.append)  # fmt: skip
    once = [(Phase.TRAIN, 11.0), (Phase.CLOSE, 12.0), (Phase.REVEAL, 13.0), (Phase.VERIFY, 14.0)]
    assert seconds == once * 3
    assert [p.phase for p in shown if p.phase == "final"] == ["final"] * 3
