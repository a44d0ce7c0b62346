"""SIGKILL between any two steps of a round: what is spent never shrinks, no round is paid twice.

A step is a statement of SQLite, a sync or a rename: a child that answers a phase is killed before
or after the n-th of them. Then the hospital starts again, and is asked again.
"""

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from consortium_in_memory import TASK, Consortium

from consortium.phases import Phase, Request
from hospital_agent.cohort import Cohort
from hospital_agent.folder import HospitalFolder

ONE = "hospital-1"


class _Steps:
    """Counts the steps of this process, and kills it at one."""

    def __init__(self, last: int) -> None:
        self.count, self._last = 0, last

    def passed(self) -> None:
        self.count += 1
        if self.count == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*arguments: Any, **options: Any) -> Any:
            self.passed()
            result = function(*arguments, **options)
            self.passed()
            return result

        return stepping

    def install(self) -> None:
        """For good: only in a child."""
        steps, connect = self, sqlite3.connect

        class Connection(sqlite3.Connection):
            execute = steps.around(sqlite3.Connection.execute)

        def connecting(*arguments: Any, **options: Any) -> sqlite3.Connection:
            return connect(*arguments, **{"factory": Connection, **options})

        sqlite3.connect = connecting  # type: ignore[assignment]
        os.fsync = self.around(os.fsync)
        Path.replace = self.around(Path.replace)  # type: ignore[method-assign]


def answered(four: Consortium, request: Request, last: int = 0) -> int:
    """A child answers; killed at step ``last``. Returns how many steps it made, 0 if killed."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            steps = _Steps(last)
            steps.install()
            assert four.participant(ONE).answer(request).error == ""
            os.write(write, steps.count.to_bytes(4, "big"))
        finally:
            os._exit(0)
    os.close(write)
    _, status = os.waitpid(child, 0)
    told = os.read(read, 4)
    os.close(read)
    if last:
        assert os.WIFSIGNALED(status), "it ended before that step"
        return 0
    return int.from_bytes(told, "big")


def spent(four: Consortium) -> tuple[Fraction, int]:
    """mu^2, and rounds charged."""
    folder = HospitalFolder(four.folders[ONE].path)
    status = folder.budget.status(Cohort.open(folder, TASK).id)
    return status.spent.mu2, sum(job.rounds_charged for job in status.jobs)


class Place:
    """A phase of a round, which the hospital answers again and again from the same start."""

    def __init__(self, four: Consortium, phase: Phase, round: int, kept: Path) -> None:
        self.four, self.request, self._kept = four, four.request(phase, round), kept
        self._folder, self._paid = four.folders[ONE].path, int(phase is Phase.REVEAL)
        shutil.copytree(self._folder, kept)
        self.before = spent(four)
        self.steps = answered(four, self.request)
        self._start_again()

    def _start_again(self) -> None:
        shutil.rmtree(self._folder)
        shutil.copytree(self._kept, self._folder)

    def kill_at(self, step: int) -> None:
        answered(self.four, self.request, step)
        mu2, rounds = spent(self.four)
        assert mu2 >= self.before[0]
        assert rounds in (self.before[1], self.before[1] + self._paid)
        reply = self.four.participant(ONE).answer(self.request)
        assert reply.error == ""
        after = spent(self.four)
        assert after[0] >= mu2
        assert after[1] == self.before[1] + self._paid
        assert self.four.participant(ONE).answer(self.request) == reply
        assert spent(self.four) == after
        self._start_again()


def test_twenty_five_kills_in_a_round(four: Consortium, tmp_path: Path) -> None:
    made = 0
    for phase, kills in ((Phase.TRAIN, 8), (Phase.CLOSE, 4), (Phase.REVEAL, 13)):
        place = Place(four, phase, 1, tmp_path / phase.value)
        for number in range(kills):
            place.kill_at(1 + number * (place.steps - 1) // (kills - 1))
            made += 1
        four.ask(phase)
    assert made == 25
    assert spent(four)[1] == 1


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_kill_at_every_step_of_every_round(four: Consortium, tmp_path: Path) -> None:
    wanted, made = int(os.environ.get("ROUND_KILLS", "500")), 0
    for round in (1, 2, 3):
        for phase in Phase:
            place = Place(four, phase, round, tmp_path / f"{round}-{phase.value}")
            for step in range(1, place.steps + 1):
                if made == wanted:
                    break
                place.kill_at(step)
                made += 1
            print(f"round {round}, {phase.value}: {place.steps} steps", flush=True)
            four.ask(phase, round)
        four.add(four.result(round)[0])
        four.records, four.updates = type(four.records)(), {}
        assert spent(four)[1] == round
    print(f"{made} kills", flush=True)
    assert made == wanted
