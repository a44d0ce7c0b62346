"""Transport keys: by which an institution's SuperNode shows the SuperLink who it is.

EC P-384, as Flower wants it; not on the ledger, because it opens a channel and decides nothing.
Whoever hands one in shows that it holds it, by an ECDSA signature over ledger, institution and key.
A key in the table admits nobody by itself: the SuperLink takes those of members in force.
"""

import time
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)

from consortium.errors import TransportInvalid
from consortium.events import record
from consortium.network import transaction

SIGNATURE = ec.ECDSA(SHA384())


def transport_message(ledger: str, institution: str, public: bytes) -> bytes:
    """What the key signs. ``ledger`` is its id, or the fingerprint of a draft."""
    digest = sha256(public).hexdigest()
    return f"medpole/transport/v1\n{ledger}\n{institution}\n{digest}\n".encode()


def transport_id(public: bytes) -> str:
    """16 hex characters to compare by telephone."""
    return sha256(b"transport\n" + public).hexdigest()[:16]


def check_transport(ledger: str, institution: str, public: bytes, proof: bytes) -> None:
    """Checks that a key is one that Flower takes, and that the institution holds it.

    ``public`` is PEM (SubjectPublicKeyInfo), ``proof`` a DER signature over `transport_message`.

    Raises:
        TransportInvalid: if it is not.
    """
    try:
        key = load_pem_public_key(public)
    except (ValueError, UnsupportedAlgorithm):
        raise _invalid(institution, "it cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _invalid(institution, "it is not EC P-384")
    if key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) != public:
        raise _invalid(institution, "it is not in its one form")
    try:
        key.verify(proof, transport_message(ledger, institution, public), SIGNATURE)
    except InvalidSignature:
        raise _invalid(institution, "it is not shown to be held") from None


class TransportKeys:
    """One key per institution, in the coordinator's home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def put(self, ledger: str, institution: str, public: bytes, proof: bytes) -> None:
        """Stores an institution's key in place of the one before.

        Raises:
            TransportInvalid: if it does not hold, or is another institution's.
        """
        try:
            check_transport(ledger, institution, public, proof)
            self._put(institution, public)
        except TransportInvalid as error:
            record(self._home, error.code, institution=institution)
            raise

    def _put(self, institution: str, public: bytes) -> None:
        with transaction(self._home) as connection:
            query = "SELECT 1 FROM transport_keys WHERE public = ? AND institution != ?"
            if connection.execute(query, (public, institution)).fetchone():
                raise _invalid(institution, "it is another institution's")
            connection.execute(
                "INSERT INTO transport_keys VALUES (?, ?, ?) ON CONFLICT (institution) DO UPDATE "
                "SET public = excluded.public, stored = excluded.stored "
                "WHERE public != excluded.public",
                (institution, public, int(time.time())),
            )

    def all(self) -> dict[str, bytes]:
        """Every institution's public key, PEM; some may not be members, or not any more."""
        with transaction(self._home) as connection:
            return dict(connection.execute("SELECT institution, public FROM transport_keys"))

    def remove(self, institution: str) -> None:
        """Forgets an institution's key; repeats are harmless."""
        with transaction(self._home) as connection:
            connection.execute("DELETE FROM transport_keys WHERE institution = ?", (institution,))


def _invalid(institution: str, what: str) -> TransportInvalid:
    return TransportInvalid(
        f"the transport key of {institution} was refused: {what}",
        "have its agent make and show its transport key anew",
    )
