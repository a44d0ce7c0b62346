"""How an export's entries are rendered to read: ``entries.csv`` and ``report.html``.

Verification renders them anew and compares, so that a rendering cannot say anything else than the
signed entries do.
"""

from pathlib import Path
from typing import Any

from ledger.block import Header
from ledger.chain import Chain
from ledger.entry import Entry
from ledger.reading import read_blocks
from ledger.report import Tally, html

COLUMNS = ("index", "height", "type", "author", "job", "round", "code", "leaf_hash")


def row(header: Header, position: int, entry: Entry) -> bytes:
    """The row of a block's entry, as it stands in the file."""
    record = entry.record
    return line(
        header.first + position, header.height, record.type, record.author,
        getattr(record, "job", ""), getattr(record, "round", ""), getattr(record, "code", ""),
        entry.leaf.hex(),
    )  # fmt: skip


def line(*values: Any) -> bytes:
    """A row as it stands in the file. No value needs quoting: the records' forms see to that."""
    return (",".join(map(str, values)) + "\n").encode()


def write_renderings(folder: Path, chain: Chain, first: int) -> None:
    """Writes both, from the lines that an export has already.

    ``chain`` is the state after its last block, ``first`` the height of its first.
    """
    tally = Tally()
    with (folder / "entries.csv").open("wb") as file:
        file.write(line(*COLUMNS))
        for block, _ in read_blocks(folder):
            for position, entry in enumerate(block.entries):
                file.write(row(block.header, position, entry))
                tally.add(block.header, entry)
    (folder / "report.html").write_bytes(html(chain, tally, first))
