"""One phase's messages over a Flower grid: ask every node, take answers as they come.

Flower's own `send_and_receive` polls every three seconds, waits for nodes that are gone, and for
ever if too few are there. This loop polls faster, asks a node again that was away and came back,
and ends at the deadline, or as soon as nobody is left to wait for: who was there and is gone is
waited for `patience` seconds, who is there is waited for until the deadline, however slow.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from consortium.errors import Interrupted, RoundInvalid
from consortium.flower.failures import was_away
from consortium.phases import Phase, Reply, Request

PATIENCE_S = 40.0
"""How long who is gone is waited for by default: longer than a cut of half a minute."""
_FASTEST_POLL_S, _SLOWEST_POLL_S = 0.01, 0.2
_LOOK_S = 1.0
_LATE_S = 5.0
GONE, BACK, LATE = "gone", "back", "late"
MESSAGE_TYPES = {
    Phase.TRAIN: MessageType.TRAIN,
    Phase.CLOSE: f"{MessageType.QUERY}.close",
    Phase.REVEAL: f"{MessageType.QUERY}.reveal",
    Phase.VERIFY: MessageType.EVALUATE,
}


class Presence(Protocol):
    """Which nodes are there."""

    def online(self) -> Mapping[int, str]:
        """The nodes that are there, each with its hospital's name."""

    def gone_for(self, name: str) -> float:
        """Seconds since this hospital was last there; infinity if it never was."""


class GridPresence:
    """Presence by a grid alone, as in a simulation: every node is there, under its own number."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def online(self) -> Mapping[int, str]:
        """All nodes of the grid."""
        return {node: str(node) for node in self._grid.get_node_ids()}

    def gone_for(self, name: str) -> float:
        """Nobody is ever gone for a while: it is there, or it never was."""
        return float("inf")


@dataclass
class Asked:
    """What a phase asks, of whom, and who listens.

    Args:
        request: the message, the same to all.
        seconds: the phase's duration, by the contract.
        expected: hospitals that take part so far; None: whoever is there.
        done: hospitals whose answer is known from before a restart.
        enough: answers with which the round can go on; later ones are late.
        patience: seconds for which a hospital that is gone is waited for.
        on_replies: given the answers of one look.
        on_sent: called when messages have gone out.
        on_state: told when a hospital is gone, back or late.
        stopped: asked often; true ends the phase.
    """

    request: Request
    seconds: float
    expected: frozenset[str] | None = None
    done: frozenset[str] = frozenset()
    enough: int = 0
    patience: float = PATIENCE_S
    on_replies: Callable[[list[Reply]], None] = field(default=lambda _: None)
    on_sent: Callable[[], None] = field(default=lambda: None)
    on_state: Callable[[str, str], None] = field(default=lambda _, __: None)
    stopped: Callable[[], bool] = field(default=lambda: False)


def messages(request: Request, nodes: Iterable[int]) -> list[Message]:
    """The same request to each node."""
    payload = request.to_record_dict()
    return [
        Message(
            content=payload,
            message_type=MESSAGE_TYPES[request.phase],
            dst_node_id=node,
            group_id=str(request.round),
        )
        for node in nodes
    ]


def exchange(grid: Grid, presence: Presence, asked: Asked) -> None:
    """Runs one phase. A message that failed at its node, or a malformed reply, is no answer.

    Raises:
        Interrupted: once ``stopped`` says so.
        ConsortiumError: what the grid or a listener raises.
    """
    _Exchange(grid, presence, asked).run()


class _Exchange:
    def __init__(self, grid: Grid, presence: Presence, asked: Asked) -> None:
        self._grid, self._presence, self._asked = grid, presence, asked
        self._begun = time.monotonic()
        self._sent: dict[str, str] = {}  # message to hospital
        self._sent_at: dict[str, float] = {}
        self._online: dict[int, str] = {}
        self._waiting: set[str] = set()
        self._answered: set[str] = set(asked.done)
        self._told: dict[str, str] = {}
        self._enough_at: float | None = None

    def run(self) -> None:
        self._look()
        looked = came = time.monotonic()
        while self._waiting and time.monotonic() - self._begun < self._asked.seconds:
            if self._asked.stopped():
                raise Interrupted("stopped", "start again with the same --home; nothing is lost")
            arrived = list(self._grid.pull_messages(list(self._sent))) if self._sent else []
            if arrived:
                self._take(arrived)
                came = time.monotonic()
            if time.monotonic() - looked > _LOOK_S:
                self._look()
                looked = time.monotonic()
            if self._waiting:
                quiet = (time.monotonic() - came) / 8  # a look costs, and is never much too late
                time.sleep(min(max(_FASTEST_POLL_S, quiet), _SLOWEST_POLL_S))

    def _take(self, arrived: list[Message]) -> None:
        replies = []
        for message in arrived:
            name = self._sent.pop(message.metadata.reply_to_message_id, None)
            if name is not None and was_away(message):
                self._tell(name, GONE)
                # Forgotten, so that it is asked anew when it is there, or still is.
                self._online = {n: other for n, other in self._online.items() if other != name}
            elif name is not None:
                self._answered.add(name)
                self._waiting.discard(name)
            replies += read_replies([message])
        self._asked.on_replies(replies)
        if self._enough_at is None and len(self._answered) >= self._asked.enough:
            self._enough_at = time.monotonic()

    def _look(self) -> None:
        """Asks whoever is there and has not been asked, and sees who went."""
        before, self._online = self._online, dict(self._presence.online())
        new = {}
        for node, name in self._online.items():
            if name in self._answered or node in before or not self._takes_part(name):
                continue
            new[node] = name
            if self._told.get(name) == GONE:
                self._tell(name, BACK)
        if new:
            asked = self._grid.push_messages(messages(self._asked.request, new))
            self._sent |= {m: name for m, name in zip(asked, new.values(), strict=True) if m}
            self._waiting |= set(new.values())
            self._sent_at |= dict.fromkeys(new.values(), time.monotonic())
            self._asked.on_sent()
        self._wait_for_the_gone()

    def _takes_part(self, name: str) -> bool:
        return self._asked.expected is None or name in self._asked.expected

    def _wait_for_the_gone(self) -> None:
        here = set(self._online.values())
        for name in (self._asked.expected or frozenset()) | self._waiting:
            if name in self._answered:
                continue
            if name in here:
                if self._is_late(name):
                    self._tell(name, LATE)
            elif self._presence.gone_for(name) < self._asked.patience:
                self._waiting.add(name)
                self._tell(name, GONE)
            else:
                self._waiting.discard(name)
                self._tell(name, GONE)

    def _is_late(self, name: str) -> bool:
        """Others were faster, also counted from when this one was asked."""
        if self._enough_at is None:
            return False
        took = self._enough_at - self._begun
        since = max(self._enough_at, self._sent_at.get(name, self._begun))
        return time.monotonic() - since > max(_LATE_S, took)

    def _tell(self, name: str, state: str) -> None:
        if self._told.get(name) != state:
            self._told[name] = state
            self._asked.on_state(name, state)


def read_replies(arrived: Iterable[Message]) -> list[Reply]:
    """The replies that can be read; a failed message or a malformed reply is no answer."""
    replies = []
    for message in arrived:
        if message.has_content():
            with suppress(RoundInvalid):
                replies.append(Reply.from_record_dict(message.content))
    return replies
