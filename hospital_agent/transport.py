"""The key by which this hospital's SuperNode shows itself to the SuperLink: ``keys/transport.key``.

EC P-384 in OpenSSH's form, as Flower wants it; made on site, 0600. It opens a channel and signs
nothing of the ledger: rotated with the other keys, or lost, a new one is made and announced.
"""

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)

from consortium.transport import SIGNATURE, transport_message
from hospital_agent.errors import FolderInvalid
from hospital_agent.folder import HospitalFolder
from hospital_agent.ledger_api import LedgerApi
from ledger.keys import write_private

TRANSPORT = "transport.key"


def open_transport(folder: HospitalFolder) -> ec.EllipticCurvePrivateKey:
    """The transport key; made if it is not there.

    Raises:
        FolderInvalid: if others can read it, or it is damaged.
    """
    path = folder.path / "keys" / TRANSPORT
    if not path.exists():
        new = ec.generate_private_key(ec.SECP384R1())
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_private(path, new.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    if path.stat().st_mode & 0o077:
        raise FolderInvalid(
            f"other users can read the private key {path.name}", f"chmod 600 {path}"
        )
    try:
        key = load_ssh_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise FolderInvalid(
            f"the private key {path.name} is damaged",
            f"move {path} away: a new one is made and announced",
        )
    return key


def public_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The public key, as Flower writes it: PEM, SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def transport_form(folder: HospitalFolder, ledger: str) -> dict[str, str]:
    """The public key, and the proof that this hospital holds it, as the API takes them."""
    key = open_transport(folder)
    public = public_bytes(key)
    message = transport_message(ledger, folder.institution, public)
    return {"key": public.decode(), "proof": key.sign(message, SIGNATURE).hex()}


def announce(api: LedgerApi) -> None:
    """Tells the consortium which key this hospital's SuperNode has; repeats are harmless.

    Raises:
        ApiUnreachable: if it is not taken.
        FolderInvalid: if the key cannot be used, or the hospital belongs to no ledger yet.
    """
    folder = api.folder
    if folder.ledger is None:
        raise FolderInvalid("this hospital is on no ledger yet", "enrol it first")
    api.put_transport(transport_form(folder, folder.ledger))
