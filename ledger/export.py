"""Writes a ledger as a folder that an auditor takes away and verifies alone. Memory stays flat."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ledger import canonical
from ledger.block import Block
from ledger.copies import LedgerCopy, final_height, start_before
from ledger.entry import Entry
from ledger.errors import ExportExists, LedgerMissing, RangeInvalid
from ledger.keys import SecretKey
from ledger.manifest import FILES, START, FileDigest, Manifest
from ledger.records import Approval, JobEnd, Proof, Result, schemas
from ledger.rendering import write_renderings


@dataclass(frozen=True)
class Exported:
    """What an export holds."""

    folder: Path
    ledger: str
    first_height: int
    last_height: int
    entries: int


@dataclass(frozen=True)
class Contents:
    """Where an export finds updates and models, by digest; each gives a file."""

    update: Callable[[str], Path]
    model: Callable[[str], Path]


def export_ledger(
    copy: LedgerCopy,
    exporter: str,
    key: SecretKey,
    out: Path,
    heights: tuple[int, int | None] = (0, None),
    contents: Contents | None = None,
) -> Exported:
    """Writes final blocks into the new folder ``out``, whole or not at all.

    ``exporter`` signs with its record key; ``heights`` are the first and the last block (None:
    the newest final one). With ``contents`` updates and models go along.

    Raises:
        ExportExists: if ``out`` is there already and not empty.
        LedgerMissing: if no block is final yet.
        RangeInvalid: if there are no such final blocks.
        ContentMissing: if an update or a model is not there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportExists(f"{out} is there already", "name a new folder with --out")
    final = final_height(copy)
    if final < 0:
        raise LedgerMissing("no block is final yet", "wait for a quorum of the founders to co-sign")
    first, last = heights[0], final if heights[1] is None else heights[1]
    if not 0 <= first <= last <= final:
        raise RangeInvalid(
            f"there are no final blocks from {first} to {last}",
            f"name heights from 0 to {final}, the newest final block",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with _whole(out) as folder:
        exported = _write(copy, exporter, key, folder, first, last, contents)
    return Exported(out, *exported)


@contextmanager
def _whole(out: Path) -> Iterator[Path]:
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write(
    copy: LedgerCopy,
    exporter: str,
    key: SecretKey,
    folder: Path,
    first: int,
    last: int,
    contents: Contents | None,
) -> tuple[str, int, int, int]:
    entries = write_ledger(copy, folder, first, last)
    write_renderings(folder, start_before(copy, last + 1).chain(), first)
    _write_disclosures(copy, folder, last)
    (folder / "schemas.json").write_bytes(canonical.dumps(schemas()) + b"\n")
    names = [*FILES, START] if first else list(FILES)
    if contents is not None:
        names += _write_contents(folder, contents)
    ledger = copy.header(last).ledger
    manifest = Manifest(
        ledger, exporter, first, last, entries, _complete(copy, first, last),
        {name: FileDigest.of(folder / name) for name in names},
    )  # fmt: skip
    (folder / "manifest.json").write_bytes(manifest.data())
    (folder / "manifest.sig").write_bytes(manifest.sign(key))
    return ledger, first, last, entries


def write_ledger(copy: LedgerCopy, folder: Path, first: int, last: int) -> int:
    """Writes entries, blocks and what they go on from; returns how many entries."""
    if first:
        (folder / START).write_bytes(start_before(copy, first).data())
    with (folder / "entries.jsonl").open("wb") as file:
        copy.write_entries(file, first, last)
    entries = 0
    with (folder / "blocks.jsonl").open("wb") as file:
        for block, lines in copy.blocks(first, last):
            file.write(block_line(block, lines) + b"\n")
            entries += block.header.count
    return entries


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


def _complete(copy: LedgerCopy, first: int, last: int) -> str:
    newest = copy.newest()
    begin = "from the genesis on" if first == 0 else f"from block {first} on, none before it"
    if newest == last:
        return f"all entries of all final blocks {begin}; nothing is pending"
    final = final_height(copy)
    if last < final:
        return f"all entries of all blocks {begin}, up to block {last}; the ledger goes on"
    return f"all entries of all final blocks {begin}; block {newest} is pending, left out"


def _write_disclosures(copy: LedgerCopy, folder: Path, last: int) -> None:
    erased = set(copy.erased())
    named = {r.approver for e in copy.changes(last) if isinstance(r := e.record, Approval)}
    with (folder / "disclosures.jsonl").open("wb") as file:
        for disclosure in sorted(copy.disclosures(), key=lambda d: d.digest):
            if disclosure.digest in named - erased:
                form = {"salt": disclosure.salt.hex(), "value": disclosure.value}
                file.write(canonical.dumps(form) + b"\n")


def _write_contents(folder: Path, contents: Contents) -> list[str]:
    """Copies every update and model that the exported entries name."""
    for name in ("content", "models"):
        (folder / name).mkdir()
    names: set[str] = set()
    with (folder / "entries.jsonl").open("rb") as file:
        for line in file:
            entry = Entry(line[:-1])
            if not entry.names_type("proof", "result", "job-end"):
                continue
            record = entry.record
            wanted: dict[str, Path] = {}
            if isinstance(record, Proof):
                wanted[f"content/{record.update}"] = contents.update(record.update)
            elif isinstance(record, Result):
                for model in (record.model_before, record.model_after):
                    wanted[f"models/{model}"] = contents.model(model)
            elif isinstance(record, JobEnd):
                wanted[f"models/{record.model}"] = contents.model(record.model)
            for name in set(wanted) - names:
                shutil.copyfile(wanted[name], folder / name)
            names |= set(wanted)
    return sorted(names)
