"""One phase's messages over a Flower grid: push to all nodes, pull until all have answered.

Flower's own `send_and_receive` polls every three seconds; this loop polls faster, gives every
reply to the caller as it comes, and ends at the deadline with whoever has answered.
"""

import time
from collections.abc import Callable, Iterable
from contextlib import suppress

from flwr.app import Message, MessageType
from flwr.serverapp import Grid

from consortium.errors import Interrupted, RoundInvalid
from consortium.phases import Phase, Reply, Request

_FASTEST_POLL_S, _SLOWEST_POLL_S = 0.01, 0.2
MESSAGE_TYPES = {
    Phase.TRAIN: MessageType.TRAIN,
    Phase.CLOSE: f"{MessageType.QUERY}.close",
    Phase.REVEAL: f"{MessageType.QUERY}.reveal",
    Phase.VERIFY: MessageType.EVALUATE,
}


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


def exchange(
    grid: Grid,
    outgoing: Iterable[Message],
    seconds: float,
    on_reply: Callable[[Reply], None],
    stopped: Callable[[], bool] = lambda: False,
) -> list[Reply]:
    """Sends messages and collects replies until all are in or ``seconds`` are over.

    A message that failed at its node (no content), or a malformed reply, counts as no answer.

    Raises:
        Interrupted: once ``stopped`` says so.
    """
    waiting = set(grid.push_messages(list(outgoing)))
    replies: list[Reply] = []
    deadline = time.monotonic() + seconds
    pause = _FASTEST_POLL_S
    while waiting and time.monotonic() < deadline:
        if stopped():
            raise Interrupted("stopped", "start again with the same --home; nothing is lost")
        arrived = list(grid.pull_messages(list(waiting)))
        for message in arrived:
            waiting.discard(message.metadata.reply_to_message_id)
            for reply in read_replies([message]):
                replies.append(reply)
                on_reply(reply)
        pause = _FASTEST_POLL_S if arrived else min(pause * 1.5, _SLOWEST_POLL_S)
        if waiting:
            time.sleep(pause)
    return replies


def read_replies(arrived: Iterable[Message]) -> list[Reply]:
    """The replies that can be read; a failed message or a malformed reply is no answer."""
    replies = []
    for message in arrived:
        if message.has_content():
            with suppress(RoundInvalid):
                replies.append(Reply.from_record_dict(message.content))
    return replies
