"""Tables behind the pages: values of records in, data frames out. Nothing is fetched or drawn here.

Scores and Shapley values stand on the ledger in basis points of AUROC; here they are AUROC.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import pandas as pd

from ui.words import ABSENCE_REMEDY, ACCEPTED, absence, proof_outcome, proof_remedy

Json = dict[str, Any]
BASIS_POINTS = 10_000
LEARNER, OTHER, REJECTED = "learner", "accepted", "rejected"


def counted(results: Sequence[Json]) -> list[Json]:
    """The results of rounds that counted, without attempts that were repeated."""
    return [result for result in results if not result["again"]]


def rounds_done(results: Sequence[Json]) -> int:
    """How many rounds counted."""
    return len(counted(results))


def proof_rows(results: Sequence[Json]) -> pd.DataFrame:
    """One row for each proof that was judged."""
    rows = [
        {
            "round": result["round"],
            "hospital": proof["institution"],
            "outcome": _outcome(result, proof),
            "reason": proof_outcome(proof["code"]),
            "score": _auroc(proof["score"]),
            "shapley": _auroc(proof["shapley"]),
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


def credit_rows(results: Sequence[Json], hospitals: Sequence[str]) -> pd.DataFrame:
    """Credits of each round and their running sum, for each hospital."""
    rows, results = [], counted(results)
    for hospital in hospitals:
        earned = [credits_of(result, hospital) for result in results]
        for result, own, total in zip(results, earned, accumulate(earned), strict=True):
            rows.append(
                {"round": result["round"], "hospital": hospital, "earned": own, "total": total}
            )
    return pd.DataFrame(rows, columns=["round", "hospital", "earned", "total"])


def round_rows(results: Sequence[Json]) -> pd.DataFrame:
    """One row for each attempt at a round, newest first."""
    rows = []
    for result in reversed(results):
        codes = [proof["code"] for proof in result["proofs"]]
        scores = {proof["institution"]: proof["score"] for proof in result["proofs"]}
        best = _auroc(scores.get(result["learner"]))
        rows.append(
            {
                "Round": result["round"],
                "Proofs accepted": f"{codes.count(ACCEPTED)} of {len(codes)}",
                "Absent": ", ".join(a["institution"] for a in result["absent"]) or "nobody",
                "Learner": result["learner"] or "none",
                "Learner's score": "none" if best is None else f"{best:.2f}",
                "Credits": result["minted"],
                "Model": _model(result),
            }
        )
    return pd.DataFrame(rows)


def standing_rows(results: Sequence[Json], hospitals: Sequence[str]) -> pd.DataFrame:
    """One row for each hospital: how its proofs fared in a job."""
    rows = []
    for hospital in hospitals:
        codes = [p["code"] for r in results for p in r["proofs"] if p["institution"] == hospital]
        rows.append(
            {
                "Hospital": hospital,
                "Accepted": codes.count(ACCEPTED),
                "Rejected": len(codes) - codes.count(ACCEPTED),
                "Absent": sum(a["institution"] == hospital for r in results for a in r["absent"]),
                "Learner in": sum(r["learner"] == hospital for r in results),
                "Credits": sum(credits_of(r, hospital) for r in results),
            }
        )
    return pd.DataFrame(rows)


def trouble_rows(results: Sequence[Json]) -> pd.DataFrame:
    """Why proofs were not accepted and who was absent: a row for each hospital and reason."""
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
    rows = [(hospital, spans(numbers), *rest) for (hospital, *rest), numbers in rounds.items()]
    columns = ["Hospital", "Rounds", "Code", "Reason", "What to do"]
    return pd.DataFrame(sorted(rows), columns=columns)


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers, some of them repeated, as spans: ``1–3, 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number - runs[-1][-1] in (0, 1):
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{r[0]}–{r[-1]}" if r[-1] > r[0] else str(r[0]) for r in runs)


def spend_rows(jobs: Sequence[Json], proofs: Sequence[Json]) -> pd.DataFrame:
    """One row for each reveal of the jobs, in ledger order: the epsilon declared after it.

    ``step`` counts rounds over all the jobs, so that a cohort's jobs stand one after another.
    """
    names = [job["job"] for job in jobs]
    own = [proof for proof in proofs if proof["job"] in names]
    places = sorted({(names.index(p["job"]), p["round"], p["attempt"]) for p in own})
    step = {place: number for number, place in enumerate(places, start=1)}
    rows = [
        {
            "step": step[names.index(proof["job"]), proof["round"], proof["attempt"]],
            "job": proof["job"],
            "round": proof["round"],
            "hospital": proof["author"],
            "epsilon": float(proof["spend"]["epsilon"]),
            "delta": proof["spend"]["delta"],
            "noise": proof["spend"]["noise_multiplier"],
        }
        for proof in own
    ]
    columns = ["step", "job", "round", "hospital", "epsilon", "delta", "noise"]
    return pd.DataFrame(rows, columns=columns)


def _outcome(result: Json, proof: Json) -> str:
    if proof["code"] != ACCEPTED:
        return REJECTED
    return LEARNER if result["learner"] == proof["institution"] else OTHER


def _model(result: Json) -> str:
    if result["again"]:
        return "unchanged (tried again)"
    return "unchanged (void)" if result["void"] else str(result["model_after"][:16])


def _auroc(basis_points: int | None) -> float | None:
    return None if basis_points is None else basis_points / BASIS_POINTS
