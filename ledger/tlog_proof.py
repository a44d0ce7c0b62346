"""A transparency-log proof: one text that shows, offline, that an entry is on the ledger.

It holds the entry's index, its Merkle audit path and a signed checkpoint, verbatim. It has one
exact form: whatever `TlogProof.parse` accepts, `TlogProof.text` gives back byte for byte::

    c2sp.org/tlog-proof@v1
    extra BASE64                  optional, opaque, authenticated by nothing
    index N                       of the entry, from 0
    BASE64                        the audit path, one hash a line, leaf's sibling first
                                  an empty line, then the signed note
    ORIGIN, SIZE, ROOT, block     the checkpoint's lines
                                  an empty line
    — NAME BASE64                 signature lines, the coordinator's first

Source: C2SP tlog-proof (c2sp.org/tlog-proof), with signed-note and tlog-checkpoint inside it.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ledger.errors import NoteInvalid, ProofInvalid
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.note import Checkpoint, SignatureLine

# tlog-proof names no limits. A tree of up to 2**63 leaves needs no longer path, and tlog-witness
# allows a consistency proof as many; the rest is what a verifier is willing to read.
MAX_HASHES = 63
MAX_EXTRA = 2**24
MAX_TEXT = 2**25

_HEADER = "c2sp.org/tlog-proof@v1"
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,18})")
# Of signed-note: no ASCII control characters but the newline. A lone surrogate is no UTF-8.
_FORBIDDEN = re.compile("[\x00-\x09\x0b-\x1f\ud800-\udfff]")


@dataclass(frozen=True)
class TlogProof:
    """An audit path with the signed checkpoint it leads to.

    ``hashes`` are 32 bytes each; ``checkpoint`` is the signed note's text, its last newline
    included; ``signatures`` are its signature lines without theirs, the coordinator's first.
    ``extra`` is for the application, and nothing vouches for it.

    Signatures are not this class's concern: `ledger.note` verifies them, under keys that the
    reader trusts. Without that, a proof shows only that somebody wrote a tree with this entry.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: str
    signatures: tuple[str, ...]
    extra: bytes | None = None

    def text(self) -> str:
        """The content of a ``.tlog-proof`` file; without ``extra`` data there is no such line."""
        head = [_HEADER, f"index {self.index}", *map(_encoded, self.hashes)]
        if self.extra:
            head.insert(1, f"extra {_encoded(self.extra)}")
        return "\n".join([*head, "", self.checkpoint, *self.signatures, ""])

    @staticmethod
    def parse(text: str) -> "TlogProof":
        """Reads a proof; its checkpoint may be that of any log, `verify_entry` wants ours.

        Raises:
            ProofInvalid: if it is not of exactly this form, or larger than the limits.
            NoteInvalid: if its checkpoint or a signature line is malformed.
        """
        if len(text) > MAX_TEXT or _FORBIDDEN.search(text):
            raise _invalid("the proof is too long, or no plain text")
        head, _, note = text.partition("\n\n")
        checkpoint, _, signatures = note.rpartition("\n\n")
        header, *lines = head.split("\n")
        if header != _HEADER:
            raise _invalid(f"the proof does not begin with {_HEADER}")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = _decoded(lines.pop(0).removeprefix("extra "))
        index = _INDEX.fullmatch(lines.pop(0)) if lines else None
        if index is None:
            raise _invalid("the proof's index line is missing or malformed")
        if len(lines) > MAX_HASHES or (extra and len(extra) > MAX_EXTRA):
            raise _invalid("the proof has too many hashes, or too much extra data")
        hashes = tuple(map(_decoded, lines))
        if any(len(step) != 32 for step in hashes):
            raise _invalid("a hash of the proof is not 32 bytes long")
        signed = tuple(signatures.split("\n")[:-1])
        _check_note(checkpoint.split("\n"), signed)
        proof = TlogProof(int(index[1]), hashes, f"{checkpoint}\n", signed, extra)
        if proof.text() != text:
            raise _invalid("the proof is not in its one exact form")
        return proof

    def verify_entry(self, entry: bytes) -> Checkpoint:
        """Checks that ``entry``, a leaf's bytes, is in the tree; returns that tree's head.

        Raises:
            ProofInvalid: if the path does not lead from the entry to the checkpoint's root.
            NoteInvalid: if the checkpoint is not one of this kind of ledger.
        """
        head = Checkpoint.parse(self.checkpoint)
        verify_inclusion(leaf_hash(entry), self.index, head.size, self.hashes, head.root)
        return head


def _check_note(checkpoint: Sequence[str], signatures: Sequence[str]) -> None:
    """Holds the note to the forms of tlog-checkpoint and signed-note."""
    if len(checkpoint) < 3 or "" in checkpoint or not signatures:
        raise NoteInvalid(
            "a checkpoint has three lines or more, none of them empty, and is signed",
            "ask for the original note; a changed one cannot be repaired",
        )
    for line in signatures:
        SignatureLine.parse(line)


def _encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("a base64 field of the proof is malformed") from None


def _invalid(what: str) -> ProofInvalid:
    return ProofInvalid(what, "ask for the proof again; if it stays wrong, keep it as evidence")
