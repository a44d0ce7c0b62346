"""The choice of a job, which several pages begin with."""

import streamlit as st

from ui.snapshot import Json, Snapshot
from ui.views.overview import NO_JOB


def choose_job(snapshot: Snapshot) -> Json | None:
    """The job chosen, the newest at first; None, with a word on what to do, if there is none."""
    jobs = snapshot.jobs
    if not jobs:
        st.info(NO_JOB, icon=":material/info:")
        return None
    names = [job["job"] for job in jobs]
    name = st.selectbox("Job", names, help="The newest job stands first.")
    job = next(job for job in jobs if job["job"] == name)
    st.caption(f"Task {job['task']}, {snapshot.status(job)}.")
    return job


def hospitals_of(job: Json) -> list[str]:
    """The institutions of a job, in its order."""
    return [str(participant["institution"]) for participant in job["participants"]]
