"""The pages over a made-up ledger: each kind of round, state, role and trouble; no server."""

import re
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
import streamlit as st
from made_up import HOSPITALS, MODEL, MadeUp, job
from streamlit.testing.v1 import AppTest

import consortium.rounds.checks
import consortium.rounds.codes
from ui import markup, words
from ui.api_client import ApiError

APP = Path(__file__).parents[2] / "ui" / "app.py"
PAGES = ("overview", "models", "contributors", "privacy", "ledger", "institutions")
Serve = Callable[[MadeUp], None]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    st.cache_data.clear()  # by the head's hash, which is made up, and the same in every test
    monkeypatch.setenv("MEDPOLE_API_URL", "http://127.0.0.1:1")
    monkeypatch.setattr("ui.reader.signed_in_token", lambda: "token")
    return lambda api: monkeypatch.setattr("ui.reader._client", lambda url: api)


def page(name: str, **query: str) -> AppTest:
    source = (
        "from ui import attempts\n"
        f"from ui.views import {name}\n"
        f"with attempts.told():\n    {name}.show()\n"
    )
    app = AppTest.from_string(source, default_timeout=30)
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def text(app: AppTest) -> str:
    """All that the page says, as HTML where it is."""
    html = [element.proto.body for element in app.get("html")]
    return "\n".join([*html, *(str(e.value) for e in [*app.title, *app.header, *app.subheader])])


def said(app: AppTest) -> str:
    return unescape(" ".join(re.sub(r"<[^>]+>", " ", text(app)).split()))


def test_what_each_hospital_gains_stands_in_words(serve: Serve) -> None:
    serve(MadeUp())
    shown = said(page("models"))
    assert "the federated model finds about 20 more of 100 cases at the same false alarms" in shown
    assert "+20 (+10 to +40)" in shown
    assert "n/a: too few patients" in shown


LIVE = {
    "running": {"phase": "train",
                "institutions": dict(zip(HOSPITALS, ("asked", "answered", "late"), strict=True))},
    "waiting": {"reason": "2 hospitals are needed; not there: west",
                "institutions": dict(zip(HOSPITALS, ("here", "gone", "co-signed"), strict=True))},
    "paused": {"reason": "three attempts at round 4", "absent": {"west": "NoAnswer (train)"}},
    "submitted": {"round": 1, "attempt": 1, "done": 0},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "state"),
    [(name, state) for name in PAGES for state in ("stopped", "no job", "no round")]
    + [("overview", state) for state in LIVE],
)
def test_a_page_shows_every_state(serve: Serve, name: str, state: str) -> None:
    jobs = [] if state == "no job" else [job(state, **LIVE.get(state, {}))]
    api = MadeUp(jobs=jobs)
    if state == "no round":
        api.jobs, api.results = [job("submitted")], []
    serve(api)
    app = page(name)
    assert not app.exception
    assert not app.error
    assert "cannot be" not in said(app)
    assert app.title[0].value.lower() == name


def test_who_is_left_out_of_the_model_is_named(serve: Serve) -> None:
    serve(MadeUp(jobs=[job("running", **LIVE["running"], left_out=["south"])]))
    shown = said(page("overview"))
    assert shown.count("left out of the model: its last proof was called harmful") == 1
    assert "job-1: south: left out of the model." in shown
    serve(MadeUp(jobs=[job("running", **LIVE["running"])]))
    assert "left out of the model" not in said(page("overview"))


def test_what_runs_is_shown_with_each_hospitals_part(serve: Serve) -> None:
    ends = int(time.time()) + 100
    serve(MadeUp(jobs=[job("running", **LIVE["running"], phase_ends=ends)]))
    shown = said(page("overview"))
    for expected in ("round 4 of 4, attempt 2", "3 of 4 rounds done", "training", "committed",
                     "late", "at most 1:", "north", "south", "west"):  # fmt: skip
        assert expected in shown, expected
    serve(MadeUp(jobs=[job("waiting", **LIVE["waiting"])]))
    shown = said(page("overview"))
    assert "2 hospitals are needed; not there: west" in shown
    assert "away" in shown


def test_what_needs_attention_is_named(serve: Serve) -> None:
    api = MadeUp()
    api.cosigned, api.conflicts = 1, [{"height": 3, "line": "x"}]
    api.proposed = [
        {"change": "9" * 64, "approved": ["north"],
         "record": {"actions": [{"kind": "suspend", "institution": "west"}]}}
    ]  # fmt: skip
    serve(api)
    shown = said(page("overview"))
    for expected in (
        "1 of 3 cosignatures", "was stopped after 3 of 4 rounds", "3 proofs rejected",
        "2 answers missing", "1 round void", "2 attempts repeated", "One key signed twice",
        "1 approval so far, 3 are needed",
    ):  # fmt: skip
        assert expected in shown, expected
    assert "suspend west" in said(page("institutions"))
    assert "independent witness" not in shown


