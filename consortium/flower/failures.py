"""What the SuperLink puts in the place of an answer."""

from flwr.app import Message
from flwr.common.constant import ErrorCode

_UNDELIVERED = frozenset(
    {
        ErrorCode.MESSAGE_UNAVAILABLE,
        ErrorCode.REPLY_MESSAGE_UNAVAILABLE,
        ErrorCode.NODE_UNAVAILABLE,
    }
)


def was_away(message: Message) -> bool:
    """Whether it stands for an answer that never came: its node is gone, or was for a while.

    Even an answer that had arrived is replaced by this once its node is gone.
    """
    return message.has_error() and message.error.code in _UNDELIVERED
