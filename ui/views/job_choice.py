"""The choice of a job, which several pages begin with."""

from collections.abc import Sequence

import streamlit as st

from ui.api_client import ApiError, Json
from ui.markup import Html, Tone, chip, joined, notice, put, small
from ui.reader import JOBS_SHOWN, Reader
from ui.words import NO_JOB, NOT_YET, STATES

_CHOSEN = "mp_job"
_TONES = {
    "finished": Tone.GOOD, "running": Tone.BUSY, "submitted": Tone.QUIET, "stopping": Tone.WARN,
    "waiting": Tone.WARN, "paused": Tone.BAD, "reconnecting": Tone.WARN, "stopped": Tone.WARN,
}  # fmt: skip
_SYMBOLS = {
    "waiting": "hourglass_top", "paused": "pause_circle", "stopped": "stop_circle",
    "stopping": "stop_circle", "reconnecting": "sync_problem",
}  # fmt: skip


def state_chip(state: str) -> Html:
    """A job's state."""
    return chip(state, _TONES.get(state, Tone.QUIET), _SYMBOLS.get(state))


def no_job() -> None:
    """Says that there is none, and what to do."""
    put(notice("No job yet.", f"{NO_JOB} {NOT_YET}"))


def choose_job(reader: Reader) -> Json | None:
    """The job chosen (the address may name one), the newest at first; None: there is none."""
    jobs = reader.jobs()
    if not jobs:
        no_job()
        return None
    names = [str(job["job"]) for job in jobs]
    wanted = st.query_params.get("job") or st.session_state.get(_CHOSEN)
    if wanted and wanted not in names:
        names.append(str(wanted))
    name = st.selectbox(
        "Job",
        names,
        index=names.index(wanted) if wanted else 0,
        accept_new_options=True,
        help=f"The {JOBS_SHOWN} newest, the newest first. Type the name of an older one.",
    )
    st.session_state[_CHOSEN] = name
    if "job" in st.query_params and st.query_params["job"] != name:
        st.query_params["job"] = str(name)
    try:
        job = next((j for j in jobs if j["job"] == name), None) or reader.job(str(name))["job"]
    except ApiError as error:
        if error.status not in (404, 422):
            raise
        put(notice(f"There is no job called {name}.", "Choose one of the list."))
        return None
    put(
        joined(
            state_chip(job["state"]),
            small(
                f"Task {job['task']}, {job['done']} of {job['rounds']} rounds, "
                f"{len(job['participants'])} hospitals, epsilon up to {job['epsilon']}. "
                + STATES.get(job["state"], "")
            ),
        )
    )
    return dict(job)


def shown_rounds(job: Json, results: Sequence[Json]) -> Html:
    """A word where not all rounds are shown."""
    if not results or results[0]["round"] <= 1:
        return Html("")
    return small(
        f"The newest {len(results)} results are shown, from round {results[0]['round']} on; "
        "totals count all. Older ones: on the Ledger page, or in an export."
    )
