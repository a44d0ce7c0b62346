"""Keys of one institution: one for each role, made on site, stored 0600, never sent.

The algorithm stands beside every public key and every signature, so that another one (ML-DSA)
can join without a new format. All four roles are Ed25519 today; the VRF of RFC 9381 uses the
same key form. Signatures cover a domain line, so that none can be replayed in another role.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)

from ledger.errors import KeyInvalid, SignatureInvalid

ALGORITHM = "ed25519"


class Role(StrEnum):
    """What a key may be used for."""

    RECORD = "record"  # signs records
    COSIGN = "cosign"  # signs checkpoints: a member's cosignature, the coordinator's proposal
    VRF = "vrf"  # draws the secure mapping
    API = "api"  # signs the tokens shown to the consortium's API


@dataclass(frozen=True)
class PublicKey:
    """A public key with its role and algorithm."""

    role: Role
    public: bytes
    algorithm: str = ALGORITHM

    @property
    def key_id(self) -> str:
        """16 hex characters of SHA-256 over role, algorithm and key."""
        text = f"{self.role}\n{self.algorithm}\n".encode() + self.public
        return sha256(text).hexdigest()[:16]

    def verify(self, signature: bytes, message: bytes) -> None:
        """Checks an Ed25519 signature (RFC 8032) over ``message``, domain line included.

        Raises:
            SignatureInvalid: if it does not hold.
            KeyInvalid: if the key or its algorithm cannot be used.
        """
        if self.algorithm != ALGORITHM:
            raise KeyInvalid(
                f"unknown key algorithm {self.algorithm[:20]!r}", "upgrade this software"
            )
        try:
            key = Ed25519PublicKey.from_public_bytes(self.public)
        except ValueError:
            raise KeyInvalid(
                f"the {self.role} key is not an Ed25519 key", "use a key that `hospital-agent` made"
            ) from None
        try:
            key.verify(signature, message)
        except InvalidSignature:
            raise SignatureInvalid(
                f"a signature by the {self.role} key {self.key_id} does not hold",
                "ask its owner for the original; a changed record cannot be repaired",
            ) from None


class SecretKey:
    """One private key. ``seed`` is its 32 secret bytes."""

    def __init__(self, role: Role, seed: bytes) -> None:
        self.seed = seed
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public = PublicKey(role, self._key.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Signature over ``message``, 64 bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"SecretKey({self.public.role}, {self.public.key_id})"


@dataclass(frozen=True)
class KeyRing:
    """The private keys of one institution, or of the coordinator."""

    keys: dict[Role, SecretKey]

    def __getitem__(self, role: Role) -> SecretKey:
        return self.keys[role]

    @staticmethod
    def open(folder: Path, roles: Iterable[Role] = tuple(Role), *, make: bool = True) -> "KeyRing":
        """Reads the keys in ``folder``; makes those that are missing where ``make`` allows it.

        An institution that stands on a ledger must never make a new key by itself.

        Raises:
            KeyInvalid: if a key file is missing, readable by others, or damaged.
        """
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return KeyRing({role: _open_key(folder / f"{role}.key", role, make) for role in roles})


def _open_key(path: Path, role: Role, make: bool) -> SecretKey:
    if not path.exists() and not make:
        raise KeyInvalid(
            f"the private key {path.name} is missing",
            "restore it from your backup; this version cannot replace a lost key",
        )
    if not path.exists():
        _write_secret(path, os.urandom(32))
    if path.stat().st_mode & 0o077:
        raise KeyInvalid(
            f"other users can read the private key {path.name}",
            f"chmod 600 {path}; if it may have been read, do not go on using this institution",
        )
    try:
        return SecretKey(role, bytes.fromhex(path.read_text().strip()))
    except ValueError:
        raise KeyInvalid(
            f"the private key {path.name} is damaged",
            "restore the file from your backup",
        ) from None


def _write_secret(path: Path, seed: bytes) -> None:
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(seed.hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    with contextlib.suppress(FileExistsError):  # another process was faster: its key counts
        os.link(partial, path)
    partial.unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
