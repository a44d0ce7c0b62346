"""Overview: the consortium, its jobs, and what needs somebody's attention."""

import pandas as pd
import streamlit as st

from ui.figures import counted, credits_of, round_rows, rounds_done
from ui.snapshot import Json, Snapshot
from ui.words import ACCEPTED, count, short, when

NO_JOB = (
    "**No job yet.** Stop the portal, run `consortium demo` with the same `--home`, and open the "
    "portal again."
)
CREDITS_COLUMN = {"Credits": st.column_config.NumberColumn(format="localized")}


def show() -> None:
    """Draws the page."""
    snapshot = Snapshot.take()
    st.title(snapshot.genesis["consortium"])
    head, jobs = snapshot.head, snapshot.jobs
    state = "final" if head["final"] else "not final yet"
    members, job_count, blocks, records = st.columns(4)
    members.metric("Members", len(snapshot.members))
    job_count.metric("Jobs", len(jobs))
    blocks.metric("Blocks", f"{head['height'] + 1:,}")
    records.metric("Records", f"{snapshot.records:,}")
    st.caption(
        f"Newest block {head['height']} of {when(head['time'])} UTC, {state}: co-signed by "
        f"{head['cosigned']} of {len(snapshot.members)} members, quorum {head['quorum']}."
    )
    st.subheader("Needs attention")
    troubles = attention(snapshot)
    for trouble in troubles:
        st.markdown(f"- {trouble}")
    if not troubles:
        st.markdown("Nothing on the ledger does.")
    st.subheader("Jobs")
    if not jobs:
        st.info(NO_JOB, icon=":material/info:")
    else:
        st.dataframe(_jobs(snapshot), hide_index=True)
        _rounds(snapshot, jobs[0])
    st.subheader("Members")
    st.dataframe(_members(snapshot), hide_index=True, column_config=CREDITS_COLUMN)


def attention(snapshot: Snapshot) -> list[str]:
    """What somebody should look at, from the records of the newest job."""
    found = []
    if len(snapshot.members) == 1:
        found.append("No independent witness: enrol a second institution.")
    if not snapshot.head["final"]:
        found.append("The newest block waits for cosignatures: ask the members' witnesses.")
    if not snapshot.jobs:
        return found
    job = snapshot.jobs[0]
    name, results = job["job"], snapshot.results(job["job"])
    end = snapshot.ends.get(name)
    rejected = sum(p["code"] != ACCEPTED for r in results for p in r["proofs"])
    absent = sum(len(result["absent"]) for result in results)
    void = sum(result["void"] for result in counted(results))
    again = len(results) - rounds_done(results)
    if end is not None and end["status"] == "stopped":
        found.append(
            f"{name} was stopped after {end['rounds']} of {count(job['rounds'], 'round')}."
        )
    if end is None:
        done = rounds_done(results)
        found.append(f"{name} has not ended: {done} of {count(job['rounds'], 'round')}.")
    if rejected:
        found.append(f"{name}: {count(rejected, 'proof')} rejected. See Contributors for why.")
    if absent:
        found.append(f"{name}: {count(absent, 'absence')}. See Contributors for who and when.")
    if void:
        found.append(f"{name}: {count(void, 'void round')}, which left the model unchanged.")
    if again:
        found.append(f"{name}: {count(again, 'attempt')} repeated, for too few took part.")
    return found


def _jobs(snapshot: Snapshot) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "Job": job["job"],
            "Task": job["task"],
            "Status": snapshot.status(job),
            "Hospitals": len(job["participants"]),
            "Epsilon agreed": ", ".join(
                sorted({p["terms"]["epsilon"] for p in job["participants"]})
            ),
            "Released model": short(end["model"])
            if (end := snapshot.ends.get(job["job"]))
            else "none yet",
        }
        for job in snapshot.jobs
    )


def _rounds(snapshot: Snapshot, job: Json) -> None:
    st.subheader(f"Rounds of {job['job']}")
    results = snapshot.results(job["job"])
    if not results:
        st.info(
            "**No round yet.** The contract is on the ledger; the first result comes when a round "
            "of the job is done.",
            icon=":material/info:",
        )
        return
    st.dataframe(round_rows(results), hide_index=True, column_config=CREDITS_COLUMN)
    st.caption(
        "The learner is the accepted proof with the best score. It is named and earns a bonus; "
        "it does not order the ledger."
    )


def _members(snapshot: Snapshot) -> pd.DataFrame:
    results = [result for job in snapshot.jobs for result in snapshot.results(job["job"])]
    return pd.DataFrame(
        {
            "Member": member["title"],
            "Id": member["id"],
            "Jobs": sum(
                participant["institution"] == member["id"]
                for job in snapshot.jobs
                for participant in job["participants"]
            ),
            "Credits": sum(credits_of(result, member["id"]) for result in results),
            "Record key": short(member["keys"]["record"]["public"]),
        }
        for member in snapshot.members
    )
