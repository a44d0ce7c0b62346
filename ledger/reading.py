"""Reads the lines of an export, one block in memory at a time. Nothing is verified here."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from ledger import canonical
from ledger.block import Block, Header
from ledger.entry import Entry
from ledger.errors import BlockInvalid
from ledger.manifest import invalid
from ledger.note import Checkpoint

_LONGEST_LINE = 64 * 1024 * 1024
_FIELDS = {"header", "checkpoint", "signature", "parent_cert", "cosignatures"}


def read_blocks(folder: Path) -> Iterator[tuple[Block, list[str]]]:
    """An export's blocks, each with its cosignatures.

    Raises:
        LedgerError: if a line is torn or malformed, or entries are missing or too many.
    """
    with (
        (folder / "blocks.jsonl").open("rb") as blocks,
        (folder / "entries.jsonl").open("rb") as entries,
    ):
        entry_lines = lines(entries, "entries.jsonl")
        for line in lines(blocks, "blocks.jsonl"):
            yield _parse(line, entry_lines)
        if next(entry_lines, None) is not None:
            raise invalid("entries.jsonl goes on after the last block's entries")


def lines(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Lines without their newlines.

    Raises:
        ExportInvalid: if one has no end.
    """
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if not line.endswith(b"\n"):
            raise invalid(f"{name} line {number} is torn: it has no end")
        yield line[:-1]


def _parse(line: bytes, entry_lines: Iterator[bytes]) -> tuple[Block, list[str]]:
    content: Any = canonical.loads(line)
    if not isinstance(content, dict) or set(content) != _FIELDS:
        raise BlockInvalid("a block line is malformed", "use the original export")
    lists = (content["parent_cert"], content["cosignatures"])
    texts = [content["checkpoint"], content["signature"]]
    if not all(isinstance(lines, list) for lines in lists) or not all(
        isinstance(text, str) for text in (*texts, *lists[0], *lists[1])
    ):
        raise BlockInvalid("a block line is malformed", "use the original export")
    if content["cosignatures"] != sorted(content["cosignatures"]):
        raise BlockInvalid("the cosignatures are not sorted", "use the original export")
    header = Header.parse(canonical.dumps(content["header"]))
    entries = tuple(map(Entry, islice(entry_lines, max(header.count, 0))))
    if len(entries) != header.count:
        raise BlockInvalid(
            f"entries.jsonl ends after {len(entries)} of this block's {header.count} entries",
            "use the original export",
        )
    block = Block(
        header, entries, Checkpoint.parse(texts[0]), texts[1], tuple(content["parent_cert"])
    )
    return block, content["cosignatures"]
