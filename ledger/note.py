"""C2SP signed notes, checkpoints and cosignatures: the formats of transparency logs.

A checkpoint is a note whose text is the origin, the tree size, the root hash in base64, and
here one extension line ``block EPOCH HEIGHT HASH``. The coordinator signs it as a plain Ed25519
note (type 0x01); members co-sign it with a time (type 0x04, "cosignature/v1").
Sources: C2SP signed-note, tlog-checkpoint and tlog-cosignature.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import NoteInvalid
from ledger.keys import PublicKey, SecretKey

_SIGNED_NOTE, _COSIGNATURE = b"\x01", b"\x04"
_NAME = re.compile(r"[^\s+]+")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """A tree head that names the newest block.

    ``root`` and ``block_hash`` are 32 bytes; ``size`` counts all leaves, that block included.
    """

    origin: str
    size: int
    root: bytes
    epoch: int
    height: int
    block_hash: bytes

    def text(self) -> str:
        """The note's text, which every signature covers."""
        root = base64.b64encode(self.root).decode()
        return (
            f"{self.origin}\n{self.size}\n{root}\n"
            f"block {self.epoch} {self.height} {self.block_hash.hex()}\n"
        )

    @staticmethod
    def parse(text: str) -> "Checkpoint":
        """Reads a note's text.

        Raises:
            NoteInvalid: if it is not of exactly this form.
        """
        lines = text.split("\n")
        if len(lines) != 5 or lines[4] != "":
            raise _invalid("a checkpoint has four lines")
        block = lines[3].split(" ")
        if len(block) != 4 or block[0] != "block" or not re.fullmatch(r"[0-9a-f]{64}", block[3]):
            raise _invalid("the checkpoint's block line is malformed")
        numbers = (lines[1], block[1], block[2])
        if not all(_NUMBER.fullmatch(number) for number in numbers):
            raise _invalid("a number in the checkpoint is malformed")
        size, epoch, height = (int(number) for number in numbers)
        head = Checkpoint(lines[0], size, _base64(lines[2]), epoch, height, bytes.fromhex(block[3]))
        if not head.origin or len(head.root) != 32:
            raise _invalid("the checkpoint lacks an origin, or a root of 32 bytes")
        if head.text() != text:
            raise _invalid("the checkpoint is not in its one exact form")
        return head


@dataclass(frozen=True)
class SignatureLine:
    """One line under a note: who, a hint of the key, and the signature bytes."""

    name: str
    blob: bytes

    def __str__(self) -> str:
        return f"— {self.name} {base64.b64encode(self.blob).decode()}"

    @staticmethod
    def parse(line: str) -> "SignatureLine":
        """Reads one signature line, without its newline.

        Raises:
            NoteInvalid: if it is malformed.
        """
        parts = line.split(" ")
        if len(parts) != 3 or parts[0] != "—" or not _NAME.fullmatch(parts[1]):
            raise _invalid("a signature line is malformed")
        parsed = SignatureLine(parts[1], _base64(parts[2]))
        if str(parsed) != line:
            raise _invalid("a signature line is not in its one exact form")
        return parsed


@dataclass(frozen=True)
class SignedHead:
    """A checkpoint as a whole signed note: the coordinator's line, then members' cosignatures."""

    checkpoint: Checkpoint
    lines: tuple[str, ...]

    def text(self) -> str:
        """The note."""
        return "\n".join([self.checkpoint.text(), *self.lines, ""])

    @staticmethod
    def parse(text: str) -> "SignedHead":
        """Reads a note.

        Raises:
            NoteInvalid: if it is not of exactly this form. No signature is verified.
        """
        body, _, signatures = text.partition("\n\n")
        lines = tuple(signatures.split("\n")[:-1])
        head = SignedHead(Checkpoint.parse(body + "\n"), lines)
        for line in lines:
            SignatureLine.parse(line)
        if not lines or head.text() != text:
            raise _invalid("the signed head is not in its one exact form")
        return head


def _key_hint(kind: bytes, name: str, key: PublicKey) -> bytes:
    return sha256(name.encode() + b"\n" + kind + key.public).digest()[:4]


def sign_note(name: str, key: SecretKey, text: str) -> str:
    """The coordinator's signature line over a note's text."""
    blob = _key_hint(_SIGNED_NOTE, name, key.public) + key.sign(text.encode())
    return str(SignatureLine(name, blob))


def verify_note(line: str, name: str, key: PublicKey, text: str) -> None:
    """Checks a line made by `sign_note`.

    Raises:
        NoteInvalid: if the line is malformed or names another signer or key.
        SignatureInvalid: if the signature does not hold.
    """
    parsed = SignatureLine.parse(line)
    if (
        parsed.name != name
        or len(parsed.blob) != 68
        or parsed.blob[:4] != _key_hint(_SIGNED_NOTE, name, key)
    ):
        raise _invalid(f"the note is not signed by {name}")
    key.verify(parsed.blob[4:], text.encode())


def cosign(name: str, key: SecretKey, text: str, time: int) -> str:
    """A member's cosignature line over a checkpoint at ``time`` (Unix seconds)."""
    signature = key.sign(_cosigned(text, time))
    blob = _key_hint(_COSIGNATURE, name, key.public) + time.to_bytes(8, "big") + signature
    return str(SignatureLine(name, blob))


def cosigned_at(line: str) -> int:
    """The time (Unix seconds) that a cosignature line states; nothing is verified.

    Raises:
        NoteInvalid: if the line is malformed.
    """
    blob = SignatureLine.parse(line).blob
    if len(blob) != 76:
        raise _invalid("the line is no cosignature")
    return int.from_bytes(blob[4:12], "big")


def verify_cosignature(line: str, name: str, key: PublicKey, text: str) -> int:
    """Checks a member's cosignature; returns its time (Unix seconds).

    Raises:
        NoteInvalid: if the line is malformed or names another signer or key.
        SignatureInvalid: if the signature does not hold.
    """
    parsed = SignatureLine.parse(line)
    if (
        parsed.name != name
        or len(parsed.blob) != 76
        or parsed.blob[:4] != _key_hint(_COSIGNATURE, name, key)
    ):
        raise _invalid(f"the cosignature is not by {name}")
    time = int.from_bytes(parsed.blob[4:12], "big")
    key.verify(parsed.blob[12:], _cosigned(text, time))
    return time


def _cosigned(text: str, time: int) -> bytes:
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _invalid("a base64 field is malformed") from None


def _invalid(what: str) -> NoteInvalid:
    return NoteInvalid(what, "ask for the original note; a changed one cannot be repaired")
