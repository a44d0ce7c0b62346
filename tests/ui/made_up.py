"""A made-up ledger with every kind of round, in the API's forms, for pages without a server."""

from collections.abc import Mapping
from typing import Any

from ledger.records import parse_record
from ui.api_client import ApiError

HOSPITALS = ["north", "south", "west"]
LEDGER, MODEL = "a" * 64, "f" * 64
Json = dict[str, Any]


def record(type: str, author: str = "coordinator", **fields: Any) -> Json:
    body = {"v": 1, "type": type, "ledger": LEDGER, "author": author, **fields}
    return parse_record(body).body()


def outcome(hospital: str, code: str = "Accepted", score: int | None = 9600) -> Json:
    shapley = 125 if score is not None else None
    credits = 300 if code == "Accepted" else 0
    return {
        "institution": hospital, "code": code, "score": score, "shapley": shapley,
        "average": 250, "credits": credits,
    }  # fmt: skip


def result(round: int, proofs: list[Json], learner: str | None, **changed: Any) -> Json:
    fields = {
        "round": round, "attempt": 1, "base": "d" * 64, "digest": "e" * 64,
        "model_before": "c" * 64, "model_after": MODEL, "void": False, "again": False,
        "proofs": proofs, "fees": [{"institution": "north", "credits": 50}], "absent": [],
        "learner": learner, "bonus": 100 if learner else 0, "minted": 1000,
    }  # fmt: skip
    return record("result", job="job-1", **{**fields, **changed})


def results() -> list[Json]:
    return [
        result(1, [outcome(h) for h in HOSPITALS], "north"),
        result(
            2,
            [outcome("north"), outcome("south", "NearCopy", None)],
            "north",
            absent=[{"institution": "west", "phase": "reveal", "code": "NoAnswer"}],
        ),
        result(
            3,
            [outcome("north", "Harmful", 5200), outcome("south", "NearCopy", None)],
            None,
            void=True,
            fees=[],
            absent=[{"institution": "west", "phase": "train", "code": "BudgetExceeded"}],
        ),
    ]


def job(state: str = "stopped", **changed: Any) -> Json:
    ended = state in ("finished", "stopped")
    fields = {
        "job": "job-1", "task": "breast-cancer", "state": state, "done": 3, "rounds": 4,
        "participants": HOSPITALS, "epsilon": "1", "submitted": place(1),
        "ended": place(4) if ended else None, "model": MODEL if ended else None,
        "round": None if ended else 4, "attempt": None if ended else 2, "phase": "",
        "phase_ends": None, "reason": "", "institutions": {}, "absent": {}, "left_out": [],
        "rejected": 3, "absences": 2, "void": 1, "repeated": 2,
    }  # fmt: skip
    return {**fields, **changed}


def place(height: int) -> Json:
    return {"height": height, "time": 1_700_000_000 + height}


def evaluation(hospital: str, value: float | None, gain: Json | None = None) -> Json:
    estimates = [
        {"model": model, "measure": measure, "value": value, "low": low, "high": low and 0.99}
        for model in ("federated", "calibrated", "alone")
        for measure, low in (("auroc", 0.7), ("accuracy", 0.8), ("calibration", None))
    ]
    majority = {"model": "majority", "measure": "majority", "value": 0.62, "low": 0.4, "high": 0.8}
    return {
        "index": 28, "height": 4, "time": 1_700_000_000, "job": "job-1", "institution": hospital,
        "model": MODEL, "noised": False, "positives": 10, "negatives": 20 if gain else 0,
        "estimates": [*estimates, majority], "gain": gain,
    }  # fmt: skip


