"""One record of the ledger as it stands, and its proof, verified here step by step."""

import streamlit as st

from ledger.verifier import Failure
from ui import proving
from ui.api_client import ApiError, Json
from ui.markup import Html, Tone, chip, facts, html, link, mono, notice, put, small
from ui.reader import Reader
from ui.words import when


def draw(reader: Reader, found: Json, told: str | None) -> None:
    """Draws what a search has found; ``told`` is the fingerprint the reader was told."""
    index = int(found["index"])
    leaf = reader.record(index)
    body = leaf["entry"].get("body", leaf["entry"])
    about = {
        "Index": index,
        "Block": leaf["height"],
        "Type": str(body["type"]),
        "Author": body.get("author"),
        "Job": link(body["job"], f"/models?job={body['job']}") if body.get("job") else None,
        "Leaf hash": mono(leaf["leaf"]),
    }
    st.subheader(f"Record {index:,}" if body["type"] != "block" else f"Block {leaf['height']:,}")
    put(facts({name: value for name, value in about.items() if value is not None}))
    with st.expander("The record as it is signed"):
        st.json(leaf["entry"], expanded=2)
    if body["type"] == "block":
        put(
            facts({"Time": f"{when(body['time'])} UTC", "Records": body["count"]}),
            notice(
                "This leaf is a block's own header.",
                "Proofs are of records; each carries the header and cosignatures of a block.",
            ),
        )
        return
    _proof(reader, index, told)


def _proof(reader: Reader, index: int, told: str | None) -> None:
    st.subheader("Is it really on the ledger?")
    try:
        text = reader.proof(index)
    except ApiError as error:
        if error.passing or error.signed_out:
            raise
        put(notice("Not provable yet:", f"{error.what}. It will be once its block is final."))
        return
    try:
        found = proving.verify(text, told)
    except Failure as failure:
        put(
            notice(
                "The proof does NOT hold.",
                f"{failure.what}. {failure.resolve or 'Keep the file, and tell the members'}.",
                Tone.BAD,
                "gpp_bad",
            ),
            small(f"Code: {failure.code}"),
        )
        _file(text, index)
        return
    if found.pinned:
        put(chip("verified against the fingerprint that you were told", Tone.GOOD, "verified"))
    else:
        put(
            chip("consistent, but not compared", Tone.WARN, "verified"),
            small(
                "All steps hold. Whether this is the ledger that you mean only the fingerprint "
                "tells: paste above what a member told you."
            ),
        )
    if found.members == 1 or len(found.cosigners) == 1:
        put(notice("No independent witness:", "one institution co-signed alone.", Tone.WARN))
    put(
        Html(
            '<ol class="mp-proof">'
            + "".join(
                f"<li>{_mark(number == len(found.steps) and not found.pinned)}<div>"
                f"<b>{number}. {html(step.title)}</b>"
                f"<p>{', '.join(_value(value) for value in step.values)}</p></div></li>"
                for number, step in enumerate(found.steps, 1)
            )
            + "</ol>"
        ),
        small(
            "Computed in this portal just now, from the proof file alone, by the single-file "
            "verifier. A server that lies could show you anything: run the same on your own "
            "machine, with the file below."
        ),
    )
    _file(text, index)
    st.code(
        f"python -I verify.py record-{index}.tlog-proof --genesis {reader.head['ledger']}",
        language="bash",
        wrap_lines=True,
    )


def _mark(open_: bool) -> Html:
    tone, symbol = (Tone.WARN, "help") if open_ else (Tone.GOOD, "check_circle")
    return Html(f'<span class="mp-icon mp-{tone}" aria-hidden="true">{symbol}</span>')


def _value(value: str) -> Html:
    return mono(value) if len(value) == 64 else html(value)


def _file(text: str, index: int) -> None:
    st.download_button(
        "Proof file",
        text,
        file_name=f"record-{index}.tlog-proof",
        mime="text/plain",
        icon=":material/download:",
        on_click="ignore",
    )
