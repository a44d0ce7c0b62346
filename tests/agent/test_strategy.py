"""The coordinator's strategy over a whole job: attempts, the pause, and how long phases wait."""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from consortium_in_memory import Consortium
from flwr.app import ArrayRecord, Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from consortium.coordinator import strategy as module
from consortium.coordinator.strategy import Progress, ProofOfLearning
from consortium.errors import Interrupted, JobPaused
from consortium.phases import Phase, Request
from hospital_agent.view import ReplicaView
from ledger.content import digest, model_hash
from ledger.keys import KeyRing
from ledger.records import Durations, JobEnd, Result

ONE, TWO, THREE, FOUR = (f"hospital-{i}" for i in range(1, 5))
Silent = Callable[[Request, str], bool]


class View(ReplicaView):
    """The coordinator's view, over a ledger in memory that all hospitals co-sign."""

    def __init__(self, four: Consortium) -> None:
        super().__init__(four.folders[ONE])
        self.content = SimpleNamespace(put=lambda data: None)
        self.models = SimpleNamespace(put=self._put)
        self.store = SimpleNamespace(
            chain=lambda: four.newest,
            propose=self._propose,
            require_final=lambda height: sorted(four.api.cosignatures[height].values()),
            final_height=lambda: four.newest.header.height,
            submissions=list,
        )
        self._four = four

    def _put(self, weights: Any) -> str:
        for folder in self._four.folders.values():
            folder.models.put(weights)
        return model_hash(weights)

    def _propose(self, entries: Any, keys: KeyRing) -> Any:
        self._four.add(list(entries))
        return self._four.api.blocks[-1]

    def remember(self, job: str, steps: Any) -> None:
        """Hospitals remember for themselves."""


class Grid:
    """Four nodes that answer at once, or fail where they are to be silent."""

    def __init__(self, four: Consortium, silent: Silent = lambda request, name: False) -> None:
        self.four, self.silent = four, silent
        self._messages: dict[str, Message] = {}

    def get_node_ids(self) -> list[int]:
        return list(range(4))

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        pushed = []
        for message in messages:
            identity = f"message-{len(self._messages)}"
            message.metadata.__dict__["_message_id"] = identity
            self._messages[identity] = message
            pushed.append(identity)
        return pushed

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        return [self._answer(self._messages[identity]) for identity in identities]

    def _answer(self, message: Message) -> Message:
        request = Request.from_record_dict(message.content)
        name = list(self.four.folders)[message.metadata.dst_node_id]
        if self.silent(request, name):
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)
        reply = self.four.participant(name).answer(request)
        if reply.content:
            self.four.api.content |= {("content", digest(reply.content[0])): reply.content[0]}
        return Message(reply.to_record_dict(), reply_to=message)


@pytest.fixture(autouse=True)
def _run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_task_id", "_node_id"):  # what a run gives its process
        monkeypatch.setattr(TaskIdentity, name, 1)


def start(four: Consortium, grid: Grid, **options: Any) -> None:
    strategy = ProofOfLearning(
        View(four),  # type: ignore[arg-type]
        four.keys, options.pop("job", four.job), lambda height: None, **options,
    )  # fmt: skip
    strategy.start(grid, ArrayRecord())  # type: ignore[arg-type]


def results(four: Consortium) -> list[Result]:
    return list(ReplicaView(four.folders[ONE]).results(four.job.job))


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
