"""A block as JSON over HTTP: original bytes as text, so that the reader hashes what was signed."""

from collections.abc import Mapping
from typing import Any

from ledger.block import Block, Header
from ledger.entry import Entry
from ledger.errors import BlockInvalid
from ledger.membership import Membership
from ledger.note import Checkpoint
from ledger.records import MemberForm


def block_to_wire(block: Block, cosignatures: list[str]) -> dict[str, Any]:
    """The JSON form of a block and the cosignatures on it so far."""
    return {
        "header": block.header.data().decode(),
        "entries": [entry.data.decode() for entry in block.entries],
        "checkpoint": block.checkpoint.text(),
        "signature": block.signature,
        "parent_cert": list(block.parent_cert),
        "cosignatures": cosignatures,
    }


def membership_to_wire(membership: Membership) -> dict[str, Any]:
    """What is in force, and the changes that wait for approvals."""

    def forms(members: Mapping[str, MemberForm]) -> list[Any]:
        return [members[name].model_dump(mode="json") for name in sorted(members)]

    return {
        "digest": membership.digest,
        "quorum": membership.quorum,
        "members": forms(membership.members),
        "suspended": forms(membership.suspended),
        "policy": membership.policy.model_dump(mode="json"),
        "proposed": [
            {
                "change": digest,
                "record": proposed.change.body(),
                "approved": sorted(proposed.approved),
            }
            for digest, proposed in membership.proposed.items()
        ],
    }


def cosignatures_from_wire(content: Any) -> list[str]:
    """The cosignature lines beside a block; nothing in them is verified yet."""
    lines = content.get("cosignatures") if isinstance(content, dict) else None
    return [str(line) for line in lines] if isinstance(lines, list) else []


def block_from_wire(content: Any) -> Block:
    """The block in a JSON form; nothing in it is verified yet.

    Raises:
        BlockInvalid: if the form is wrong.
    """
    try:
        return Block(
            Header.parse(content["header"].encode()),
            tuple(Entry(entry.encode()) for entry in content["entries"]),
            Checkpoint.parse(content["checkpoint"]),
            str(content["signature"]),
            tuple(str(line) for line in content["parent_cert"]),
        )
    except (KeyError, TypeError, AttributeError, UnicodeError):
        raise BlockInvalid(
            "the API's block is malformed", "run the same version on both sides"
        ) from None
