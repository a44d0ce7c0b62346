"""Ledger: the blocks, the genesis fingerprint to compare, and any record as it stands."""

import re

import pandas as pd
import streamlit as st

from ui.api_client import BLOCKS_AT_ONCE
from ui.snapshot import Json, Snapshot
from ui.words import short, when

SHORTEST_PREFIX = 6
MOST_PAGES_SEARCHED = 10


def show() -> None:
    """Draws the page."""
    st.title("Ledger")
    snapshot = Snapshot.take()
    st.subheader("Genesis fingerprint")
    st.code(snapshot.head["ledger"], language=None)
    st.caption(
        "Compare it with what another member told you, by phone or on paper: it names this ledger "
        "and no other. This page shows what the coordinator's API says and verifies nothing. To "
        "verify without trusting the coordinator: `consortium ledger export`, then "
        "`consortium ledger verify FOLDER --genesis FINGERPRINT`."
    )
    st.subheader("Find a record")
    text = st.text_input(
        "Index, or the beginning of a block's or record's hash",
        placeholder="0, or 6 or more hexadecimal digits",
    )
    if text.strip():
        _find(snapshot, text.strip().lower())
    st.subheader("Blocks")
    _blocks(snapshot)


def _blocks(snapshot: Snapshot) -> None:
    height = int(snapshot.head["height"])
    pages = height // BLOCKS_AT_ONCE + 1
    page = 1
    if pages > 1:
        page = int(st.number_input("Page, newest first", 1, pages, 1))
    blocks = _page(snapshot, page - 1)
    st.dataframe(
        pd.DataFrame(
            {
                "Height": block["height"],
                "Time (UTC)": when(block["time"]),
                "About": _about(block),
                "Records": block["entries"],
                "First index": block["first"],
                "Co-signed by": _cosigners(snapshot, block),
                "Hash": short(block["hash"]),
            }
            for block in blocks
        ),
        hide_index=True,
    )
    st.caption(f"A block is final with {snapshot.head['quorum']} cosignatures.")


def _page(snapshot: Snapshot, page: int) -> list[Json]:
    """A page of blocks, newest first."""
    last = int(snapshot.head["height"]) - page * BLOCKS_AT_ONCE
    first = max(0, last - BLOCKS_AT_ONCE + 1)
    return snapshot.blocks(first, last - first + 1)[::-1]


def _cosigners(snapshot: Snapshot, block: Json) -> str:
    names = block["cosigners"]
    if len(names) == len(snapshot.members):
        return f"all {len(names)} members"
    return f"{len(names)}: {', '.join(names)}" if names else "nobody yet"


def _about(block: Json) -> str:
    if block["type"] == "result":
        return f"{block['job']}, round {block['round']}"
    if block["type"] in ("job", "job-end"):
        return f"{block['job']}, {'contract' if block['type'] == 'job' else 'end'}"
    return str(block["type"])


def _find(snapshot: Snapshot, text: str) -> None:
    if text.isdecimal() and int(text) < snapshot.leaves:
        _show_record(snapshot, int(text))
        return
    if not re.fullmatch(rf"[0-9a-f]{{{SHORTEST_PREFIX},64}}", text):
        st.info(
            f"**Nothing has this name.** Type an index from 0 to {snapshot.leaves - 1:,}, or at "
            f"least {SHORTEST_PREFIX} hexadecimal digits of a hash.",
            icon=":material/info:",
        )
        return
    pages = min(MOST_PAGES_SEARCHED, int(snapshot.head["height"]) // BLOCKS_AT_ONCE + 1)
    for page in range(pages):
        for block in _page(snapshot, page):
            # A block's own record is its header, the leaf after its entries.
            hashes = [*block["leaves"], block["hash"]]
            for position, name in enumerate(hashes):
                if name.startswith(text):
                    _show_record(snapshot, block["first"] + position)
                    return
    st.info(
        f"**No hash begins like this** in the newest {pages * BLOCKS_AT_ONCE:,} blocks. Hashes of "
        "blocks and records are searched, not those of models or updates.",
        icon=":material/info:",
    )


def _show_record(snapshot: Snapshot, index: int) -> None:
    found = snapshot.api.record(index)
    st.markdown(f"Record **{found['index']:,}**, in block {found['height']:,}. Its leaf hash:")
    st.code(found["leaf"], language=None)
    st.json(found["entry"], expanded=2)
