"""Privacy: what each hospital has declared to have spent, and what an epsilon covers."""

import pandas as pd
import streamlit as st

from ui.charts import epsilon_chart
from ui.figures import spend_rows
from ui.snapshot import Json, Snapshot
from ui.views.overview import NO_JOB
from ui.words import EPSILON_COVERS, EPSILON_DOES_NOT_COVER, WHO_SEES


def show() -> None:
    """Draws the page."""
    st.title("Privacy")
    snapshot = Snapshot.take()
    if not snapshot.jobs:
        st.info(NO_JOB, icon=":material/info:")
        _meaning()
        return
    task = st.selectbox(
        "Task",
        list(dict.fromkeys(job["task"] for job in snapshot.jobs)),
        help="A hospital keeps one cohort, and one budget, for each task.",
    )
    jobs = [job for job in reversed(snapshot.jobs) if job["task"] == task]
    proofs = [proof for job in jobs for proof in snapshot.proofs(job["job"])]
    spends = spend_rows(jobs, proofs)
    st.subheader("Epsilon after each round")
    if spends.empty:
        st.info(
            "**Nothing spent yet.** Privacy is charged when a hospital reveals an update.",
            icon=":material/info:",
        )
    else:
        hospitals = [member["id"] for member in snapshot.members]
        st.altair_chart(epsilon_chart(spends, hospitals), width="stretch")
        st.caption(
            "Equal lines lie inside one another. Rejected proofs count too: a reveal is spent "
            "whether or not it is accepted."
        )
        st.dataframe(
            _standing(spends, jobs),
            hide_index=True,
            column_config={"Epsilon so far": st.column_config.NumberColumn(format="%.3f")},
        )
        st.caption(
            "Each round's cost is recomputed from the contract's terms by every validator. The "
            "total over earlier rounds, and epsilon from it, is what the hospital's own budget "
            "declares. A hospital's lifetime limit is its own policy: it is not on the ledger; "
            "the hospital sees it with its own agent."
        )
    _meaning()


def _standing(spends: pd.DataFrame, jobs: list[Json]) -> pd.DataFrame:
    agreed = {p["institution"]: p["terms"]["epsilon"] for p in jobs[-1]["participants"]}
    return pd.DataFrame(
        {
            "Hospital": hospital,
            "Epsilon so far": own["epsilon"].iloc[-1],
            "Delta": own["delta"].iloc[-1],
            "Reveals": len(own),
            "Agreed for the newest job": agreed.get(str(hospital), "takes no part"),
        }
        for hospital, own in spends.groupby("hospital")
    )


def _meaning() -> None:
    st.subheader("What epsilon covers")
    left, right = st.columns(2)
    with left:
        st.markdown(f"**Covered.** {EPSILON_COVERS}")
        st.markdown(f"**Who sees what.** {WHO_SEES}")
    with right:
        st.markdown("**Not covered:**")
        st.markdown("\n".join(f"- {item}" for item in EPSILON_DOES_NOT_COVER))
        st.markdown("It holds if the hospital adds the noise it declares; no proof can show that.")
