"""One phase's messages: who is asked, asked again, waited for, how long. The clock is ours."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from flwr.app import Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from consortium.coordinator import exchange as module
from consortium.coordinator.exchange import BACK, GONE, LATE, Asked, exchange
from consortium.errors import Interrupted
from consortium.phases import Phase, Reply, Request

NAMES = ("a", "b", "c", "d")
REQUEST = Request(Phase.TRAIN, "job-1", 1, 1, "0" * 64)
SECONDS = 100.0


class World:
    """Four nodes: whether each is there, whether it answers, and what happens when."""

    def __init__(self) -> None:
        self.now = 0.0
        self.here = set(NAMES)
        self.answering = set(NAMES)
        self.failing: set[str] = set()
        self.asked: list[tuple[float, str]] = []
        self.states: list[tuple[str, str]] = []
        self.answers: list[str] = []
        self.presence_blind = False
        self._plan: list[tuple[float, Callable[[], None]]] = []
        self._messages: dict[str, Message] = {}
        self._seen: dict[str, float] = {}

    # time

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when, what in [event for event in self._plan if event[0] <= self.now]:
            self._plan.remove((when, what))
            what()
        self._seen |= dict.fromkeys(self.here, self.now)

    def at(self, when: float, what: Callable[[], Any]) -> None:
        self._plan.append((when, what))

    # presence

    def online(self) -> Mapping[int, str]:
        shown = NAMES if self.presence_blind else sorted(self.here)
        return {NAMES.index(name): name for name in shown}

    def gone_for(self, name: str) -> float:
        return self.now - self._seen.get(name, 0.0)

    # the grid

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        made = []
        for message in messages:
            identity = f"message-{len(self._messages)}"
            message.metadata.__dict__["_message_id"] = identity
            self._messages[identity] = message
            self.asked.append((self.now, NAMES[message.metadata.dst_node_id]))
            made.append(identity)
        return made

    def pull_messages(self, identities: Iterable[str]) -> list[Message]:
        return [m for i in identities if (m := self._answer(self._messages[i])) is not None]

    def _answer(self, message: Message) -> Message | None:
        name = NAMES[message.metadata.dst_node_id]
        if name not in self.here:  # the SuperLink's own answer, even if one has arrived before
            return Message(Error(ErrorCode.NODE_UNAVAILABLE), reply_to=message)
        if name in self.failing:
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)
        if name in self.answering:
            return Message(Reply(name).to_record_dict(), reply_to=message)
        return None

    # what is tested

    def run(self, **more: Any) -> float:
        """Runs a phase; how long it took."""
        options: dict[str, Any] = {"expected": frozenset(NAMES), "enough": 3, **more}
        exchange(
            self, self,  # type: ignore[arg-type]
            Asked(
                REQUEST, SECONDS,
                on_replies=lambda replies: self.answers.extend(r.institution for r in replies),
                on_state=lambda name, state: self.states.append((name, state)), **options,
            ),
        )  # fmt: skip
        return self.now

    def times_asked(self, name: str) -> list[float]:
        return [when for when, who in self.asked if who == name]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    monkeypatch.setattr(module, "time", made)
    for name in ("_run_id", "_task_id", "_node_id"):  # what a run gives its process
        monkeypatch.setattr(TaskIdentity, name, 1)
    return made


def test_ends_as_soon_as_all_have_answered(world: World) -> None:
    assert world.run() < 0.1
    assert sorted(world.answers) == list(NAMES)
    assert world.states == []
    assert [len(world.times_asked(name)) for name in NAMES] == [1, 1, 1, 1]


def test_who_comes_late_is_asked_and_waited_for(world: World) -> None:
    world.here.discard("d")
    world.at(10, lambda: world.here.add("d"))
    assert 10 < world.run() < 12
    assert sorted(world.answers) == list(NAMES)
    assert world.states == [("d", GONE), ("d", BACK)]


def test_who_goes_in_mid_phase_is_asked_again_once_back(world: World) -> None:
    """A cut of 30 s between one hospital and the coordinator loses nothing."""
    world.answering.discard("d")
    world.at(3, lambda: world.here.discard("d"))
    world.at(33, lambda: (world.here.add("d"), world.answering.add("d")))
    assert 33 < world.run() < 35
    assert sorted(world.answers) == list(NAMES)
    assert world.states == [("d", GONE), ("d", BACK)]
    assert len(world.times_asked("d")) == 2


def test_who_stays_away_is_waited_for_with_patience_only(world: World) -> None:
    world.answering.discard("d")
    world.at(3, lambda: world.here.discard("d"))
    assert 3 + 40 - 1 < world.run() < 3 + 40 + 2.5
    assert sorted(world.answers) == ["a", "b", "c"]
    assert world.states == [("d", GONE)]
    assert len(world.times_asked("d")) == 1


@pytest.mark.parametrize("patience", [0.0, 2.0, 15.0])
def test_the_patience_can_be_chosen(world: World, patience: float) -> None:
    world.answering.discard("d")
    world.at(3, lambda: world.here.discard("d"))
    assert patience + 2 < world.run(patience=patience) < patience + 5.5


def test_who_was_gone_before_is_not_waited_for_again(world: World) -> None:
    world.here.discard("d")
    world.now = 60.0
    assert world.run() - 60 < 0.1
    assert sorted(world.answers) == ["a", "b", "c"]
    assert world.states == [("d", GONE)]


def test_who_is_slow_is_named_and_waited_for_until_the_deadline(world: World) -> None:
    world.answering.discard("d")
    world.at(90, lambda: world.answering.add("d"))
    assert 90 < world.run() < 91
    assert sorted(world.answers) == list(NAMES)
    assert world.states == [("d", LATE)]
    assert len(world.times_asked("d")) == 1


def test_the_deadline_ends_it(world: World) -> None:
    world.answering -= {"c", "d"}
    assert SECONDS <= world.run() < SECONDS + 0.5
    assert sorted(world.answers) == ["a", "b"]


def test_an_answer_lost_with_its_node_is_asked_for_again(world: World) -> None:
    """It was away so briefly that nobody but the SuperLink has noticed."""
    world.presence_blind = True
    world.here.discard("d")
    world.at(0.05, lambda: world.here.add("d"))
    assert world.run() < 2
    assert sorted(world.answers) == list(NAMES)
    assert len(world.times_asked("d")) == 2


def test_a_node_that_failed_is_not_asked_again(world: World) -> None:
    world.failing.add("d")
    assert world.run() < 0.1
    assert sorted(world.answers) == ["a", "b", "c"]
    assert len(world.times_asked("d")) == 1


def test_who_has_answered_before_a_restart_is_not_asked(world: World) -> None:
    assert world.run(done=frozenset({"a", "b"})) < 0.1
    assert sorted(world.answers) == ["c", "d"]
    assert world.times_asked("a") == world.times_asked("b") == []


def test_nothing_is_sent_when_all_have_answered_before(world: World) -> None:
    assert world.run(done=frozenset(NAMES)) == 0
    assert world.asked == []


def test_only_who_takes_part_is_asked(world: World) -> None:
    assert world.run(expected=frozenset({"a", "b"})) < 0.1
    assert {name for _, name in world.asked} == {"a", "b"}


def test_in_a_simulation_whoever_is_there_is_asked(world: World) -> None:
    assert world.run(expected=None) < 0.1
    assert {name for _, name in world.asked} == set(NAMES)


def test_a_person_can_stop_it(world: World) -> None:
    world.answering.clear()
    with pytest.raises(Interrupted):
        world.run(stopped=lambda: world.now > 5)
    assert world.now < 6
