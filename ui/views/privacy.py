"""Privacy: what each cohort has spent, what a next job would cost, and what an epsilon covers."""

import streamlit as st

from ui.api_client import ApiError, Json
from ui.attempts import opened
from ui.charts import epsilon_chart
from ui.figures import spend_rows
from ui.markup import Html, Tone, bullets, html, metrics, mono, notice, put, small, table
from ui.reader import SPENDS_SHOWN, Reader
from ui.words import (
    BUDGET_NOT_HERE,
    EPSILON_COVERS,
    EPSILON_DOES_NOT_COVER,
    NO_JOB,
    NOT_YET,
    WHO_SEES,
)

_DEFAULT_ROUNDS = 10
_ASKED = "mp_forecast"


def show() -> None:
    """Draws the page."""
    reader = opened("Privacy", "What was spent, what a next job would cost, what that covers.")
    jobs = reader.jobs()
    if not jobs:
        put(notice("Nothing spent yet: there was no job.", f"{NO_JOB} {NOT_YET}"))
        _meaning()
        return
    task = str(
        st.selectbox(
            "Task",
            list(dict.fromkeys(job["task"] for job in jobs)),
            help="A hospital keeps one cohort, and one budget, for each task.",
        )
    )
    own = [job for job in jobs if job["task"] == task]
    _spent(reader, task)
    _by_round(reader, own)
    _forecast(reader, task, own[0])
    _meaning()


def _spent(reader: Reader, task: str) -> None:
    st.header("Spent so far")
    found = reader.spendings(task)
    if not found:
        put(
            notice(
                "Nothing spent yet.",
                f"Privacy is charged when a hospital reveals an update. {NOT_YET}",
            )
        )
        return
    largest = max(float(one["epsilon"]) for one in found)
    put(
        metrics(
            [
                ("Cohorts", len(found)),
                ("Largest epsilon", f"{largest:.3f}", "of one cohort, over its lifetime"),
                ("Reveals", sum(one["reveals"] for one in found)),
            ]
        ),
        table(
            "Epsilon by cohort",
            ("Hospital", "Epsilon", "Delta", "Reveals", "Newest job", "Agreed for it", "Cohort"),
            [
                (
                    one["institution"],
                    f"{float(one['epsilon']):.3f}",
                    one["delta"],
                    one["reveals"],
                    one["jobs"][-1]["job"],
                    str(one["jobs"][-1]["agreed"]),
                    mono(one["cohort"], 8),
                )
                for one in found
            ],
            ("Epsilon", "Delta", "Reveals", "Agreed for it"),
        ),
        small(
            "Each round's cost is recomputed from the contract's terms by every validator. The "
            "total over earlier rounds, and epsilon from it, is what the hospital's own budget "
            "declares."
        ),
        Html("<br>"),
        notice("What is left?", BUDGET_NOT_HERE, symbol="savings"),
    )


def _by_round(reader: Reader, jobs: list[Json]) -> None:
    st.header("Epsilon after each round")
    name = str(st.selectbox("Job", [job["job"] for job in jobs], help="The newest stands first."))
    spends = spend_rows(reader.spends(name))
    if spends.empty:
        put(notice("No reveal in this job yet.", NOT_YET))
        return
    hospitals = next(job["participants"] for job in jobs if job["job"] == name)
    st.altair_chart(epsilon_chart(spends, hospitals), width="stretch")
    shown = f" The newest {SPENDS_SHOWN} reveals." if len(spends) == SPENDS_SHOWN else ""
    put(
        small(
            "Over the cohort's lifetime, earlier jobs included. Equal lines lie inside one "
            "another. A reveal is spent whether or not its proof is accepted." + shown
        )
    )


def _forecast(reader: Reader, task: str, newest: Json) -> None:
    st.header("What a next job would cost")
    with st.form("forecast", border=True):
        epsilon_at, rounds_at, delta_at = st.columns(3)
        epsilon = epsilon_at.number_input(
            "Epsilon of the job", 0.01, 100.0, 1.0, 0.1, help="The most that a hospital spends."
        )
        rounds = rounds_at.number_input("Rounds", 1, 1000, newest["rounds"] or _DEFAULT_ROUNDS)
        delta = delta_at.selectbox("Delta", ("0.00001", "0.0001", "0.001"))
        asked = st.form_submit_button("Forecast", type="primary")
    if asked:
        st.session_state[_ASKED] = (task, f"{epsilon:.4f}", str(delta), int(rounds))
    terms = st.session_state.get(_ASKED)
    if terms is None or terms[0] != task:
        return
    try:
        forecast = reader.forecast(*terms)
    except ApiError as error:
        if error.passing or error.signed_out:
            raise
        put(notice("No forecast:", f"{error.what}. {error.resolve}.", Tone.WARN, "warning"))
        return
    if not forecast["costs"]:
        put(notice("Nobody has patients for this task.", "Hospitals offer a cohort first."))
        return
    put(
        table(
            "Forecast",
            ("Hospital", "Declared patients", "Epsilon now", "Epsilon after", "Noise multiplier"),
            [
                (
                    one["institution"],
                    one["declared_patients"],
                    f"{float(one['epsilon_before']):.3f}",
                    f"{float(one['epsilon_after']):.3f}",
                    f"{float(one['noise_multiplier']):.2f}",
                )
                for one in forecast["costs"]
            ],
            ("Declared patients", "Epsilon now", "Epsilon after", "Noise multiplier"),
        ),
        small(
            "By Gaussian differential privacy, which adds up exactly. Whether a hospital takes "
            "part is decided by its own policy and what is left of its budget."
        ),
    )


def _meaning() -> None:
    st.header("What epsilon covers")
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Covered")
        put(Html(f"<p>{html(EPSILON_COVERS)}</p>"))
        st.subheader("Who sees what")
        put(Html(f"<p>{html(WHO_SEES)}</p>"))
    with right:
        st.subheader("Not covered")
        put(
            bullets(EPSILON_DOES_NOT_COVER),
            Html(
                "<p>It holds if the hospital adds the noise it declares; no proof shows that.</p>"
            ),
        )
