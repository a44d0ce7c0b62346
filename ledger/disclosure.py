"""Salted digests: what may have to be erased stays off the ledger, bound to it by a digest.

The ledger holds SHA-256 over a domain line, a 32-byte salt and the value; salt and value stand in
the one table that can be erased. Without the salt nobody can tell the value from any other, and
the tree still verifies. (The construction of selective disclosure in RFC 9901.)
"""

import os
from dataclasses import dataclass
from hashlib import sha256

from ledger.errors import DisclosureInvalid

_DOMAIN = b"medpole/disclosure/v1\n"
_SALT_BYTES = 32
_LONGEST = 1000


@dataclass(frozen=True)
class Disclosure:
    """A value with its salt.

    Raises:
        DisclosureInvalid: for a salt of other than 32 bytes, or a value that is no short line.
    """

    salt: bytes
    value: str

    def __post_init__(self) -> None:
        if len(self.salt) != _SALT_BYTES or not 0 < len(self.value) <= _LONGEST:
            raise DisclosureInvalid("the salt or the value has a wrong length", "make it anew")
        if not self.value.isprintable():
            raise DisclosureInvalid("the value is not one printable line", "make it anew")

    @staticmethod
    def of(value: str) -> "Disclosure":
        """A disclosure of ``value`` under a new salt."""
        return Disclosure(os.urandom(_SALT_BYTES), value)

    @property
    def digest(self) -> str:
        """What stands on the ledger, lower-case hex of 32 bytes."""
        return sha256(_DOMAIN + self.salt + self.value.encode()).hexdigest()

    def check(self, digest: str) -> None:
        """Checks that this opens ``digest``.

        Raises:
            DisclosureInvalid: if it does not.
        """
        if self.digest != digest:
            raise DisclosureInvalid("it opens another digest", "ask for the original disclosure")
