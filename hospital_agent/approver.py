"""A person's approval key: it decides who is a member. Only a person's command opens it.

An encrypted PKCS #8 file, 0600. The agent itself never reads it: a taken-over agent, or the
operator, can enrol nobody. A simulation's keys have no passphrase, because nobody is there to type.
"""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from hospital_agent.errors import ApproverInvalid
from ledger.keys import Role, SecretKey, write_private


def make_approver(path: Path, passphrase: str | None) -> SecretKey:
    """Makes a new approval key in a file; what is there already is never replaced.

    Raises:
        ApproverInvalid: if the file is there.
    """
    if path.exists():
        raise ApproverInvalid(f"{path} is there already", "name another file, or use this one")
    key = Ed25519PrivateKey.generate()
    encryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_private(path, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    return SecretKey(Role.APPROVAL, key.private_bytes_raw())


def open_approver(path: Path, passphrase: str | None) -> SecretKey:
    """The approval key in a file.

    Raises:
        ApproverInvalid: if it is missing, open to others, of another kind, or the passphrase wrong.
    """
    try:
        if path.stat().st_mode & 0o077:
            raise ApproverInvalid(f"other users can read {path}", f"chmod 600 {path}")
        data = path.read_bytes()
    except OSError as error:
        raise ApproverInvalid(
            f"the approval key {path} cannot be read ({error.strerror})",
            "name the file of the person who approves, with --key",
        ) from None
    try:
        key = load_pem_private_key(data, passphrase.encode() if passphrase else None)
    except (TypeError, ValueError):
        raise ApproverInvalid(
            f"the approval key {path} does not open",
            "give its passphrase: the command asks, or reads MEDPOLE_APPROVER_PASSPHRASE",
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ApproverInvalid(f"{path} is no Ed25519 key", "use the file that this agent made")
    return SecretKey(Role.APPROVAL, key.private_bytes_raw())


def is_encrypted(path: Path) -> bool:
    """Whether the key in a file asks for a passphrase."""
    try:
        return b"ENCRYPTED" in path.read_bytes()
    except OSError:
        return False
