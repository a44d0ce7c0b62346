"""Ledger: blocks and who co-signed them, the fingerprint to compare, all of it to take along."""

import re

import streamlit as st

from ui.api_client import Json
from ui.attempts import opened
from ui.downloads import EXPORT, VERIFIER
from ui.markup import (
    Cell,
    Html,
    Tone,
    chip,
    download,
    link,
    metrics,
    mono,
    notice,
    put,
    small,
    table,
)
from ui.reader import Reader
from ui.views import record
from ui.words import when

BLOCKS_SHOWN = 25
_TRAIL, _TOLD = "mp_blocks", "mp_told"
_SEARCH = re.compile(r"[0-9]{1,15}|[0-9a-f]{6,64}")


def show() -> None:
    """Draws the page."""
    reader = opened("Ledger", "What was recorded, who signed for it, and how to check it yourself.")
    head = reader.head
    put(
        metrics(
            [
                ("Blocks", head["height"] + 1),
                ("Records", head["records"]),
                ("Quorum", f"{head['quorum']} of {head['members']}", "cosignatures, then final"),
                (
                    "Newest block",
                    chip("final", Tone.GOOD) if head["final"] else chip("pending", Tone.WARN),
                    f"co-signed by {head['cosigned']}",
                ),
            ]
        )
    )
    told = _fingerprint(str(head["ledger"]))
    _find(reader, told)
    _blocks(reader)
    _take_along(reader)


def _fingerprint(ledger: str) -> str | None:
    """The fingerprint that the reader was told, if it is this ledger's."""
    st.header("Genesis fingerprint")
    put(
        mono(ledger),
        small(
            "It names this ledger and no other: every key follows from it. Compare it with what a "
            "member told you, by telephone or on paper, not with what this server says."
        ),
    )
    text = st.text_input(
        "What you were told", key=_TOLD, placeholder="paste it here: 64 hexadecimal digits"
    )
    told = re.sub(r"[\s:-]", "", text).lower()
    if not told:
        return None
    if told == ledger:
        put(
            chip("equal", Tone.GOOD),
            small("This is the ledger you were told of. Proofs below are checked against it."),
        )
        return told
    if re.fullmatch(r"[0-9a-f]{64}", told):
        put(
            notice(
                "NOT equal.",
                "This server shows another ledger than the one you were told of. Trust nothing on "
                "these pages, and tell the members.",
                Tone.BAD,
                "gpp_bad",
            )
        )
    else:
        put(
            notice(
                "Not a fingerprint:",
                f"it has 64 hexadecimal digits, what you pasted has {len(told)} characters.",
                Tone.WARN,
                "warning",
            )
        )
    return None


def _find(reader: Reader, told: str | None) -> None:
    st.header("Find a record")
    asked = st.query_params.get("q", "")
    text = st.text_input(
        "Index, or how the hash of a record, block or released model begins",
        value=asked,
        placeholder="204, or 6 or more hexadecimal digits",
    )
    wanted = text.strip().lower().replace(",", "")
    if not wanted:
        return
    st.query_params["q"] = wanted
    leaves = reader.head["entries"] + 1
    if not _SEARCH.fullmatch(wanted):
        put(
            notice(
                "Nothing has this name.",
                f"Type an index from 0 to {leaves - 1:,}, or at least 6 hexadecimal digits.",
                Tone.WARN,
                "search_off",
            )
        )
        return
    found = reader.search(wanted)
    if not found:
        put(
            notice(
                "Not found.",
                f"There are indices from 0 to {leaves - 1:,}; hashes of records, blocks and "
                "released models are searched.",
                Tone.WARN,
                "search_off",
            )
        )
    elif len(found) == 1 or found[0]["hash"] == wanted:
        record.draw(reader, found[0], told)
    else:
        put(
            table(
                "Found",
                ("What", "Type", "Job", "Block", "Index", "Hash"),
                [
                    (
                        one["what"], one["type"], one["job"], one["height"],
                        link(f"{one['index']:,}", f"/ledger?q={one['hash'][:32]}"),
                        mono(one["hash"], 16),
                    )
                    for one in found
                ],
                ("Block", "Index"),
            ),
            small("The first 20 are shown: type more digits."),
        )  # fmt: skip


def _blocks(reader: Reader) -> None:
    st.header("Blocks")
    trail = st.session_state.setdefault(_TRAIL, [None])
    page = reader.blocks(trail[-1], BLOCKS_SHOWN)
    put(
        table(
            "Blocks, newest first",
            ("Block", "Time (UTC)", "About", "Records", "Co-signed by", "First record", "Hash"),
            [_row(block, reader.head) for block in page["items"]],
            ("Block", "Records"),
        )
    )
    newer, older, jump = st.columns([1, 1, 2], vertical_alignment="bottom")
    if newer.button("Newer", icon=":material/arrow_back:", disabled=len(trail) == 1,
                    width="stretch"):  # fmt: skip
        trail.pop()
        st.rerun()
    if older.button("Older", icon=":material/arrow_forward:", disabled=page["next"] is None,
                    width="stretch"):  # fmt: skip
        trail.append(page["next"])
        st.rerun()
    height = jump.number_input(
        "Go to block", 0, int(reader.head["height"]), None, placeholder="height"
    )
    if height is not None and st.session_state.get("mp_jumped") != height:
        st.session_state["mp_jumped"] = height
        st.session_state[_TRAIL] = [None, str(int(height) + 1)]
        st.rerun()


def _row(block: Json, head: Json) -> tuple[Cell, ...]:
    return (
        block["height"],
        when(block["time"]),
        _about(block),
        block["entries"],
        _cosigners(block, head),
        link(f"{block['first']:,}", f"/ledger?q={block['first']}"),
        mono(block["hash"], 12),
    )


def _cosigners(block: Json, head: Json) -> Cell:
    names = block["cosigners"]
    if block["height"] == head["height"] and not head["final"]:
        return chip(f"{len(names)} of {head['quorum']}", Tone.WARN, "pending")
    if len(names) == head["members"]:
        return chip(f"all {len(names)}", Tone.GOOD, "draw")
    return chip(f"{len(names)}: {', '.join(names)}", Tone.GOOD, "draw")


def _about(block: Json) -> str:
    if block["type"] == "result":
        return f"{block['job']}, round {block['round']}"
    if block["type"] in ("job", "job-end", "evaluation"):
        words = {"job": "contract", "job-end": "end", "evaluation": "test results"}
        return f"{block['job']}, {words[block['type']]}"
    return str(block["type"])


def _take_along(reader: Reader) -> None:
    st.header("Take it along and verify it")
    ledger = reader.head["ledger"]
    name = f"ledger-{ledger[:16]}-0-{reader.head['height']}.tar"
    put(
        Html("<p>"),
        download("Export of all final blocks (tar)", EXPORT, True),
        download("Single-file verifier (Python)", VERIFIER),
        Html("</p>"),
        small(
            "The export is the very one of `consortium ledger export --archive`, streamed. It is "
            "verified without trusting this server or its database, by the first line, or by the "
            "others with nothing but the one file, Python 3.11 and the package `cryptography`:"
        ),
    )
    st.code(
        f"consortium ledger verify {name} --genesis {ledger}\n"
        f"mkdir export && tar -xf {name} -C export\n"
        f"python -I verify.py export --genesis {ledger}",
        language="bash",
        wrap_lines=True,
    )
    put(
        small(
            "Give the fingerprint that a member told you; without it an export is only consistent "
            "with itself. The export's report.html is for reading and printing."
        )
    )
