"""The Python client where something is in its way: errors, waits, broken streams, TLS."""

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from served_demo import Served
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from troubled import Troubled, listening

from consortium.access import Role
from consortium.api.schemas import Head, Job
from consortium.client import (
    ApiError,
    Consortium,
    Invalid,
    NotAllowed,
    NotFound,
    TooMany,
    Unreachable,
    Unsafe,
    events,
    plan,
)
from consortium.errors import OptionInvalid
from consortium.tls import make_tls

JOB = "breast-cancer-1"


# errors


def test_errors_have_the_servers_code_and_words(
    consortium: Consortium, socket: str, served: Served, model: str
) -> None:
    auditor = Consortium(socket, served.token(Role.AUDITOR))
    cases: list[tuple[type[ApiError], str, Callable[[], object]]] = [
        (NotFound, "JobMissing", consortium.job("unheard-of").detail),
        (NotFound, "ContentMissing", consortium.model("0" * 64).card),
        (Invalid, "RequestInvalid", lambda: list(consortium.ledger.search("!"))),
        (NotAllowed, "RoleForbidden", auditor.model(model).weights),
        (NotAllowed, "TokenInvalid", Consortium(socket, "mpa_0_0").me),
        (NotAllowed, "TokenInvalid", Consortium(socket, "").me),
        (Unreachable, "ApiUnreachable", Consortium("unix:///nowhere/api.sock", "x").me),
    ]
    for kind, code, ask in cases:
        with pytest.raises(kind) as failed:
            ask()
        error = failed.value
        assert (type(error), error.code) == (kind, code)
        assert str(error) == f"{code}: {error.what}. How to resolve: {error.resolve}"
        assert pickle.loads(pickle.dumps(error)).code == code


