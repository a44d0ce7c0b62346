"""Tables behind the charts and pages: records in, rows out. Nothing is fetched or drawn here.

Scores and Shapley values stand on the ledger in basis points of AUROC; here they are AUROC.
"""

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import pandas as pd

from ui.words import ABSENCE_REMEDY, ACCEPTED, MODELS, absence, gain, proof_outcome, proof_remedy

Json = dict[str, Any]
BASIS_POINTS = 10_000
LEARNER, OTHER, REJECTED = "learner", "accepted", "rejected"
ENDED = ("finished", "stopped")


def counted(results: Sequence[Json]) -> list[Json]:
    """The results of rounds that counted, without attempts that were repeated."""
    return [result for result in results if not result["again"]]


def running(jobs: Sequence[Json]) -> list[Json]:
    """Those of the jobs (newest first) that have not ended, in the order in which they run."""
    return [job for job in reversed(jobs) if job["state"] not in ENDED]


def proof_rows(results: Sequence[Json]) -> pd.DataFrame:
    """One row for each proof that was judged."""
    rows = [
        {
            "round": result["round"],
            "hospital": proof["institution"],
            "outcome": _outcome(result, proof),
            "reason": proof_outcome(proof["code"]),
            "score": auroc(proof["score"]),
            "shapley": auroc(proof["shapley"]),
        }
        for result in results
        for proof in result["proofs"]
    ]
    columns = ["round", "hospital", "outcome", "reason", "score", "shapley"]
    return pd.DataFrame(rows, columns=columns)


def credits_of(result: Json, hospital: str) -> int:
    """All credits that one round paid to a hospital: for learning, verdicts and the bonus."""
    learning = sum(p["credits"] for p in result["proofs"] if p["institution"] == hospital)
    fees = sum(f["credits"] for f in result["fees"] if f["institution"] == hospital)
    return int(learning + fees + (result["bonus"] if result["learner"] == hospital else 0))


def credit_rows(
    results: Sequence[Json], hospitals: Sequence[str], totals: Mapping[str, int]
) -> pd.DataFrame:
    """Credits of each round and their running sum, for each hospital.

    ``totals`` are those after the last of these rounds: what came before the first counts too.
    """
    rows, results = [], counted(results)
    for hospital in hospitals:
        earned = [credits_of(result, hospital) for result in results]
        before = max(0, totals.get(hospital, 0) - sum(earned))
        sums = list(accumulate(earned, initial=before))[1:]
        for result, own, total in zip(results, earned, sums, strict=True):
            rows.append(
                {"round": result["round"], "hospital": hospital, "earned": own, "total": total}
            )
    return pd.DataFrame(rows, columns=["round", "hospital", "earned", "total"])


def round_rows(results: Sequence[Json]) -> list[tuple[int, str, str, str, str, int, str]]:
    """One row for each attempt at a round, newest first."""
    rows = []
    for result in reversed(results):
        codes = [proof["code"] for proof in result["proofs"]]
        scores = {proof["institution"]: proof["score"] for proof in result["proofs"]}
        best = auroc(scores.get(result["learner"]))
        rows.append(
            (
                result["round"],
                f"{codes.count(ACCEPTED)} of {len(codes)}",
                ", ".join(a["institution"] for a in result["absent"]) or "nobody",
                result["learner"] or "none",
                "none" if best is None else f"{best:.2f}",
                result["minted"],
                _model(result),
            )
        )
    return rows


def trouble_rows(results: Sequence[Json]) -> list[tuple[str, str, str, str, str]]:
    """Why proofs were not accepted and who was absent: hospital, rounds, code, why, what to do."""
    rounds: dict[tuple[str, str, str, str], list[int]] = {}
    for result in results:
        for proof in result["proofs"]:
            if (code := proof["code"]) != ACCEPTED:
                reason = (proof["institution"], code, proof_outcome(code), proof_remedy(code))
                rounds.setdefault(reason, []).append(result["round"])
        for gone in result["absent"]:
            why = absence(gone["phase"], gone["code"])
            reason = (gone["institution"], gone["code"], why, ABSENCE_REMEDY)
            rounds.setdefault(reason, []).append(result["round"])
    return sorted(
        (who, spans(numbers), code, why, remedy)
        for (who, code, why, remedy), numbers in rounds.items()
    )


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, some of them repeated, as spans: ``1–3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number - runs[-1][-1] in (0, 1):
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if r[-1] > r[0] else str(r[0]) for r in runs)


def spend_rows(spends: Sequence[Json]) -> pd.DataFrame:
    """One row for each reveal of a job, in ledger order: the cohort's epsilon after it.

    ``step`` counts attempts at rounds, so that a repeated one has a place of its own.
    """
    places = sorted({(spend["round"], spend["attempt"]) for spend in spends})
    step = {place: number for number, place in enumerate(places, start=1)}
    rows = [
        {
            "step": step[spend["round"], spend["attempt"]],
            "round": spend["round"],
            "hospital": spend["institution"],
            "epsilon": float(spend["epsilon"]),
            "delta": spend["delta"],
            "noise": spend["noise_multiplier"],
        }
        for spend in spends
    ]
    return pd.DataFrame(rows, columns=["step", "round", "hospital", "epsilon", "delta", "noise"])


def estimate_rows(evaluations: Sequence[Json], measure: str) -> pd.DataFrame:
    """One row for each hospital and model of which a measure was released."""
    named = {measure, "majority"} if measure == "accuracy" else {measure}
    rows = [
        {
            "hospital": evaluation["institution"],
            "model": MODELS[estimate["model"]],
            "value": estimate["value"],
            "low": estimate["low"] if estimate["low"] is not None else estimate["value"],
            "high": estimate["high"] if estimate["high"] is not None else estimate["value"],
        }
        for evaluation in evaluations
        for estimate in evaluation["estimates"]
        if estimate["measure"] in named and estimate["value"] is not None
    ]
    return pd.DataFrame(rows, columns=["hospital", "model", "value", "low", "high"])


def gain_rows(evaluations: Sequence[Json]) -> pd.DataFrame:
    """One row for each hospital that let its gain out, in cases of 100."""
    rows = [
        {"hospital": evaluation["institution"], "says": gain(evaluation)}
        | {name: round(100 * evaluation["gain"][name]) for name in ("value", "low", "high")}
        for evaluation in evaluations
        if evaluation["gain"] is not None
    ]
    return pd.DataFrame(rows, columns=["hospital", "says", "value", "low", "high"])


def auroc(basis_points: int | None) -> float | None:
    """Basis points as a fraction of 1."""
    return None if basis_points is None else basis_points / BASIS_POINTS


def _outcome(result: Json, proof: Json) -> str:
    if proof["code"] != ACCEPTED:
        return REJECTED
    return LEARNER if result["learner"] == proof["institution"] else OTHER


def _model(result: Json) -> str:
    if result["again"]:
        return "unchanged (tried again)"
    return "unchanged (void)" if result["void"] else str(result["model_after"][:16])
