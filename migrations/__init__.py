"""Alembic migrations of the ledger's database, applied by ``ledger.database.open_database``.

Expand-only: a migration adds tables, columns and indexes; none removes or rewrites ledger data.
"""

NEWEST = "0003"
"""The newest revision: known without Alembic, which takes longer to import than most commands."""
