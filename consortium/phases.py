"""The messages of a round: what a phase asks of a hospital, and what it answers.

Each phase is one Flower message, so that the same apps run in simulation and in deployment. The
payload is one `ConfigRecord` of bytes (one object a message: Flower fetches objects one by one):
a canonical head, ledger entries as they were signed, and content.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from flwr.app import ConfigRecord, RecordDict

from consortium.errors import RoundInvalid
from ledger import canonical
from ledger.errors import CanonicalInvalid

_RECORD = "medpole"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}|")
_CODE = re.compile(r"([A-Z][A-Za-z]{1,39})?")


class Phase(StrEnum):
    """The phases of a round, in their order."""

    TRAIN = "train"
    CLOSE = "close"
    REVEAL = "reveal"
    VERIFY = "verify"


@dataclass(frozen=True)
class Request:
    """What the coordinator asks.

    ``base`` is the hash of the final block that the round starts from. ``entries`` holds what the
    phase needs of the signed records so far, ``content`` the mapped updates in the order of the
    proofs (verify), ``cosignatures`` the quorum on the base block (close). The model is not sent:
    every hospital has it from its own copy of the ledger.
    """

    phase: Phase
    job: str
    round: int
    attempt: int
    base: str
    entries: tuple[bytes, ...] = ()
    content: tuple[bytes, ...] = field(default=(), repr=False)
    cosignatures: tuple[str, ...] = ()

    def to_record_dict(self) -> RecordDict:
        """The payload of a Flower message."""
        head = {
            "phase": str(self.phase),
            "job": self.job,
            "round": self.round,
            "attempt": self.attempt,
            "base": self.base,
            "cosignatures": list(self.cosignatures),
        }
        return _pack(head, self.entries, self.content)

    @staticmethod
    def from_record_dict(payload: RecordDict) -> "Request":
        """Reads a payload.

        Raises:
            RoundInvalid: if it is not of this form.
        """
        head, entries, content = _unpack(payload)
        try:
            return Request(
                Phase(str(head["phase"])),
                _text(head["job"]), _number(head["round"]), _number(head["attempt"]),
                _text(head["base"]), entries, content,
                tuple(_text(line) for line in _list(head["cosignatures"])),
            )  # fmt: skip
        except (KeyError, ValueError, TypeError):
            raise _malformed() from None


@dataclass(frozen=True)
class Reply:
    """What a hospital answers: signed entries and content, or the code of what went wrong."""

    institution: str
    entries: tuple[bytes, ...] = ()
    content: tuple[bytes, ...] = field(default=(), repr=False)
    error: str = ""

    def to_record_dict(self) -> RecordDict:
        """The payload of a Flower message."""
        head = {"institution": self.institution, "error": self.error}
        return _pack(head, self.entries, self.content)

    @staticmethod
    def from_record_dict(payload: RecordDict) -> "Reply":
        """Reads a payload.

        Raises:
            RoundInvalid: if it is not of this form.
        """
        head, entries, content = _unpack(payload)
        try:
            institution, error = _text(head["institution"]), _text(head["error"])
            if not _NAME.fullmatch(institution) or not _CODE.fullmatch(error):
                raise TypeError
            return Reply(institution, entries, content, error)
        except (KeyError, TypeError):
            raise _malformed() from None


def _pack(
    head: Mapping[str, object], entries: tuple[bytes, ...], content: tuple[bytes, ...]
) -> RecordDict:
    record = ConfigRecord(
        {"head": canonical.dumps(dict(head)), "entries": list(entries), "content": list(content)}
    )
    return RecordDict({_RECORD: record})


def _unpack(
    payload: RecordDict,
) -> tuple[dict[str, object], tuple[bytes, ...], tuple[bytes, ...]]:
    try:
        record = payload.config_records[_RECORD]
        head, entries, content = record["head"], record["entries"], record["content"]
        if not isinstance(head, bytes):
            raise TypeError
        value = canonical.loads(head)
        if not isinstance(value, dict):
            raise TypeError
        return value, _blobs(entries), _blobs(content)
    except (KeyError, TypeError, CanonicalInvalid):
        raise _malformed() from None


def _blobs(values: object) -> tuple[bytes, ...]:
    blobs = tuple(_list(values))
    if not all(isinstance(blob, bytes) for blob in blobs):
        raise TypeError
    return tuple(bytes(blob) for blob in blobs if isinstance(blob, bytes))


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return value


def _malformed() -> RoundInvalid:
    return RoundInvalid("a round's message is malformed", "run the same version on both sides")
