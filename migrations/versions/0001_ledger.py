"""Entries, blocks and cosignatures, append-only."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = """
CREATE TABLE entries (
    idx bigint NOT NULL,
    height bigint NOT NULL,
    type text NOT NULL,
    institution text,
    job text,
    round integer,
    body bytea NOT NULL,
    leaf_hash bytea NOT NULL,
    submission_key text,
    CONSTRAINT entries_pkey PRIMARY KEY (idx),
    CONSTRAINT entries_submission_key_key UNIQUE (submission_key),
    CONSTRAINT entries_idx_check CHECK (idx >= 0),
    CONSTRAINT entries_height_check CHECK (height >= 0),
    CONSTRAINT entries_round_check CHECK (round >= 0),
    CONSTRAINT entries_body_check CHECK (octet_length(body) > 0),
    CONSTRAINT entries_leaf_hash_check CHECK (octet_length(leaf_hash) = 32)
);
CREATE INDEX entries_job_round_idx ON entries (job, round);
CREATE INDEX entries_type_idx ON entries (type);
CREATE INDEX entries_height_idx ON entries (height);

CREATE TABLE blocks (
    height bigint NOT NULL,
    epoch bigint NOT NULL,
    hash bytea NOT NULL,
    prev bytea NOT NULL,
    header bytea NOT NULL,
    checkpoint text NOT NULL,
    signature text NOT NULL,
    parent_cert text NOT NULL,
    first_idx bigint NOT NULL,
    count bigint NOT NULL,
    time text NOT NULL,
    CONSTRAINT blocks_pkey PRIMARY KEY (height),
    CONSTRAINT blocks_hash_key UNIQUE (hash),
    CONSTRAINT blocks_prev_key UNIQUE (prev),
    CONSTRAINT blocks_height_check CHECK (height >= 0),
    CONSTRAINT blocks_epoch_check CHECK (epoch >= 0),
    CONSTRAINT blocks_hash_check CHECK (octet_length(hash) = 32),
    CONSTRAINT blocks_prev_check CHECK (octet_length(prev) = 32),
    CONSTRAINT blocks_header_check CHECK (octet_length(header) > 0),
    CONSTRAINT blocks_first_idx_check CHECK (first_idx >= 0),
    CONSTRAINT blocks_count_check CHECK (count >= 0)
);

CREATE TABLE cosignatures (
    height bigint NOT NULL,
    institution text NOT NULL,
    line text NOT NULL,
    CONSTRAINT cosignatures_pkey PRIMARY KEY (height, institution),
    CONSTRAINT cosignatures_height_fkey FOREIGN KEY (height) REFERENCES blocks (height)
);

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: % on % refused', TG_OP, TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END
$$;
"""

# ENABLE ALWAYS: an ordinary trigger is silently skipped under session_replication_role = replica.
# Row triggers for UPDATE and DELETE: logical replication fires no statement triggers.
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
    for table in ("entries", "blocks", "cosignatures"):
        op.execute(_TRIGGERS.format(table=table))


def downgrade() -> None:
    raise NotImplementedError("a ledger is not downgraded: restore a backup")
