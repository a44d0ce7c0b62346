"""Models: how proofs scored, what a job released, and how that does on test patients."""

import streamlit as st

from ui.api_client import ApiError, Json
from ui.attempts import opened
from ui.charts import estimate_chart, gain_chart, score_chart
from ui.figures import estimate_rows, gain_rows, proof_rows
from ui.markup import Cell, Html, Tone, chip, download, facts, mono, notice, put, small, table
from ui.reader import Reader
from ui.views.job_choice import choose_job, shown_rounds
from ui.words import GAIN, MODELS, MODELS_FOR, NO_MODEL, NOT_YET, gain, when

_MEASURES = {
    "auroc": ("AUROC", "How well the model ranks: .5 is chance, 1 is perfect."),
    "accuracy": (
        "Accuracy",
        "The share of patients told right at probability one half. Majority: always the more "
        "frequent outcome.",
    ),
    "sensitivity": ("Sensitivity", "The share of the sick that are found."),
    "specificity": ("Specificity", "The share of the well that are told so."),
    "calibration": (
        "Calibration error",
        "How far predicted probabilities lie from what happened, over five bins: 0 is best.",
    ),
}


def show() -> None:
    """Draws the page."""
    reader = opened("Models", "How good a job's model became, and the model itself.")
    job = choose_job(reader)
    if job is None:
        return
    _scores(reader, job)
    _released(reader, job)
    found = reader.evaluations(job["job"])
    _gains(found)
    _tests(job, found)


def _scores(reader: Reader, job: Json) -> None:
    st.header("Score over the rounds")
    results = reader.results(job["job"])
    proofs = proof_rows(results)
    if proofs["score"].notna().any():
        st.altair_chart(score_chart(proofs, job["participants"]), width="stretch")
    else:
        put(
            notice(
                "No score yet.",
                "A score needs a finished round, and another hospital with at least five "
                f"validation patients of either class. {NOT_YET}",
            )
        )
    put(
        shown_rounds(job, results),
        small(
            "A proof's score is the lower median of what the other hospitals measured: the AUROC "
            "of this hospital's update on their own validation patients, banded to .02. It is "
            "neither the global model's score nor a test result. Who abstains is left out, and so "
            "is a proof that was rejected before it was scored. Equal scores lie inside one "
            "another; a hollow diamond is the round's learner."
        ),
    )


def _released(reader: Reader, job: Json) -> None:
    st.header("Released model")
    model = job["model"]
    if model is None:
        put(notice("Not released yet.", f"A job releases its model when it ends. {NOT_YET}"))
        return
    name, ended = f"{job['job']}-{model[:12]}", job["ended"]
    may = reader.me["role"] in MODELS_FOR
    put(
        facts(
            {
                "Model hash": mono(model),
                "Released": f"{when(ended['time'])} UTC, in block {ended['height']:,}",
            }
        ),
        small(
            "The hash covers names, types, shapes and values of the weights and stands on the "
            "ledger; it is not the SHA-256 of the file."
        ),
        Html("<p>"),
        download("Weights (safetensors)", f"/download/model/{model}/{name}.safetensors", True)
        if may
        else Html(""),
        download("For any runtime (ONNX)", f"/download/onnx/{model}/{name}.onnx")
        if may
        else Html(""),
        download("Model card", f"/download/card/{model}/{name}.md"),
        Html("</p>"),
        Html("") if may else notice("Weights:", NO_MODEL, symbol="lock"),
    )
    with st.expander("Read the model card"):
        try:
            st.markdown(reader.card(model).replace("\n# ", "\n### ").replace("\n## ", "\n#### "))
        except ApiError as error:
            if error.passing or error.signed_out:
                raise
            put(notice("No card:", f"{error.what}. {error.resolve}."))


def _gains(found: list[Json]) -> None:
    if not found:
        return
    st.header("What each hospital gains")
    rows = gain_rows(found)
    if not rows.empty:
        st.altair_chart(gain_chart(rows), width="stretch")
    put(
        table(
            "What each hospital gains",
            ("Hospital", "On its test patients", "Of 100 cases (95 % interval)"),
            [(one["institution"], gain(one), _cases(one["gain"])) for one in found],
        ),
        small(GAIN),
    )


def _cases(found: Json | None) -> Cell:
    if found is None:
        return chip("not released", Tone.QUIET, "visibility_off")
    value, low, high = (
        f"{cases:+d}" if (cases := round(100 * found[name])) else "0"
        for name in ("value", "low", "high")
    )
    return f"{value} ({low} to {high})"


def _tests(job: Json, found: list[Json]) -> None:
    st.header("On each hospital's test patients")
    if not found:
        put(
            notice(
                "Not released yet.",
                "When a job has ended, each hospital evaluates the model on test patients that no "
                "round has seen, once, and lets out banded numbers. "
                f"{NOT_YET if job['model'] else ''}",
            )
        )
    else:
        measure = st.segmented_control(
            "Measure", list(_MEASURES), format_func=lambda m: _MEASURES[m][0], default="auroc"
        )
        measure = measure or "auroc"
        rows = estimate_rows(found, measure)
        title, meaning = _MEASURES[measure]
        if rows.empty:
            put(
                notice(
                    "Not released.",
                    "No hospital has enough test patients of each class for this measure.",
                )
            )
        else:
            st.altair_chart(estimate_chart(rows, title), width="stretch")
        put(small(meaning), _table(found, measure))
        missing = sorted(set(job["participants"]) - {one["institution"] for one in found})
        if missing:
            put(small(f"Nothing released by: {', '.join(missing)}."))
    put(
        small(
            "Numbers are rounded to bands by each hospital's release gate, and hospitals say only "
            "in which band their numbers of test patients lie. Intervals (95 %) are derived from "
            "that and hold for any number in the band. Nobody else can check a hospital's own "
            "numbers; that they passed the gate everybody can. Own calibration: the hospital's own "
            "slope and intercept on top of the model's logit, from patients that are not its test "
            "patients; they do not leave. It ranks patients as the model does."
        ),
        facts(
            {
                "Pooled": "Not available: data may not be pooled. Only a simulation can.",
                "Groups (age, sex)": "Not released in this version.",
            }
        ),
    )


def _table(found: list[Json], measure: str) -> Html:
    def cell(one: Json, model: str) -> Cell:
        name = "majority" if model == "majority" else measure
        for estimate in one["estimates"]:
            if (estimate["model"], estimate["measure"]) == (model, name):
                return _estimate(estimate)
        return None

    models = [m for m in MODELS if m != "majority" or measure == "accuracy"]
    names = [f"{MODELS[m][0].upper()}{MODELS[m][1:]}" for m in models]
    return table(
        "Test results by hospital",
        ("Hospital", "Test patients with, without", *names),
        [
            (
                one["institution"],
                "not said: with noise"
                if one["noised"]
                else f"{_size(one['positives'])}, {_size(one['negatives'])}",
                *(cell(one, model) for model in models),
            )
            for one in found
        ],
    )


def _estimate(estimate: Json) -> Cell:
    if estimate["value"] is None:
        return chip("not released", Tone.QUIET, "visibility_off")
    if estimate["low"] is None:
        return f"{estimate['value']:.2f}"
    return f"{estimate['value']:.2f} ({estimate['low']:.2f}–{estimate['high']:.2f})"


def _size(edge: int) -> str:
    return f"{edge} or more" if edge else "too few to say"
