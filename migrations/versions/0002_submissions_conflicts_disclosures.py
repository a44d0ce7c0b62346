"""The tree's frontier beside each block; submissions, conflicts and disclosures."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TABLES = """
ALTER TABLE blocks
    ADD COLUMN frontier bytea,
    ADD CONSTRAINT blocks_frontier_check CHECK (octet_length(frontier) % 32 = 0);

CREATE INDEX entries_institution_type_idx ON entries (institution, type, idx);

CREATE TABLE submissions (
    key text NOT NULL,
    institution text NOT NULL,
    body bytea NOT NULL,
    received timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT submissions_pkey PRIMARY KEY (key),
    CONSTRAINT submissions_body_check CHECK (octet_length(body) > 0)
);

CREATE TABLE conflicts (
    height bigint NOT NULL,
    institution text NOT NULL,
    line text NOT NULL,
    CONSTRAINT conflicts_pkey PRIMARY KEY (height, institution, line),
    CONSTRAINT conflicts_height_fkey FOREIGN KEY (height) REFERENCES blocks (height)
);

CREATE TABLE disclosures (
    commitment bytea NOT NULL,
    salt bytea NOT NULL,
    value text NOT NULL,
    CONSTRAINT disclosures_pkey PRIMARY KEY (commitment),
    CONSTRAINT disclosures_commitment_check CHECK (octet_length(commitment) = 32),
    CONSTRAINT disclosures_salt_check CHECK (octet_length(salt) = 32)
);
"""

# As in 0001. None on disclosures: what stands there can be erased.
_TRIGGERS = """
CREATE TRIGGER refuse_change BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER refuse_change;
ALTER TABLE {table} ENABLE ALWAYS TRIGGER refuse_truncate;
"""


def upgrade() -> None:
    op.execute(_TABLES)
    for table in ("submissions", "conflicts"):
        op.execute(_TRIGGERS.format(table=table))


def downgrade() -> None:
    raise NotImplementedError("a ledger is not downgraded: restore a backup")