def test_one_institution_is_never_shown_as_witnessed(serve: Serve) -> None:
    serve(MadeUp(["north"]))
    for name in PAGES:
        assert "No independent witness" in said(page(name))


@pytest.mark.parametrize(("role", "may"), [("admin", True), ("scientist", True),
                                           ("auditor", False)])  # fmt: skip
def test_what_a_role_may_not_do_is_not_offered(serve: Serve, role: str, may: bool) -> None:
    api = MadeUp()
    api.role = role
    serve(api)
    models = page("models")
    assert (f"/download/model/{MODEL}/" in text(models)) is may
    assert (f"/download/onnx/{MODEL}/" in text(models)) is may
    assert (words.NO_MODEL in said(models)) is not may
    assert f"/download/card/{MODEL}/" in text(models)
    institutions = page("institutions")
    assert ("/download/access-log" in text(institutions)) is (role != "scientist")
    assert (words.NO_ACCESS_LOG in said(institutions)) is (role == "scientist")


def test_what_is_not_released_is_said(serve: Serve) -> None:
    serve(MadeUp())
    shown = said(page("models"))
    assert "not released" in shown
    assert "too few to say" in shown
    assert "data may not be pooled" in shown
    assert "Groups (age, sex) Not released in this version" in shown


def test_a_record_is_found_and_a_fingerprint_compared(serve: Serve) -> None:
    serve(MadeUp())
    app = page("ledger", q="2")
    assert "Record 2" in said(app)
    assert "Not provable yet" in said(app)
    for told, expected in (("a" * 64, "equal"), ("b" * 64, "NOT equal."), ("abc", "Not a finger")):
        app.text_input[0].set_value(told).run()
        assert expected in said(app)
    app.text_input[1].set_value("nothing like this").run()
    assert "Nothing has this name" in said(app)


def test_a_forecast_is_asked_for(serve: Serve) -> None:
    serve(MadeUp())
    app = page("privacy")
    assert "1.100" not in said(app)
    app.button[0].click().run()
    assert "1.100" in said(app)
    assert words.BUDGET_NOT_HERE.split("`")[0] in said(app)


AWAY = ApiError("ApiUnreachable", "the API does not answer", "look at `consortium serve`")
DATABASE = ApiError("DatabaseUnreachable", "the database does not answer", "see the log", 503)
REVOKED = ApiError("TokenInvalid", "the token was refused: it is revoked", "ask the admin", 401)


@pytest.mark.parametrize(
    ("error", "expected"),
    [(AWAY, "API is away"), (DATABASE, "database is away"), (REVOKED, "not signed in any more"),
     (ZeroDivisionError("secret"), "This page cannot be drawn")],
)  # fmt: skip
def test_trouble_is_said_in_words_and_is_over_by_itself(
    serve: Serve, error: Exception, expected: str
) -> None:
    api = MadeUp()
    serve(api)
    for path in ("me", "ledger/"):
        api.failing = {path: error}
        app = AppTest.from_file(APP, default_timeout=30).run()
        assert not app.exception
        assert expected in said(app), path
        assert "secret" not in text(app)
        api.failing = {}
        app.run()
        assert "Three hospitals" in said(app)
        assert expected not in said(app)


def test_what_others_wrote_is_text(serve: Serve) -> None:
    serve(MadeUp())
    assert "<b>Hospital</b>" not in text(page("institutions"))
    assert "&lt;b&gt;Hospital" in text(page("institutions"))
    evil = '<img src=x onerror="alert(1)">'
    shapes = [markup.html(evil), markup.chip(evil, markup.Tone.BAD), markup.mono(evil, 4),
              markup.link(evil, '/a"b'), markup.table(evil, [evil], [[evil]]),
              markup.notice(evil, evil), markup.facts({evil: evil})]  # fmt: skip
    assert not any("<img" in shape or 'a"b' in shape for shape in shapes)


def test_every_code_of_a_proof_has_words() -> None:
    checks = Path(consortium.rounds.checks.__file__).parent.glob("*.py")
    written = "".join(path.read_text() for path in checks)
    codes = set(re.findall(r'(?:Failed|Examined)\("(\w+)"', written))
    codes |= {
        consortium.rounds.checks.ACCEPTED,
        consortium.rounds.codes.HARMFUL,
        consortium.rounds.codes.NO_QUORUM,
    }
    assert len(codes) >= 12
    assert set(words.PROOF_CODES) == codes


def test_an_unknown_code_is_shown_as_it_stands() -> None:
    assert "FromTheFuture" in words.proof_outcome("FromTheFuture")
    assert "FromTheFuture" in words.absence("train", "FromTheFuture")
