"""The coordinator's own strategy over hospitals in one process: no Flower engine, no database."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from consortium_in_memory import Consortium
from flwr.app import ArrayRecord, Error, Message
from flwr.common.constant import ErrorCode
from flwr.supercore.task_identity import TaskIdentity

from consortium.coordinator.strategy import ProofOfLearning
from consortium.phases import Request
from hospital_agent.participant import Participant
from hospital_agent.view import ReplicaView
from ledger.content import digest, model_hash
from ledger.keys import KeyRing
from ledger.records import Result

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

    def remember(self, job: str, round_: int, steps: Any) -> None:
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
        reply = self.participant(request, name).answer(request)
        if reply.content:
            self.four.api.content |= {("content", digest(reply.content[0])): reply.content[0]}
        return Message(reply.to_record_dict(), reply_to=message)

    def participant(self, request: Request, name: str) -> Participant:
        return self.four.participant(name)


@contextmanager
def a_run() -> Iterator[None]:
    """What a run of Flower gives its process."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_run_id", "_task_id", "_node_id"):
            patch.setattr(TaskIdentity, name, 1)
        yield


def start(
    four: Consortium, grid: Grid, kind: type[ProofOfLearning] = ProofOfLearning, **options: Any
) -> None:
    strategy = kind(
        View(four),  # type: ignore[arg-type]
        four.keys, options.pop("job", four.job), lambda height: None, **options,
    )  # fmt: skip
    strategy.start(grid, ArrayRecord())  # type: ignore[arg-type]


def results(four: Consortium) -> list[Result]:
    return list(ReplicaView(four.folders[ONE]).results(four.job.job))