def test_a_token_is_nowhere_to_be_seen(
    socket: str, served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = served.token(Role.SCIENTIST)
    monkeypatch.setenv("MEDPOLE_TOKEN", f"{secret}\n")
    caplog.set_level(logging.DEBUG)
    with Consortium(socket) as client:
        assert client.me().role == "scientist"
        seen = [repr(client), repr(client.ledger), repr(vars(client._transport)), repr(client.job)]
        for ask in (client.job("unheard-of").detail, Consortium("http://127.0.0.1:9").me):
            with pytest.raises(ApiError) as failed:
                ask()
            seen += [repr(failed.value), repr(failed.value.__dict__), repr(failed.traceback)]
    assert caplog.text
    assert secret not in caplog.text + "".join(seen)


def test_it_waits_as_it_is_told_and_not_for_ever(
    consortium: Consortium, troubled: Troubled
) -> None:
    path = "/v1/me"

    def asked() -> int:
        count = troubled.asked.count(path)
        troubled.asked.clear()
        return count

    troubled.fail(path, 503, 429, retry_after="0")
    assert consortium.me().name == "Ada"
    assert asked() == 3
    troubled.fail(path, *[503] * 9, retry_after="Thu, 01 Jan 1970 00:00:00 GMT")
    with pytest.raises(Unreachable) as away:
        consortium.me()
    assert (away.value.code, away.value.status, asked()) == ("Http503", 503, plan.MOST_RETRIES + 1)
    troubled.fail(path, 429, retry_after="3600")
    with pytest.raises(TooMany):
        consortium.me()
    assert asked() == 1
    for status in (401, 404, 500, 502):  # what will not be otherwise in a moment
        troubled.fail(path, status, retry_after="0")
        with pytest.raises(ApiError) as failed:
            consortium.me()
        assert (failed.value.status, asked()) == (status, 1)


def test_what_is_no_api_is_not_read_as_one(consortium: Consortium, troubled: Troubled) -> None:
    for body in (b"<html>sign in</html>", b"{}", b"[]"):
        troubled.answers["/v1/ledger/head"] = [Response(body)]
        with pytest.raises(Unreachable, match="another form"):
            consortium.ledger.head()


# events


def told(*forms: Head | Job) -> Response:
    """A stream of events that ends."""
    lines = [
        f"event: {'job' if isinstance(form, Job) else 'head'}\ndata: {form.model_dump_json()}\n\n"
        for form in forms
    ]
    return Response(": hello\n\n" + "".join(lines), media_type="text/event-stream")


async def cut(scope: Scope, receive: Receive, send: Send) -> None:
    """A stream that breaks off: uvicorn closes the connection in the middle of it."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"event: he", "more_body": True})
    raise ConnectionError


def test_a_job_is_watched_over_broken_streams_until_it_ends(
    consortium: Consortium, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consortium.client.transports.time.sleep", waits.append)
    waits.clear()
    head, detail = consortium.ledger.head(), consortium.job(JOB).detail()
    ended = detail.job
    running = ended.model_copy(update={"state": "running", "ended": None, "done": 1})
    further = running.model_copy(update={"done": 2})
    newer = running.model_copy(update={"job": "breast-cancer-2"})
    place = f"/v1/jobs/{JOB}"
    unfinished = detail.model_copy(update={"job": running}).model_dump_json()
    troubled.answers["/v1/events"] = [told(head, running), cut, told(head, running, newer, further)]
    troubled.answers[place] = [Response(unfinished)]
    # The fourth stream is the API's own: by then the job has ended, as the next head says.
    troubled.changes["/v1/events"] = lambda body: body.replace(b'"cosigned": 4', b'"cosigned": 3')
    assert list(consortium.job(JOB).watch()) == [running, further, ended]
    assert waits == [1, 2, 1]  # the second stream gave nothing
    assert troubled.asked.count("/v1/events") == 4


waits: list[float] = []


def test_events_are_not_waited_for_for_ever(
    consortium: Consortium, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consortium.client.transports.time.sleep", waits.append)
    waits.clear()
    troubled.fail("/v1/events", *[503] * 100)
    with pytest.raises(Unreachable):
        next(consortium.events())
    assert waits[:6] == [1, 2, 4, 8, 16, 30]
    assert events.PATIENCE_S <= sum(waits) < events.PATIENCE_S + events.LONGEST_WAIT_S
    troubled.fail("/v1/events", 403)
    with pytest.raises(NotAllowed):
        next(consortium.events())


# the way there


def test_a_token_goes_over_tls_or_stays_on_this_machine(
    troubled: Troubled, token: str, tmp_path: Path
) -> None:
    tls = make_tls(tmp_path, ["localhost"])
    files = {"ssl_certfile": tls.folder / "server.pem", "ssl_keyfile": tls.folder / "server.key"}
    with listening(troubled, **files) as port:
        with Consortium(f"https://localhost:{port}", token, ca=tls.folder / "ca.pem") as client:
            assert client.me().name == "Ada"
        troubled.asked.clear()
        with pytest.raises(Unreachable), Consortium(f"https://localhost:{port}", token) as client:
            client.me()
        assert troubled.asked == []
    with listening(troubled) as port, Consortium(f"http://127.0.0.1:{port}", token) as client:
        assert client.me().name == "Ada"
    for url in ("http://consortium.example", "ftp://localhost", "http://127.0.0.1.example"):
        with pytest.raises(Unsafe):
            Consortium(url, token)
    for url in ("https://ada:secret@consortium.example", "consortium.example", "https://"):
        with pytest.raises(OptionInvalid) as failed:
            Consortium(url, token)
        assert "secret" not in str(failed.value)
    (tmp_path / "nonsense.pem").write_text("x")
    for ca in ("nonsense.pem", "nowhere.pem"):
        with pytest.raises(OptionInvalid):
            Consortium("https://consortium.example", token, ca=tmp_path / ca)


def test_a_part_that_is_missing_is_named(
    consortium: Consortium, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, asked, extra in (
        ("safetensors.numpy", consortium.model(model).weights, "client"),
        ("torch", consortium.model(model).torch, "agent"),
    ):
        with monkeypatch.context() as patch:
            for name in ("consortium.weights", "consortium.tasks"):
                patch.delitem(sys.modules, name, raising=False)
            patch.setitem(sys.modules, module, None)
            with pytest.raises(Exception) as failed:
                asked()
            assert type(failed.value).__name__ == "PartMissing"
            assert f"pip install 'medpole[{extra}]'" in failed.value.resolve


def test_importing_it_loads_nothing_heavy() -> None:
    """Nor what it proves with."""
    modules = "consortium.client, ledger.prove, ledger.verify, ledger.archive"
    code = f"import {modules}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "fastapi", "flwr", "sqlalchemy", "numpy", "pandas", "uvicorn", "psycopg2"}
    assert not {name.split(".")[0] for name in done.stdout.split()} & heavy
