"""A block: a header over a run of entries.

The header is itself a leaf of the same Merkle tree, right after the block's entries, so that
one tree head binds every entry and every block. The header carries the epoch and the hash of
the parent's certificate (the quorum of cosignatures that made the parent final).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from typing import Any

from ledger import canonical
from ledger.entry import Entry
from ledger.errors import BlockInvalid
from ledger.merkle import leaf_hash
from ledger.note import Checkpoint

NO_PARENT = "0" * 64
_DOMAIN = b"medpole/block/v1\n"
_FIELDS = {
    "v": int, "type": str, "ledger": str, "epoch": int, "height": int, "prev": str,
    "first": int, "count": int, "size": int, "root": str, "membership": str, "parent_cert": str,
    "time": int,
}  # fmt: skip


@dataclass(frozen=True)
class Header:
    """A block's header.

    ``first`` and ``count`` give the entries' indexes; ``size`` and ``root`` are the tree's,
    these entries included and this header not; ``membership`` is the digest of who may co-sign
    it (`ledger.membership`). Hashes are lower-case hex of 32 bytes; ``time``
    is in Unix seconds.
    """

    ledger: str
    epoch: int
    height: int
    prev: str
    first: int
    count: int
    size: int
    root: str
    membership: str
    parent_cert: str
    time: int

    def data(self) -> bytes:
        """Canonical bytes, which are also the leaf."""
        return canonical.dumps({"v": 1, "type": "block", **self.__dict__})

    @property
    def hash(self) -> str:
        """SHA-256 of the domain line and the header."""
        return _hash(self)

    @property
    def leaf(self) -> bytes:
        """The header's Merkle leaf hash."""
        return leaf_hash(self.data())

    @staticmethod
    def parse(data: bytes) -> "Header":
        """Reads a header's bytes.

        Raises:
            CanonicalInvalid, BlockInvalid: if it is not of exactly this form.
        """
        content: Any = canonical.loads(data)
        if (
            not isinstance(content, dict)
            or {k: type(v) for k, v in content.items()} != _FIELDS
            or (content.pop("v"), content.pop("type")) != (1, "block")
        ):
            raise BlockInvalid("a block header is malformed", "ask for the original block")
        return Header(**content)


@lru_cache(maxsize=1024)  # the newest block's is asked for all the time
def _hash(header: Header) -> str:
    return sha256(_DOMAIN + header.data()).hexdigest()


@dataclass(frozen=True)
class Block:
    """A header with its entries, the signed checkpoint, and the parent's certificate.

    ``parent_cert`` holds the members' cosignature lines on the parent's checkpoint, sorted.
    ``signature`` is the coordinator's signature line on this block's checkpoint.
    """

    header: Header
    entries: tuple[Entry, ...]
    checkpoint: Checkpoint
    signature: str
    parent_cert: tuple[str, ...]


def certificate_hash(lines: Sequence[str]) -> str:
    """Digest of a block's certificate: the sorted cosignature lines."""
    text = "\n".join(sorted(lines))
    return sha256(b"medpole/certificate/v1\n" + text.encode()).hexdigest()


def origin(ledger: str) -> str:
    """The origin line of a ledger's checkpoints."""
    return f"medpole/{ledger}"
