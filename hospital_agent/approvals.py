"""What this hospital's person handed in: approvals and changes, kept before they are sent.

One SQLite file, always synced. The witness co-signs nothing in this hospital's name that does not
stand here; who approved stays here too, and on the ledger only as a salted digest.
"""

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from hospital_agent.state import connected, transaction
from ledger.disclosure import Disclosure
from ledger.entry import Entry, sign_record
from ledger.keys import SecretKey
from ledger.records import Approval

_SCHEMA = """
CREATE TABLE IF NOT EXISTS handed_in (
    entry BLOB PRIMARY KEY, change TEXT, salt BLOB, person TEXT
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS handed_in_change ON handed_in (change);
"""


class Approvals:
    """One hospital's approvals and changes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with connected(self._path) as connection:
            connection.executescript(_SCHEMA)

    def _connect(self) -> AbstractContextManager[sqlite3.Connection]:
        return transaction(self._path)

    def approve(
        self, ledger: str, institution: str, change: str, person: str, key: SecretKey
    ) -> tuple[Entry, Disclosure]:
        """The signed approval of a change; asked again, the very same one."""
        disclosure = Disclosure.of(person)
        approval = Approval(
            v=1, type="approval", ledger=ledger, author=institution, change=change,
            approver=disclosure.digest,
        )  # fmt: skip
        row = (sign_record(approval, [key]).data, change, disclosure.salt, person)
        with self._connect() as connection:
            connection.execute("INSERT OR IGNORE INTO handed_in VALUES (?, ?, ?, ?)", row)
            query = "SELECT entry, salt, person FROM handed_in WHERE change = ?"
            entry, salt, name = connection.execute(query, (change,)).fetchone()
        return Entry(entry), Disclosure(salt, name)

    def approved(self, change: str) -> list[str]:
        """The changes approved here whose digest begins so."""
        query = "SELECT change FROM handed_in WHERE substr(change, 1, ?) = ?"
        with self._connect() as connection:
            return [found for (found,) in connection.execute(query, (len(change), change))]

    def keep(self, entry: Entry) -> None:
        """Keeps a change that is handed in."""
        with self._connect() as connection:
            connection.execute(
                "INSERT OR IGNORE INTO handed_in VALUES (?, NULL, NULL, NULL)", (entry.data,)
            )

    def holds(self, entry: Entry) -> bool:
        """Whether this very entry was handed in here."""
        with self._connect() as connection:
            query = "SELECT count(*) FROM handed_in WHERE entry = ?"
            return bool(connection.execute(query, (entry.data,)).fetchone()[0])

    def disclosures(self) -> list[Disclosure]:
        """Who approved: what opens the salted digests on the ledger."""
        with self._connect() as connection:
            rows = connection.execute("SELECT salt, person FROM handed_in WHERE salt NOT NULL")
            return [Disclosure(salt, person) for salt, person in rows]

    def erase(self, digest: str) -> bool:
        """Forgets who approved, for good; says whether there was anything."""
        with connected(self._path) as connection:
            connection.execute("PRAGMA secure_delete = ON")
            for salt, person in connection.execute(
                "SELECT salt, person FROM handed_in WHERE salt NOT NULL"
            ).fetchall():
                if Disclosure(salt, person).digest == digest:
                    connection.execute(
                        "UPDATE handed_in SET salt = NULL, person = NULL WHERE salt = ?", (salt,)
                    )
                    return True
        return False
