"""A coordinator that shows two sets of commitments, for simulations. No deployment loads this.

It is why a hospital reveals only to a quorum that has closed one set: else a coordinator with one
friend could take a reveal on one set, and have the friend commit to the copy in another.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

from flwr.app import Message
from flwr.serverapp import Grid

from consortium.coordinator.exchange import Presence, messages
from consortium.coordinator.strategy import ProofOfLearning
from consortium.phases import Phase, Request


class SplitCommitments(ProofOfLearning):
    """In the first attempt at each round: two sets, and then it asks for the reveals all the same.

    Without a quorum on one set the attempt is repeated; the second one is honest.
    """

    def _run_phase(self, grid: Grid, presence: Presence, phase: Phase) -> None:
        if self._splits() and phase is Phase.CLOSE:
            grid = cast("Grid", _TwoSets(grid))
        super()._run_phase(grid, presence, phase)

    def _ready(self, phase: Phase) -> bool:
        return super()._ready(phase) or (self._splits() and phase is Phase.REVEAL)

    def _splits(self) -> bool:
        return self._now.context.attempt == 1


class _TwoSets:
    """A grid on which every second node is shown the set without its first commitment."""

    def __init__(self, grid: Grid) -> None:
        self._grid = grid

    def push_messages(self, asked: Iterable[Message]) -> Iterable[str]:
        shown = [
            _with_less(message) if place % 2 else message for place, message in enumerate(asked)
        ]
        return self._grid.push_messages(shown)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._grid, name)


def _with_less(message: Message) -> Message:
    request = Request.from_record_dict(message.content)
    less = replace(request, entries=request.entries[1:])
    return messages(less, [message.metadata.dst_node_id])[0]
