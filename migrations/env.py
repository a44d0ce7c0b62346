"""Alembic's entry point: migrates over the connection that ``ledger.database`` hands in.

The caller owns connection, transaction and lock, so that a migration is applied whole, once.
"""

from alembic import context
from sqlalchemy import Connection

from ledger.schema import metadata

connection: Connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
