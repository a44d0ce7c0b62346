"""The ledger's tables. ``migrations/`` holds the DDL that makes them; a test holds the two equal.

Nothing here is ever updated or deleted, but in ``disclosures``: triggers refuse UPDATE, DELETE and
TRUNCATE, for everyone, and the application's role has no right to them (``migrations/roles.py``).
They are no defence against the database's administrator (who can drop them): co-signed tree heads
are. The database knows no meaning of an entry either: what is valid is decided from the bytes.
"""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_name)s_key",
        "fk": "%(table_name)s_%(column_0_name)s_fkey",
        "ck": "%(table_name)s_%(constraint_name)s_check",
    }
)

entries = Table(
    "entries",
    metadata,
    # Dense from 0, assigned by the sequencer: an identity column leaves gaps after a crash.
    Column("idx", BigInteger, primary_key=True, autoincrement=False),
    Column("height", BigInteger, nullable=False),
    Column("type", Text, nullable=False),
    Column("institution", Text),
    Column("job", Text),
    Column("round", Integer),
    Column("body", LargeBinary, nullable=False),  # the canonical bytes as they were received
    Column("leaf_hash", LargeBinary, nullable=False),  # not unique: two leaves may be equal
    Column("submission_key", Text),
    UniqueConstraint("submission_key"),
    CheckConstraint("idx >= 0", name="idx"),
    CheckConstraint("height >= 0", name="height"),
    CheckConstraint("round >= 0", name="round"),
    CheckConstraint("octet_length(body) > 0", name="body"),
    CheckConstraint("octet_length(leaf_hash) = 32", name="leaf_hash"),
    Index("entries_job_round_idx", "job", "round"),
    Index("entries_type_idx", "type"),
    Index("entries_height_idx", "height"),
    Index("entries_institution_type_idx", "institution", "type", "idx"),
    Index("entries_leaf_hash_idx", "leaf_hash"),
    Index("entries_job_idx_idx", "job", "idx"),
)

# UNIQUE prev besides the primary key: without both, concurrent writers fork the chain.
blocks = Table(
    "blocks",
    metadata,
    Column("height", BigInteger, primary_key=True, autoincrement=False),
    Column("epoch", BigInteger, nullable=False),
    Column("hash", LargeBinary, nullable=False),
    Column("prev", LargeBinary, nullable=False),
    Column("header", LargeBinary, nullable=False),
    Column("checkpoint", Text, nullable=False),
    Column("signature", Text, nullable=False),  # the coordinator's, on the checkpoint
    Column("parent_cert", Text, nullable=False),  # the quorum on the parent, a line each
    Column("first_idx", BigInteger, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("time", Text, nullable=False),
    # Roots of the tree's perfect subtrees, header included; absent in blocks older than the column.
    Column("frontier", LargeBinary),
    UniqueConstraint("hash"),
    UniqueConstraint("prev"),
    CheckConstraint("height >= 0", name="height"),
    CheckConstraint("epoch >= 0", name="epoch"),
    CheckConstraint("octet_length(hash) = 32", name="hash"),
    CheckConstraint("octet_length(prev) = 32", name="prev"),
    CheckConstraint("octet_length(header) > 0", name="header"),
    CheckConstraint("first_idx >= 0", name="first_idx"),
    CheckConstraint("count >= 0", name="count"),
    CheckConstraint("octet_length(frontier) % 32 = 0", name="frontier"),
)

cosignatures = Table(
    "cosignatures",
    metadata,
    Column(
        "height",
        BigInteger,
        ForeignKey("blocks.height"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("institution", Text, primary_key=True),
    Column("line", Text, nullable=False),  # C2SP signed-note signature line
    Index("cosignatures_institution_height_idx", "institution", "height"),
)

# What institutions handed in, from before it stands in a block.
submissions = Table(
    "submissions",
    metadata,
    Column("key", Text, primary_key=True),  # idempotency: the text of entries.submission_key
    Column("institution", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("received", DateTime(timezone=True), nullable=False, server_default=text("now()")),
    CheckConstraint("octet_length(body) > 0", name="body"),
)

# A second, other cosignature by one institution on one block: its key was cloned or restored.
conflicts = Table(
    "conflicts",
    metadata,
    Column(
        "height",
        BigInteger,
        ForeignKey("blocks.height"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("institution", Text, primary_key=True),
    Column("line", Text, primary_key=True),
)

# The one erasable table: without its salt, a commitment on the ledger tells nothing.
disclosures = Table(
    "disclosures",
    metadata,
    Column("commitment", LargeBinary, primary_key=True),
    Column("salt", LargeBinary, nullable=False),
    Column("value", Text, nullable=False),
    CheckConstraint("octet_length(commitment) = 32", name="commitment"),
    CheckConstraint("octet_length(salt) = 32", name="salt"),
)
