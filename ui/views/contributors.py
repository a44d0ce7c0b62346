"""Contributors: whose proofs were accepted, what each contributed, and what that earned."""

import csv
import io

import streamlit as st

from ui.api_client import Json
from ui.attempts import opened
from ui.charts import credit_chart, shapley_chart
from ui.figures import credit_rows, proof_rows, round_rows, trouble_rows
from ui.markup import bullets, joined, metrics, mono, notice, put, small, table
from ui.reader import Reader
from ui.views.job_choice import choose_job, shown_rounds
from ui.words import CLAIMED, NOT_CLAIMED, NOT_YET

_LINE = ("job", "task", "accepted", "rejected", "absent", "learner", "learning", "verdicts",
         "bonus", "credits")  # fmt: skip


def show() -> None:
    """Draws the page."""
    reader = opened("Contributors", "Whose proofs counted, why others did not, who earned what.")
    job = choose_job(reader)
    if job is not None:
        results = reader.results(job["job"])
        if results:
            _standing(reader, job, results)
            _charts(reader, job, results)
            _rounds(job, results)
        else:
            put(notice("No round yet.", f"Contributions come with the first result. {NOT_YET}"))
    _statement(reader)
    _claims()


def _standing(reader: Reader, job: Json, results: list[Json]) -> None:
    st.header("Proofs")
    put(
        table(
            "Proofs by hospital",
            ("Hospital", "Accepted", "Rejected", "Absent", "Learner in", "Credits"),
            [
                (one["institution"], one["accepted"], one["rejected"], one["absent"],
                 one["learner"], one["credits"])
                for one in reader.credits(job["job"])
            ],
            ("Accepted", "Rejected", "Absent", "Learner in", "Credits"),
        )
    )  # fmt: skip
    troubles = trouble_rows(results)
    if not troubles:
        put(small("Every proof was accepted, and nobody was absent."))
        return
    st.subheader("Rejected or absent, and why")
    put(
        table(
            "Reasons",
            ("Hospital", "Rounds", "Reason", "What to do", "Code"),
            [(who, rounds, why, remedy, mono(code)) for who, rounds, code, why, remedy in troubles],
        ),
        shown_rounds(job, results),
    )


def _charts(reader: Reader, job: Json, results: list[Json]) -> None:
    hospitals = job["participants"]
    proofs = proof_rows(results)
    left, right = st.columns(2, gap="medium")
    with left:
        st.header("Contribution by round")
        if proofs["shapley"].notna().any():
            st.altair_chart(shapley_chart(proofs, hospitals), width="stretch")
        else:
            put(
                notice(
                    "No value yet.",
                    "A value needs another hospital with at least five validation patients of "
                    "either class.",
                )
            )
        put(
            small(
                "Shapley value: what the proof adds to the AUROC of the round's average, over all "
                "coalitions; the lower median of the other hospitals' values, each rounded to "
                ".0025. The medians can be recomputed from the ledger, the local values are "
                "attested."
            )
        )
    with right:
        st.header("Credits so far")
        totals = {one["institution"]: one["credits"] for one in reader.credits(job["job"])}
        st.altair_chart(
            credit_chart(credit_rows(results, hospitals, totals), hospitals), width="stretch"
        )
        policy = reader.membership["policy"]["credits"]
        put(
            small(
                f"A round pays {policy['pool']:,} credits: up to {policy['verdicts']:,} for "
                f"verdicts in time, {policy['learner_bonus']:,} to the learner, the rest by the "
                f"Shapley values of the last {policy['window']} rounds, negative sums counted as "
                "nothing."
            )
        )


def _rounds(job: Json, results: list[Json]) -> None:
    with st.expander(f"Every round of {job['job']}"):
        put(
            table(
                "Rounds",
                ("Round", "Accepted", "Absent", "Learner", "Learner's score", "Credits", "Model"),
                [
                    (*row[:-1], mono(row[-1], 12) if len(row[-1]) == 16 else row[-1])
                    for row in round_rows(results)
                ],
                ("Round", "Credits"),
            ),
            shown_rounds(job, results),
            small(
                "The learner is the accepted proof with the best score. It is named and earns a "
                "bonus; it does not order the ledger."
            ),
        )


def _statement(reader: Reader) -> None:
    st.header("Statement of one hospital")
    names = [str(one["id"]) for one in reader.institutions()]
    if not names:
        return
    name = st.selectbox("Hospital", names, help="Over all jobs, up to the newest block.")
    statement = reader.statement(name)
    put(
        metrics(
            [
                ("Credits", statement["credits"], f"up to block {statement['height']:,}"),
                ("Proofs accepted", sum(line["accepted"] for line in statement["lines"])),
                ("Rejected", sum(line["rejected"] for line in statement["lines"])),
                ("Absent", sum(line["absent"] for line in statement["lines"])),
            ]
        )
    )
    if not statement["lines"]:
        put(notice("Nothing yet:", f"{name} has taken part in no round. {NOT_YET}"))
        return
    put(
        table(
            f"Statement of {name}",
            ("Job", "Accepted", "Rejected", "Absent", "Learning", "Verdicts", "Bonus", "Credits"),
            [
                (line["job"], line["accepted"], line["rejected"], line["absent"],
                 line["learning"], line["verdicts"], line["bonus"], line["credits"])
                for line in statement["lines"][-50:][::-1]
            ],
            ("Accepted", "Rejected", "Absent", "Learning", "Verdicts", "Bonus", "Credits"),
        )
    )  # fmt: skip
    st.download_button(
        "Statement as CSV",
        statement_csv(statement),
        file_name=f"statement-{name}-block-{statement['height']}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )
    put(
        small(
            joined(
                "Every line can be recomputed from the ledger, up to the block ",
                mono(statement["hash"], 16),
                ". The newest 50 jobs are shown, the file has all.",
            )
        )
    )


def statement_csv(statement: Json) -> str:
    """A statement as a table for a spreadsheet."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("institution", "height", "hash", *_LINE))
    for line in statement["lines"]:
        place = (statement["institution"], statement["height"], statement["hash"])
        writer.writerow((*place, *(line[name] for name in _LINE)))
    return out.getvalue()


def _claims() -> None:
    st.header("What an accepted proof says")
    left, right = st.columns(2, gap="medium")
    with left:
        st.subheader("Claimed and checked: the update is")
        put(bullets(CLAIMED))
    with right:
        st.subheader("Not claimed")
        put(bullets(NOT_CLAIMED))
