"""Verification of an export, offline: no database, no network, no trust in who wrote it.

In this order: the genesis (against the pinned fingerprint), every block (entries' form and
signatures, Merkle root, header, checkpoint, the certificate of the block before), the quorum of
the members in force on every block, the rendering in ``entries.csv``, then the signed manifest and
the digest of every file (``schemas.json`` stands on the exporter's word alone).
The first thing that fails is named, with how far verification got.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ledger import canonical
from ledger.block import Block, Header
from ledger.chain import Chain
from ledger.entry import Entry
from ledger.errors import BlockInvalid, CanonicalInvalid, ExportInvalid, LedgerError
from ledger.keys import PublicKey, Role
from ledger.manifest import FILES, MANIFEST_DOMAIN
from ledger.note import Checkpoint
from ledger.quorum import quorum
from ledger.rendering import COLUMNS, row
from ledger.rendering import line as line_of

_LONGEST_LINE = 64 * 1024 * 1024


@dataclass(frozen=True)
class Verified:
    """What holds: all of it. ``pinned`` tells whether the genesis was compared."""

    ledger: str
    pinned: bool
    height: int
    blocks: int
    entries: int
    members: int
    quorum: int
    fewest_cosigners: int


def verify_export(folder: Path, pinned: str | None = None) -> Verified:
    """Verifies the export in ``folder``.

    Raises:
        LedgerError: naming the first thing that fails, with how far verification got.
    """
    if not folder.is_dir():
        raise ExportInvalid(f"{folder} is not a folder", "name the folder that was exported")
    _check_names(folder)
    with (
        (folder / "blocks.jsonl").open("rb") as blocks,
        (folder / "entries.jsonl").open("rb") as entries,
        (folder / "entries.csv").open("rb") as rendering,
    ):
        chain, summary = _check_blocks(blocks, entries, rendering, pinned)
    _check_manifest(folder, chain, summary)
    return summary


def _check_names(folder: Path) -> None:
    expected = {*FILES, "manifest.json", "manifest.sig"}
    found = {path.name for path in folder.iterdir()}
    for name in sorted(expected - found):
        raise _invalid(f"{name} is missing")
    for name in sorted(expected):
        if not (folder / name).is_file():
            raise _invalid(f"{name} is not a file")
    for name in sorted(found - expected):
        raise _invalid(f"{name[:60]!r} does not belong to an export")


def _check_blocks(
    blocks: BinaryIO, entries: BinaryIO, rendering: BinaryIO, pinned: str | None
) -> tuple[Chain, Verified]:
    chain: Chain | None = None
    fewest, total = 0, 0
    entry_lines = _lines(entries, "entries.jsonl")
    _check_rendering(rendering, line_of(COLUMNS), "its head")
    for number, line in enumerate(_lines(blocks, "blocks.jsonl")):
        place = f"blocks.jsonl line {number + 1} (height {number})"
        try:
            block, cosignatures = _parse_block(line, entry_lines)
            if chain is None:
                chain = Chain.begin(block, pinned)
            else:
                chain.follow(block)
            signers = chain.certify(cosignatures)
            if cosignatures != sorted(cosignatures):
                raise BlockInvalid("the cosignatures are not sorted", "use the original export")
            for position in range(len(block.entries)):
                index = block.header.first + position
                _check_rendering(rendering, line_of(row(block, position)), f"the row of {index}")
        except LedgerError as error:
            error.what = (
                f"{place}: {error.what}. Verified before it: {number} blocks, {total} entries"
            )
            raise
        fewest = len(signers) if number == 0 else min(fewest, len(signers))
        total += len(block.entries)
    if chain is None:
        raise _invalid("blocks.jsonl holds no block")
    if next(entry_lines, None) is not None:
        raise _invalid(f"entries.jsonl line {total + 1} belongs to no block")
    if rendering.read(1):
        raise _invalid("entries.csv holds more rows than there are entries")
    members = len(chain.members)
    return chain, Verified(
        ledger=chain.ledger,
        pinned=pinned is not None,
        height=chain.header.height,
        blocks=chain.header.height + 1,
        entries=total,
        members=members,
        quorum=quorum(members),
        fewest_cosigners=fewest,
    )


def _check_rendering(rendering: BinaryIO, expected: bytes, what: str) -> None:
    if rendering.read(len(expected)) != expected:
        raise _invalid(f"entries.csv: {what} is not what the signed entries say")


def _parse_block(line: bytes, entry_lines: Iterator[bytes]) -> tuple[Block, list[str]]:
    content: Any = canonical.loads(line)
    fields = {"header", "checkpoint", "signature", "parent_cert", "cosignatures"}
    if not isinstance(content, dict) or set(content) != fields:
        raise BlockInvalid("a block line is malformed", "use the original export")
    lists = (content["parent_cert"], content["cosignatures"])
    texts = [content["checkpoint"], content["signature"]]
    if not all(isinstance(lines, list) for lines in lists) or not all(
        isinstance(text, str) for text in (*texts, *lists[0], *lists[1])
    ):
        raise BlockInvalid("a block line is malformed", "use the original export")
    header = Header.parse(canonical.dumps(content["header"]))
    entries = tuple(Entry(data) for data in islice(entry_lines, max(header.count, 0)))
    if len(entries) != header.count:
        raise BlockInvalid(
            f"entries.jsonl ends after {len(entries)} of this block's {header.count} entries",
            "use the original export",
        )
    block = Block(
        header, entries, Checkpoint.parse(texts[0]), texts[1], tuple(content["parent_cert"])
    )
    return block, content["cosignatures"]


def _lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.endswith(b"\n"):
            raise _invalid(f"{name} line {number} is torn: it has no end")
        yield line[:-1]


def _check_manifest(folder: Path, chain: Chain, verified: Verified) -> None:
    data = (folder / "manifest.json").read_bytes()
    _check_manifest_signature(
        data, (folder / "manifest.sig").read_bytes(), chain.coordinator[Role.RECORD]
    )
    manifest = canonical.loads(data)
    if not isinstance(manifest, dict):
        raise _invalid("manifest.json: malformed")
    expected = (chain.ledger, 0, verified.height, verified.entries)
    names = ("ledger", "first_height", "last_height", "entries")
    if tuple(manifest.get(name) for name in names) != expected:
        raise _invalid("manifest.json: its range or ledger is not that of the blocks")
    files = manifest.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise _invalid("manifest.json: it does not list exactly the files of an export")
    for name in FILES:
        hasher, size = sha256(), 0
        with (folder / name).open("rb") as file:
            while part := file.read(1 << 20):
                hasher.update(part)
                size += len(part)
        if files[name] != {"sha256": hasher.hexdigest(), "bytes": size}:
            raise _invalid(f"{name} differs from what the signed manifest lists")


def _check_manifest_signature(data: bytes, signature: bytes, key: PublicKey) -> None:
    try:
        canonical.loads(data)
        content = canonical.loads(signature)
        if (content["alg"], content["key"]) != (key.algorithm, key.key_id) or len(content) != 3:
            raise _invalid("manifest.sig: not a signature by the coordinator's record key")
        value = bytes.fromhex(content["sig"])
        if value.hex() != content["sig"]:
            raise _invalid("manifest.sig: not in its one exact form")
        key.verify(value, MANIFEST_DOMAIN + data)
    except CanonicalInvalid as error:
        raise _invalid(f"manifest.json or manifest.sig: {error.what}") from None
    except (TypeError, KeyError, ValueError):
        raise _invalid("manifest.sig: malformed") from None
    except ExportInvalid:
        raise
    except LedgerError:
        raise _invalid("manifest.json: the exporter's signature over it does not hold") from None


def _invalid(what: str) -> ExportInvalid:
    return ExportInvalid(
        what, "ask for the original export; a changed one cannot be repaired, only replaced"
    )
