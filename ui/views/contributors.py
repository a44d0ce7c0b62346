"""Contributors: whose proofs were accepted, what each contributed, and what that earned."""

import streamlit as st

from ui.charts import credit_chart, shapley_chart
from ui.figures import credit_rows, proof_rows, standing_rows, trouble_rows
from ui.snapshot import Snapshot
from ui.views.job_choice import choose_job, hospitals_of
from ui.views.overview import CREDITS_COLUMN
from ui.words import CLAIMED, NOT_CLAIMED


def show() -> None:
    """Draws the page."""
    st.title("Contributors")
    snapshot = Snapshot.take()
    job = choose_job(snapshot)
    if job is None:
        return
    hospitals, results = hospitals_of(job), snapshot.results(job["job"])
    if not results:
        st.info(
            "**No round yet.** Contributions appear with the job's first result.",
            icon=":material/info:",
        )
        _claims()
        return
    st.subheader("Proofs")
    st.dataframe(standing_rows(results, hospitals), hide_index=True, column_config=CREDITS_COLUMN)
    troubles = trouble_rows(results)
    if troubles.empty:
        st.caption("Every proof was accepted, and nobody was absent.")
    else:
        st.markdown("**Rejected or absent, and why**")
        st.table(troubles.set_index("Hospital"))  # a table wraps long reasons, a data frame cuts
    proofs = proof_rows(results)
    left, right = st.columns(2)
    with left:
        st.subheader("Contribution by round")
        if proofs["shapley"].notna().any():
            st.altair_chart(shapley_chart(proofs, hospitals), width="stretch")
        else:
            st.info(
                "**No value yet.** A value needs another hospital with at least five validation "
                "patients of either class.",
                icon=":material/info:",
            )
        st.caption(
            "Shapley value: what the proof adds to the AUROC of the round's average, over all "
            "coalitions; the lower median of the other hospitals' values, each rounded to .0025. "
            "The medians can be recomputed from the ledger, the local values are attested."
        )
    with right:
        st.subheader("Credits so far")
        st.altair_chart(credit_chart(credit_rows(results, hospitals), hospitals), width="stretch")
        policy = snapshot.genesis["policy"]["credits"]
        st.caption(
            f"A round pays {policy['pool']:,} credits: up to {policy['verdicts']:,} for verdicts "
            f"in time, {policy['learner_bonus']:,} to the learner, the rest by the Shapley values "
            f"of the last {policy['window']} rounds, negative sums counted as nothing."
        )
    _claims()


def _claims() -> None:
    st.subheader("What an accepted proof says")
    left, right = st.columns(2)
    with left:
        st.markdown("**Claimed and checked:** the update is")
        st.markdown("\n".join(f"- {claim}" for claim in CLAIMED))
    with right:
        st.markdown("**Not claimed:**")
        st.markdown("\n".join(f"- {claim}" for claim in NOT_CLAIMED))
