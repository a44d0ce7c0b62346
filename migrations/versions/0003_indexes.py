"""Indexes: what an institution co-signed last, leaves by the hash, a job's records in order."""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_INDEXES = """
CREATE INDEX entries_leaf_hash_idx ON entries (leaf_hash);
CREATE INDEX entries_job_idx_idx ON entries (job, idx);
CREATE INDEX cosignatures_institution_height_idx ON cosignatures (institution, height);
"""


def upgrade() -> None:
    op.execute(_INDEXES)


def downgrade() -> None:
    raise NotImplementedError("a ledger is not downgraded: restore a backup")