class MadeUp:
    """Answers as the API does. ``failing`` raises that instead, for paths that begin so."""

    def __init__(self, hospitals: list[str] = HOSPITALS, jobs: list[Json] | None = None) -> None:
        self.hospitals, self.role = hospitals, "admin"
        self.jobs = [job()] if jobs is None else jobs
        self.results = results() if self.jobs else []
        self.cosigned, self.conflicts, self.proposed = 3, [], []  # type: ignore[var-annotated]
        self.failing: dict[str, Exception] = {}

    def get(self, token: str, path: str, query: Mapping[str, Any] | None = None) -> Any:
        for begins, error in self.failing.items():
            if path.startswith(begins):
                raise error
        query = query or {}
        found = self._answers(path, query)
        if isinstance(found, list):
            found = found[::-1] if query.get("order") == "newest" else found
            return {"items": found[: query.get("limit")], "next": None}
        return found

    def text(self, token: str, path: str) -> str:
        if path.endswith("/card"):
            return "# Model of job-1\n\n## Limits\n"
        raise ApiError("LedgerMissing", "there is no entry", "see status", 404)

    def _answers(self, path: str, query: Mapping[str, Any]) -> Any:
        match path.split("/"):
            case ["me"]:
                return {"name": "Ada Byron", "role": self.role}
            case ["ledger", "head"]:
                return {
                    "ledger": LEDGER, "height": 4, "hash": f"{id(self):064x}", "entries": 30,
                    "records": 26, "time": 1_700_000_000, "cosigned": self.cosigned,
                    "quorum": 3, "members": len(self.hospitals), "final": self.cosigned >= 3,
                }  # fmt: skip
            case ["ledger", "entries"]:
                return [{"index": 0, "height": 0, "record": {"consortium": "Three hospitals"}}]
            case ["ledger", "membership"]:
                credits = {"pool": 1000, "verdicts": 200, "learner_bonus": 100, "window": 5}
                policy = {"credits": credits}
                return {"quorum": 3, "policy": policy, "proposed": self.proposed}
            case ["ledger", "heads"]:
                return {"heads": [], "conflicts": self.conflicts}
            case ["ledger", "blocks"]:
                return [self._block(height) for height in range(5)]
            case ["ledger", "search"]:
                hit = {"what": "record", "height": 1, "type": "job", "job": "job-1"}
                return [{**hit, "hash": "6" * 64, "index": int(query["q"])}]
            case ["ledger", "records", index]:
                body = {"type": "job", "author": "coordinator", "job": "job-1"}
                return {"index": int(index), "height": 1, "leaf": "6" * 64, "entry": {"body": body}}
            case ["jobs"]:
                return self.jobs
            case ["jobs", name]:
                raise ApiError("JobMissing", f"no job is called {name}", "see /v1/jobs", 404)
            case ["jobs", _, "rounds"]:
                return [{"index": i, "height": i, "record": r} for i, r in enumerate(self.results)]
            case ["credits"]:
                return [self._account(hospital) for hospital in self.hospitals]
            case ["institutions"]:
                return [self._institution(hospital) for hospital in self.hospitals]
            case ["institutions", name, "statement"]:
                line = {"job": "job-1", "task": "breast-cancer", "learning": 183, "verdicts": 50,
                        "bonus": 0, **self._account(name)}  # fmt: skip
                return {"institution": name, "height": 4, "hash": "b" * 64, "credits": 233,
                        "lines": [line] if self.results else []}  # fmt: skip
            case ["evaluations"]:
                gain = {"value": 0.2, "low": 0.1, "high": 0.4}
                return [evaluation("north", 0.92, gain), evaluation("south", None)]
            case ["privacy"]:
                spent = {"job": "job-1", "agreed": "1", "epsilon": "0.3"}
                return [
                    {"institution": hospital, "cohort": "1" * 32, "task": "breast-cancer",
                     "epsilon": "0.3", "delta": "0.00001", "reveals": 3, "jobs": [spent]}
                    for hospital in self.hospitals if self.results
                ]  # fmt: skip
            case ["privacy", "spends"]:
                return [
                    {"round": r, "attempt": 1, "institution": hospital, "epsilon": f"0.{r}",
                     "delta": "0.00001", "noise_multiplier": "9.5"}
                    for r in (1, 2, 3) for hospital in self.hospitals
                ]  # fmt: skip
            case ["privacy", "forecast"]:
                cost = {"institution": "north", "declared_patients": 120, "epsilon_before": "0.3",
                        "epsilon_after": "1.1", "noise_multiplier": "9.5"}  # fmt: skip
                return {"costs": [cost]}
        raise AssertionError(path)

    def _block(self, height: int) -> Json:
        return {
            "height": height, "hash": f"{height:064x}", "time": 1_700_000_000 + height,
            "first": 6 * height, "entries": 5, "type": "result" if height else "genesis",
            "job": "job-1", "round": height, "cosigners": self.hospitals[:2],
        }  # fmt: skip

    def _account(self, hospital: str) -> Json:
        return {"institution": hospital, "accepted": 2, "rejected": 1, "absent": 0, "learner": 1,
                "credits": 900}  # fmt: skip

    def _institution(self, hospital: str) -> Json:
        key = {"role": "record", "algorithm": "ed25519", "public": "5" * 64, "since": place(0)}
        seen = {"time": 1_700_000_000, "version": "0.1.0"}
        return {
            "id": hospital, "title": f"{hospital.title()} <b>Hospital</b>",
            "status": "suspended" if hospital == "west" else "member", "joined": place(0),
            "keys": [key], "last_cosigned": None if hospital == "west" else place(3),
            "last_seen": None if hospital == "south" else seen,
        }  # fmt: skip
