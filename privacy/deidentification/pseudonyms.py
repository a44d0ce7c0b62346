"""Keyed pseudonyms, and dates moved by a keyed number of days.

A pseudonym is HMAC-SHA256 (RFC 2104, FIPS 198-1) of the patient's own identifier, cut to 128 bits:
without the key nobody can try out record numbers, as with a plain hash. The key is made at the
hospital, one for each cohort, and stays there; without it pseudonyms of two cohorts have nothing in
common.

All dates of a patient move by the same number of days, -365 to 365 and never 0, derived from the
same key: intervals within a patient stay what they were, weekdays and seasons do not.
"""

import hashlib
import hmac
import os
import secrets
from datetime import date, timedelta
from pathlib import Path
from typing import Final

from privacy.errors import PseudonymKeyInvalid

MOST_DAYS: Final = 365
_KEY_BYTES: Final = 32


class PseudonymKey:
    """A cohort's secret: it gives patients other names and moves their dates."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) != _KEY_BYTES:
            raise PseudonymKeyInvalid(
                f"the key does not have {_KEY_BYTES} bytes",
                "restore it from your backup: with another key patients get other pseudonyms",
            )
        self._secret = secret

    def __repr__(self) -> str:
        return "PseudonymKey(…)"

    @staticmethod
    def make() -> "PseudonymKey":
        """A new key that is kept nowhere: for a check that stores nothing."""
        return PseudonymKey(secrets.token_bytes(_KEY_BYTES))

    @staticmethod
    def open(path: Path) -> "PseudonymKey":
        """The key in a file, made there (0600) where there is none.

        Raises:
            PseudonymKeyInvalid: if the file is damaged, or open to others.
        """
        if not path.exists():
            partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as f:
                f.write(secrets.token_hex(_KEY_BYTES) + "\n")
                f.flush()
                os.fsync(f.fileno())
            try:
                os.link(partial, path)  # whoever comes first has made it; a second one reads that
            except FileExistsError:
                pass
            finally:
                partial.unlink()
        try:
            if path.stat().st_mode & 0o077:
                raise PseudonymKeyInvalid(
                    f"{path.name} can be read by others than its owner", f"chmod 600 {path}"
                )
            return PseudonymKey(bytes.fromhex(path.read_text()))
        except (OSError, ValueError):
            raise PseudonymKeyInvalid(
                f"{path.name} cannot be read",
                f"restore {path} from your backup: with another key patients get other pseudonyms",
            ) from None

    def pseudonym(self, patient: str) -> str:
        """The patient's other name: ``ps-`` and 32 hexadecimal digits."""
        return f"ps-{self._digest('patient', patient)[:16].hex()}"

    def uid(self, uid: str) -> str:
        """Another DICOM UID in place of one, of the form 2.25.(UUID as a number)."""
        return f"2.25.{int.from_bytes(self._digest('uid', uid)[:16], 'big')}"

    def shift_days(self, patient: str) -> int:
        """By how many days all dates of a patient move: -365 to 365, never 0."""
        drawn = int.from_bytes(self._digest("days", patient)[:16], "big") % (2 * MOST_DAYS)
        return drawn - MOST_DAYS if drawn < MOST_DAYS else drawn - MOST_DAYS + 1

    def shifted(self, patient: str, day: date) -> date:
        """A date of a patient, moved."""
        return day + timedelta(days=self.shift_days(patient))

    def _digest(self, purpose: str, text: str) -> bytes:
        return hmac.digest(self._secret, f"{purpose}\0{text}".encode(), hashlib.sha256)
