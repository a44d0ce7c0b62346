"""A ledger entry: one record with the signatures of its authors, as canonical bytes.

A signature covers ``medpole/record/v1``, a newline, and the canonical bytes of the body. The
body names its ledger, so that no record can be replayed into another one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ledger import canonical
from ledger.errors import RecordInvalid, SignatureInvalid
from ledger.keys import PublicKey, SecretKey
from ledger.merkle import leaf_hash
from ledger.records import Record, parse_record, stored_record

_DOMAIN = b"medpole/record/v1\n"


@dataclass(frozen=True)
class Entry:
    """The original bytes of an entry; everything else is read from them."""

    data: bytes

    @cached_property
    def _content(self) -> dict[str, Any]:
        content = canonical.loads(self.data)
        if not isinstance(content, dict) or set(content) != {"body", "signatures"}:
            raise RecordInvalid("an entry has a body and signatures", "send the signed original")
        return content

    @cached_property
    def record(self) -> Record:
        """The parsed body.

        Raises:
            CanonicalInvalid, RecordInvalid: if it is not a published form.
        """
        return parse_record(self._content["body"])

    @cached_property
    def leaf(self) -> bytes:
        """The entry's Merkle leaf hash."""
        return leaf_hash(self.data)

    @property
    def body(self) -> bytes:
        """The canonical bytes of the body; those that were signed, once `verify` has passed."""
        self._content  # noqa: B018 (raises for what is no entry)
        return _body(self.data)

    @property
    def stored_body(self) -> bytes:
        """The body's bytes, where this is an entry of one's own database."""
        return _body(self.data)

    @property
    def stored(self) -> Record:
        """The record, where this is an entry of one's own database."""
        return stored_record(self.stored_body)

    def names_type(self, *types: str) -> bool:
        """Whether the entry may be of one of these types: without parsing, never a false no."""
        return any(b'"type":"%s"' % type.encode() in self.data for type in types)

    def verify(self, keys: Sequence[PublicKey]) -> None:
        """Checks that the entry carries exactly one signature by each of ``keys``, in order.

        Raises:
            SignatureInvalid: if one is missing, repeated, unknown or wrong.
        """
        signatures = self._content["signatures"]
        expected = [(key.algorithm, key.key_id) for key in keys]
        try:
            found = [(s["alg"], s["key"]) for s in signatures]
            values = [bytes.fromhex(s["sig"]) for s in signatures]
            exact = all(
                set(s) == {"alg", "key", "sig"} and s["sig"] == value.hex()
                for s, value in zip(signatures, values, strict=True)
            )
        except (TypeError, KeyError, ValueError):
            exact = False
        if not exact or found != expected:
            raise SignatureInvalid(
                "an entry is not signed by the keys that its type asks for",
                "have its authors sign it with their record keys in force",
            )
        message = _DOMAIN + self.body
        for key, value in zip(keys, values, strict=True):
            key.verify(value, message)


def _body(data: bytes) -> bytes:
    # Signatures of the form that `verify` wants hold no such text.
    return data[len(b'{"body":') : data.rindex(b',"signatures":')]


def naming_type(entries: Sequence[Entry], *types: str) -> list[Entry]:
    """The entries that may be of one of these types; at the speed of one search in all of them."""
    together = Entry(b"\n".join(entry.data for entry in entries))
    if not together.names_type(*types):
        return []
    return [entry for entry in entries if entry.names_type(*types)]


def record_signature(record: Record, key: SecretKey) -> dict[str, str]:
    """One author's signature over a record."""
    signature = key.sign(_DOMAIN + canonical.dumps(record.body()))
    return {"alg": key.public.algorithm, "key": key.public.key_id, "sig": signature.hex()}


def assemble(record: Record, signatures: Sequence[dict[str, str]]) -> Entry:
    """An entry of a record and its authors' signatures, in order."""
    return Entry(canonical.dumps({"body": record.body(), "signatures": list(signatures)}))


def sign_record(record: Record, keys: Sequence[SecretKey]) -> Entry:
    """An entry with one signature by each key, in order."""
    return assemble(record, [record_signature(record, key) for key in keys])
