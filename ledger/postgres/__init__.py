"""The embedded PostgreSQL of a coordinator without ``DATABASE_URL``.

Rules held here, one file each:

- ``binaries``: which PostgreSQL is run. An existing data folder decides its major version.
- ``account``: whom it runs as. PostgreSQL refuses root, so root lends it another account.
- ``folder``: where its data lies. Complete or absent, never half made; one process at a time.
- ``keeper``: a small process between us and the server, which stops it when we are gone.
- ``server``: the context manager that joins them.

Durability is never traded for speed: fsync, full_page_writes and synchronous_commit are on and
data checksums are written. The server listens on no network port.
"""

from ledger.postgres.server import EmbeddedPostgres, running_url

__all__ = ["EmbeddedPostgres", "running_url"]
