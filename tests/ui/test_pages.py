"""The pages over a job of every kind of round: made-up records, of the ledger's published form."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

import consortium.rounds.checks
import consortium.rounds.result
from ledger.records import parse_record
from ui import charts, figures, words

APP = Path(__file__).parents[2] / "ui" / "app.py"
HOSPITALS = ["north", "south", "west"]
PAGES = ("overview", "models", "contributors", "privacy", "ledger")
Json = dict[str, Any]


def record(type: str, author: str = "coordinator", **fields: Any) -> Json:
    body = {"v": 1, "type": type, "ledger": "a" * 64, "author": author, **fields}
    return parse_record(body).body()


def terms() -> Json:
    return {
        "rounds": 4, "steps": 5, "sample_rate": "1", "noise_multiplier": "9.5", "clip": "1",
        "clipping": "flat", "learning_rate": "0.5", "normaliser": 100, "epsilon": "1",
        "delta": "0.00001",
    }  # fmt: skip


def job(hospitals: list[str]) -> Json:
    return record(
        "job", job="job-1", task="breast-cancer", task_fingerprint="b" * 64, rounds=4, seed=0,
        initial_model="c" * 64, average_from=3,
        participants=[{"institution": h, "weight": 100, "terms": terms()} for h in hospitals],
        thresholds={"false_alarm": "0.0001", "drop": 1500},
        durations={"train": 600, "close": 60, "reveal": 120, "verify": 600},
    )  # fmt: skip


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
        "model_before": "c" * 64, "model_after": "f" * 64, "void": False, "again": False,
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


def proof(hospital: str, round: int, epsilon: str) -> Json:
    spend = {
        "cohort": "1" * 32, "steps": 5, "sample_rate": "1", "noise_multiplier": "9.5",
        "clip": "1", "normaliser": 100, "mu2_before": "0", "mu2_after": "0.1",
        "epsilon": epsilon, "delta": "0.00001",
    }  # fmt: skip
    return record(
        "proof", hospital, job="job-1", round=round, attempt=1, digest="e" * 64, update="2" * 64,
        vrf_proof="3" * 160, salt="4" * 64, spend=spend,
    )  # fmt: skip


class FakeApi:
    """Answers as the API does, from a few records."""

    def __init__(self, hospitals: list[str], final: bool = True, stopped: bool = False) -> None:
        self.hospitals, self.final = hospitals, final
        self.records: dict[str, list[Json]] = {
            "genesis": [{
                "consortium": "Three hospitals",
                "policy": {"credits": {
                    "pool": 1000, "verdicts": 200, "learner_bonus": 100, "window": 5,
                }},
            }],
            "job": [job(hospitals)],
            "result": results(),
            "proof": [proof(h, r, f"0.{r}") for r in (1, 2, 3) for h in hospitals],
            "job-end": [record("job-end", job="job-1", status="stopped", rounds=3, model="f" * 64)]
            if stopped
            else [],
        }  # fmt: skip

    def head(self) -> Json:
        return {
            "ledger": "a" * 64, "height": 4, "hash": f"{id(self):064x}", "entries": 30,
            "time": 1_700_000_000, "cosigned": 3 if self.final else 1, "quorum": 3,
            "final": self.final,
        }  # fmt: skip

    def institutions(self) -> list[Json]:
        key = {"record": {"public": "5" * 64}}
        return [{"id": h, "title": h.title(), "keys": key} for h in self.hospitals]

    def entries(self, type: str, job: str | None = None) -> list[Json]:
        return self.records[type]

    def blocks(self, first: int, limit: int) -> list[Json]:
        return [
            {
                "height": height, "hash": f"{height:064x}", "time": 1_700_000_000 + height,
                "first": 6 * height, "entries": 5, "type": "result", "job": "job-1",
                "round": height, "leaves": ["6" * 64] * 5, "cosigners": self.hospitals[:2],
            }
            for height in range(first, first + limit)
        ]  # fmt: skip

    def model(self, name: str) -> bytes:
        return b"safetensors"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeApi], None]:
    st.cache_data.clear()  # by the head's hash, which is made up, and the same in every test
    monkeypatch.setenv("MEDPOLE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("MEDPOLE_API_TOKEN", "token")
    return lambda api: monkeypatch.setattr("ui.snapshot._client", lambda url, token: api)


def shown(app: AppTest) -> str:
    elements = [*app.markdown, *app.warning, *app.info, *app.caption]
    return "\n".join(str(element.value) for element in elements)


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("stopped", [False, True])
def test_a_page_renders_every_kind_of_round(
    serve: Callable[[FakeApi], None], name: str, stopped: bool
) -> None:
    serve(FakeApi(HOSPITALS, stopped=stopped))
    source = f"from ui.views import {name}\n{name}.show()"
    app = AppTest.from_string(source, default_timeout=30).run()
    assert not app.exception
    assert not app.error


def test_what_needs_attention_is_named(serve: Callable[[FakeApi], None]) -> None:
    serve(FakeApi(HOSPITALS, final=False, stopped=True))
    text = shown(AppTest.from_file(APP, default_timeout=30).run())
    for expected in (
        "**not final**: 1 of 3 cosignatures", "stopped after 3 of 4 rounds", "3 proofs rejected",
        "2 absences", "1 void round",
    ):  # fmt: skip
        assert expected in text
    assert "independent witness" not in text


def test_an_attempt_that_is_repeated_is_no_round(serve: Callable[[FakeApi], None]) -> None:
    api = FakeApi(HOSPITALS)
    absent = [{"institution": "west", "phase": "close", "code": "NoAnswer"}]
    repeated = [
        result(4, [], None, attempt=n, void=True, again=True, fees=[], absent=absent, minted=0)
        for n in (1, 2)
    ]
    api.records["result"] += repeated
    api.records["job-end"] = []
    serve(api)
    text = shown(AppTest.from_file(APP, default_timeout=30).run())
    for expected in ("not ended: 3 of 4 rounds", "2 attempts repeated", "1 void round"):
        assert expected in text
    everything = api.records["result"]
    assert list(figures.credit_rows(everything, ["north"])["round"]) == [1, 2, 3]
    assert list(figures.round_rows(everything)["Model"])[:3] == [
        "unchanged (tried again)", "unchanged (tried again)", "unchanged (void)",
    ]  # fmt: skip
    assert "4" in set(figures.trouble_rows(everything)["Rounds"])


def test_one_institution_is_never_shown_as_witnessed(serve: Callable[[FakeApi], None]) -> None:
    serve(FakeApi(["north"]))
    assert "**no independent witness**" in shown(AppTest.from_file(APP, default_timeout=30).run())


def test_every_code_of_a_proof_has_words() -> None:
    checks = Path(consortium.rounds.checks.__file__).read_text()
    codes = set(re.findall(r'(?:_Failed|Examined)\("(\w+)"', checks))
    codes |= {
        consortium.rounds.checks.ACCEPTED,
        consortium.rounds.result.HARMFUL,
        consortium.rounds.result.NO_QUORUM,
    }
    assert len(codes) >= 12
    assert set(words.PROOF_CODES) == codes


def test_an_unknown_code_is_shown_as_it_stands() -> None:
    assert "FromTheFuture" in words.proof_outcome("FromTheFuture")
    assert "FromTheFuture" in words.absence("train", "FromTheFuture")


def test_reasons_are_gathered_by_hospital() -> None:
    rows = figures.trouble_rows(results())
    assert list(rows[["Hospital", "Rounds", "Code"]].itertuples(index=False, name=None)) == [
        ("north", "3", "Harmful"),
        ("south", "2–3", "NearCopy"),
        ("west", "2", "NoAnswer"),
        ("west", "3", "BudgetExceeded"),
    ]


def test_credits_are_learning_fees_and_bonus() -> None:
    rows = figures.credit_rows(results(), ["north", "south"])
    north = rows[rows["hospital"] == "north"]
    assert list(north["earned"]) == [450, 450, 0]
    assert list(north["total"]) == [450, 900, 900]
    assert list(rows[rows["hospital"] == "south"]["total"]) == [300, 300, 300]


def test_a_second_job_follows_the_first_in_what_was_spent() -> None:
    jobs = [{"job": "job-1"}, {"job": "job-2"}]
    later = {**proof("north", 1, "0.9"), "job": "job-2"}
    proofs = [proof("north", 1, "0.2"), proof("north", 2, "0.4"), later]
    rows = figures.spend_rows(jobs, proofs)
    assert list(rows["step"]) == [1, 2, 3]
    assert list(rows["epsilon"]) == [0.2, 0.4, 0.9]


@pytest.mark.parametrize("count", [1, 4, 12])
def test_charts_have_a_tooltip_and_a_colour_for_every_hospital(count: int) -> None:
    names = [f"hospital-{number}" for number in range(count)]
    rounds = [result(r, [outcome(name) for name in names], names[0]) for r in (1, 2)]
    chart = charts.score_chart(figures.proof_rows(rounds), names).to_dict()
    assert any("tooltip" in layer["encoding"] for layer in chart["layer"])
    scale = chart["layer"][0]["encoding"]["color"]["scale"]
    assert (scale["domain"], len(scale["range"])) == (names, count)
    assert set(scale["range"]) <= set(charts.PALETTE)
