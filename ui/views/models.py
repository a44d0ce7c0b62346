"""Models: how each proof of a job scored, and the model that the job released."""

import streamlit as st

from ui.charts import score_chart
from ui.figures import counted, proof_rows
from ui.snapshot import Json, Snapshot
from ui.views.job_choice import choose_job, hospitals_of


def show() -> None:
    """Draws the page."""
    st.title("Models")
    snapshot = Snapshot.take()
    job = choose_job(snapshot)
    if job is None:
        return
    results = snapshot.results(job["job"])
    st.subheader("Score of each hospital's proof")
    proofs = proof_rows(results)
    if proofs["score"].notna().any():
        st.altair_chart(score_chart(proofs, hospitals_of(job)), width="stretch")
    else:
        st.info(
            "**No score yet.** A score needs a finished round, and another hospital with at "
            "least five validation patients of either class.",
            icon=":material/info:",
        )
    st.caption(
        "A proof's score is the lower median of what the other hospitals measured: the AUROC of "
        "this hospital's update on their own validation patients, banded to .02. It is neither "
        "the global model's score nor a test result. An abstaining validator is left out, and "
        "so is a proof rejected before it was scored. Equal scores lie inside one another; a "
        "hollow diamond is the round's learner."
    )
    left, right = st.columns([2, 3], gap="medium")
    with left:
        st.subheader("Learner of each round")
        if rounds := counted(results)[::-1]:
            learners = {"Round": [r["round"] for r in rounds],
                        "Learner": [r["learner"] or "none" for r in rounds]}  # fmt: skip
            st.dataframe(learners, hide_index=True)
        else:
            st.info("**No round yet.**", icon=":material/info:")
    with right:
        _released(snapshot, job)


def _released(snapshot: Snapshot, job: Json) -> None:
    st.subheader("Released model")
    end = snapshot.ends.get(job["job"])
    if end is None:
        st.info(
            "**Not released yet.** A job releases its model when it ends.", icon=":material/info:"
        )
        return
    averaged = (
        f"It is the mean of the models of rounds {job['average_from']} to {end['rounds']}."
        if end["rounds"] >= job["average_from"]
        else "The job was stopped early: it is the newest model there was."
    )
    st.code(end["model"], language=None, wrap_lines=True)
    st.download_button(
        "Download as safetensors",
        snapshot.model(end["model"]),
        file_name=f"{job['job']}-{end['model'][:16]}.safetensors",
        mime="application/octet-stream",
        icon=":material/download:",
    )
    st.caption(
        f"{averaged} The hash above covers its weights (names, types, shapes, values) and stands "
        "on the ledger; it is not the SHA-256 of the file."
    )
