"""Keys of one institution: one for each role, made on site, stored 0600, never sent.

The algorithm stands beside every public key and every signature, so that another one (ML-DSA)
can join without a new format. All roles are Ed25519 today; the VRF of RFC 9381 uses the
same key form. Signatures cover a domain line, so that none can be replayed in another role.

The agent holds the keys of `AGENT_ROLES`. The approval key is a person's: it decides who is a
member, and no agent signs with it by itself.
"""

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
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
    APPROVAL = "approval"  # a person's: approves who is a member, and the policy


AGENT_ROLES = (Role.RECORD, Role.COSIGN, Role.VRF, Role.API)

# The y of the curve's eight points of small order. Under such a "key" one signature holds for
# every message, and RFC 8032 leaves their refusal to the user.
_P = 2**255 - 19
_ORDER_8 = 0x5FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
_SMALL_ORDER = {0, 1, _P - 1, _ORDER_8, _P - _ORDER_8}


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
            _load(self.public)
        except ValueError:
            raise KeyInvalid(
                f"the {self.role} key is not an Ed25519 key", "use a key that `hospital-agent` made"
            ) from None
        try:
            _verify(self.public, signature, message)
        except InvalidSignature:
            raise SignatureInvalid(
                f"a signature by the {self.role} key {self.key_id} does not hold",
                "ask its owner for the original; a changed record cannot be repaired",
            ) from None


@lru_cache(maxsize=4096)
def _load(public: bytes) -> Ed25519PublicKey:
    y = (int.from_bytes(public, "little") & (1 << 255) - 1) % _P
    if y in _SMALL_ORDER:
        raise ValueError("a point of small order")
    return Ed25519PublicKey.from_public_bytes(public)


# A round's record is verified when it arrives, and in its block again. Refusals are not kept.
@lru_cache(maxsize=1024)
def _verify(public: bytes, signature: bytes, message: bytes) -> None:
    _load(public).verify(signature, message)


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
    def open(folder: Path, roles: Iterable[Role] = AGENT_ROLES, *, make: bool = True) -> "KeyRing":
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
        write_private(path, os.urandom(32).hex().encode() + b"\n")
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


def write_private(path: Path, data: bytes) -> None:
    """Writes a private key's file, 0600, durably and whole; one that is there stays."""
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.unlink(missing_ok=True)
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
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
