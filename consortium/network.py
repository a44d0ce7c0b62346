"""``HOME/coordinator/network.sqlite``: what the network side keeps, always synced.

Invitations, enrolments, transport keys, offers, the tokens of people, who was last seen when.

Small, and used beside a running `consortium serve` by the commands that people type: each opens it
for one transaction. Nothing secret stands in it; of a token's secret only the SHA-256.
"""

import sqlite3
from contextlib import AbstractContextManager
from pathlib import Path

from consortium import state

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS invitations (
        secret TEXT PRIMARY KEY, institution TEXT NOT NULL, title TEXT NOT NULL,
        ledger TEXT NOT NULL, founder INTEGER NOT NULL, created INTEGER NOT NULL,
        expires INTEGER NOT NULL, revoked INTEGER
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS enrolments (
        secret TEXT PRIMARY KEY REFERENCES invitations, form TEXT NOT NULL, consent TEXT,
        transport BLOB NOT NULL, proof BLOB NOT NULL, received INTEGER NOT NULL, approved INTEGER
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS transport_keys (
        institution TEXT PRIMARY KEY, public BLOB NOT NULL UNIQUE, stored INTEGER NOT NULL
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS offers (
        institution TEXT NOT NULL, task TEXT NOT NULL, patients INTEGER NOT NULL,
        PRIMARY KEY (institution, task)
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS access_tokens (
        id TEXT PRIMARY KEY, secret TEXT NOT NULL UNIQUE, name TEXT NOT NULL, role TEXT NOT NULL,
        created INTEGER NOT NULL, expires INTEGER NOT NULL, revoked INTEGER
    ) STRICT""",
    """CREATE TABLE IF NOT EXISTS last_seen (
        institution TEXT PRIMARY KEY, time INTEGER NOT NULL, version TEXT
    ) STRICT""",
)


_PLACE = Path("coordinator") / "network.sqlite"


def network_file(home: Path) -> Path:
    """Where it is."""
    return home / _PLACE


def transaction(home: Path) -> AbstractContextManager[sqlite3.Connection]:
    """One transaction, stored whole or not at all.

    Raises:
        StateFailed: if the file cannot be read or written; nothing was stored then.
    """
    return state.transaction(network_file(home), _SCHEMA)


def reading(home: Path) -> AbstractContextManager[sqlite3.Connection]:
    """A look at what a transaction has made; takes no lock that keeps others from writing.

    Raises:
        StateFailed: if the file cannot be read.
    """
    return state.reading(network_file(home))
