"""How an export's entries are rendered to read: one row of ``entries.csv`` each.

Verification renders them anew and compares, so that the rendering cannot say anything else than
the signed entries do.
"""

import csv
import io
from typing import Any

from ledger.block import Block

COLUMNS = ("index", "height", "type", "author", "job", "round", "code", "leaf_hash")


def row(block: Block, position: int) -> list[Any]:
    """The row of a block's entry."""
    entry = block.entries[position]
    body = entry.record.body()
    return [
        block.header.first + position, block.header.height, body["type"], body["author"],
        body.get("job", ""), body.get("round", ""), body.get("code", ""), entry.leaf.hex(),
    ]  # fmt: skip


def line(values: list[Any] | tuple[str, ...]) -> bytes:
    """A row as it stands in the file."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode()
