"""The ledger: signed records in co-signed blocks, on PostgreSQL, verifiable offline.

Pure rules: `canonical`, `merkle`, `note`, `keys`, `records`, `entry`, `block`, `quorum`, `chain`.
At the edges: `store` and `database` (PostgreSQL), `postgres` (the embedded server), `content`
(model files), `export` and `verify` (an auditor's folder).
"""
