"""Writes a ledger as a folder that an auditor takes away and verifies alone."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import IO

from ledger import canonical
from ledger.block import Block
from ledger.errors import ExportExists, LedgerMissing
from ledger.keys import KeyRing, Role
from ledger.manifest import MANIFEST_DOMAIN
from ledger.records import COORDINATOR, schemas
from ledger.rendering import COLUMNS, line, row
from ledger.store import LedgerStore


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    folder: Path
    ledger: str
    height: int
    entries: int


def export_ledger(store: LedgerStore, keys: KeyRing, out: Path) -> Exported:
    """Writes all final blocks into the new folder ``out``, whole or not at all.

    Raises:
        ExportExists: if ``out`` is there already and not empty.
        LedgerMissing: if no block is final yet.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportExists(f"{out} is there already", "name a new folder with --out")
    last = store.final_height()
    if last < 0:
        raise LedgerMissing("no block is final yet", "wait for a quorum of the founders to co-sign")
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        exported = _write(store, keys, partial, last)
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return Exported(out, exported.ledger, exported.height, exported.entries)


def _write(store: LedgerStore, keys: KeyRing, folder: Path, last: int) -> Exported:
    parts: dict[str, _Part] = {}
    entries = 0
    with (
        _open(folder, "entries.jsonl", parts) as entries_file,
        _open(folder, "blocks.jsonl", parts) as blocks_file,
        _open(folder, "entries.csv", parts) as csv_file,
    ):
        csv_file.write(line(COLUMNS).decode())
        for block in store.blocks():
            if block.header.height > last:
                break
            for position, entry in enumerate(block.entries):
                entries_file.write(entry.data.decode() + "\n")
                csv_file.write(line(row(block, position)).decode())
            form = block_line(block, store.cosignatures(block.header.height))
            blocks_file.write(form.decode() + "\n")
            entries += len(block.entries)
    with _open(folder, "schemas.json", parts) as file:
        file.write(canonical.dumps(schemas()).decode() + "\n")
    newest = store.head().header.height
    manifest = {
        "v": 1,
        "type": "export",
        "ledger": store.chain().ledger,
        "exporter": COORDINATOR,
        "first_height": 0,
        "last_height": last,
        "entries": entries,
        "complete": "all entries of all final blocks from the genesis on; "
        + ("nothing is pending" if newest == last else f"block {newest} is pending, left out"),
        "files": {
            name: {"sha256": part.hasher.hexdigest(), "bytes": part.size}
            for name, part in parts.items()
        },
    }
    data = canonical.dumps(manifest)
    key = keys[Role.RECORD]
    signature = {
        "alg": key.public.algorithm,
        "key": key.public.key_id,
        "sig": key.sign(MANIFEST_DOMAIN + data).hex(),
    }
    (folder / "manifest.json").write_bytes(data)
    (folder / "manifest.sig").write_bytes(canonical.dumps(signature))
    return Exported(folder, store.chain().ledger, last, entries)


def block_line(block: Block, cosignatures: list[str]) -> bytes:
    """A block without its entries, as one canonical line."""
    return canonical.dumps(
        {
            "header": canonical.loads(block.header.data()),
            "checkpoint": block.checkpoint.text(),
            "signature": block.signature,
            "parent_cert": list(block.parent_cert),
            "cosignatures": cosignatures,
        }
    )


class _Part:
    """A text file that knows the digest and size of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hasher = sha256()
        self.size = 0

    def write(self, text: str) -> int:
        data = text.encode()
        self.hasher.update(data)
        self.size += len(data)
        return self._file.write(data)


@contextmanager
def _open(folder: Path, name: str, parts: dict[str, _Part]) -> Iterator[_Part]:
    with (folder / name).open("wb") as file:
        parts[name] = _Part(file)
        yield parts[name]
