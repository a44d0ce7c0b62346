"""What an export folder consists of.

| file | holds |
|---|---|
| ``entries.jsonl`` | every entry's original bytes, one a line, in ledger order |
| ``blocks.jsonl`` | every block's header, signed checkpoint, parent's certificate, cosignatures |
| ``entries.csv`` | a rendering to read; the entries themselves are what counts |
| ``schemas.json`` | JSON Schema of every record type |
| ``manifest.json`` | canonical: ledger, range, completeness, SHA-256 and size of each file |
| ``manifest.sig`` | the exporter's signature over the manifest |
"""

MANIFEST_DOMAIN = b"medpole/export/v1\n"
FILES = ("entries.jsonl", "blocks.jsonl", "entries.csv", "schemas.json")
