"""The Python client against the API of a ledger with a finished job, and against trouble."""

import asyncio
import json
import logging
import pickle
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from served_demo import Served
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from troubled import Troubled, listening, socket_url
from typer.testing import CliRunner

from consortium import tasks
from consortium.access import Role
from consortium.api.schemas import Head, Job
from consortium.cli.main import app as commands
from consortium.client import (
    ApiError,
    AsyncConsortium,
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
from consortium.weights import to_torch
from ledger.archive import opened
from ledger.errors import ContentInvalid, GenesisMismatch, LedgerError, ProofInvalid
from ledger.verify import verify_export

JOB = "breast-cancer-1"


@pytest.fixture(scope="module")
def troubled(served: Served) -> Troubled:
    return Troubled(served.app)


@pytest.fixture(scope="module")
def url(troubled: Troubled) -> Iterator[str]:
    """Of a Unix socket."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "api.sock"
        with listening(troubled, uds=str(path)):
            yield socket_url(path)


@pytest.fixture(scope="module")
def token(served: Served) -> str:
    return served.token(Role.SCIENTIST)


@pytest.fixture(scope="module")
def genesis(served: Served) -> str:
    return served.store.chain().ledger


@pytest.fixture
def consortium(url: str, token: str, genesis: str, troubled: Troubled) -> Iterator[Consortium]:
    troubled.answers.clear()
    troubled.changes.clear()
    troubled.asked.clear()
    with Consortium(url, token, genesis=genesis) as client:
        yield client


@pytest.fixture(scope="module")
def model(served: Served) -> str:
    """The hash of what the job released."""
    return str(served.client.get(f"/v1/jobs/{JOB}").json()["job"]["model"])


# one place for each request's logic, two ways to call it

ASKED: dict[str, Callable[[Any], Any]] = {
    "health": lambda c: c.health(),
    "me": lambda c: c.me(),
    "institutions": lambda c: c.institutions(),
    "institution": lambda c: c.institution("hospital-1"),
    "statement": lambda c: c.statement("hospital-1"),
    "jobs": lambda c: c.jobs(order="newest"),
    "contributions": lambda c: c.contributions(institution="hospital-1"),
    "credits": lambda c: c.credits(JOB),
    "models": lambda c: c.models(),
    "privacy": lambda c: c.privacy(task="breast-cancer"),
    "spends": lambda c: c.spends(order="newest"),
    "forecast": lambda c: c.forecast("breast-cancer", "1", rounds=5),
    "job.detail": lambda c: c.job(JOB).detail(),
    "job.rounds": lambda c: c.job(JOB).rounds(),
    "job.contributions": lambda c: c.job(JOB).contributions(),
    "job.credits": lambda c: c.job(JOB).credits(),
    "job.models": lambda c: c.job(JOB).models(),
    "job.watch": lambda c: c.job(JOB).watch(),
    "ledger.head": lambda c: c.ledger.head(),
    "ledger.blocks": lambda c: c.ledger.blocks("newest"),
    "ledger.block": lambda c: c.ledger.block(1),
    "ledger.entries": lambda c: c.ledger.entries(type="result", job=JOB),
    "ledger.record": lambda c: c.ledger.record(2),
    "ledger.proof": lambda c: c.ledger.proof(2),
    "ledger.prove": lambda c: c.ledger.prove(2),
    "ledger.search": lambda c: c.ledger.search("2"),
    "ledger.membership": lambda c: c.ledger.membership(),
    "ledger.verifier": lambda c: c.ledger.verifier(),
}


def test_both_ways_of_calling_give_the_same(
    consortium: Consortium, url: str, token: str, genesis: str
) -> None:
    blocking = {name: _whole(ask(consortium)) for name, ask in ASKED.items()}

    async def awaited() -> dict[str, Any]:
        async with AsyncConsortium(url, token, genesis=genesis) as client:
            return {name: await _awaited(ask(client)) for name, ask in ASKED.items()}

    assert asyncio.run(awaited()) == blocking
    assert all(blocking[name] for name in ASKED)
    assert blocking["me"].role == "scientist"
    assert blocking["job.watch"][-1].state == "finished"


def _whole(given: Any) -> Any:
    return list(given) if isinstance(given, Iterator) else given


async def _awaited(given: Any) -> Any:
    if isinstance(given, AsyncIterator):
        return [item async for item in given]
    return await given


def test_both_have_the_same_methods(consortium: Consortium, url: str) -> None:
    awaited = AsyncConsortium(url, "x")
    pairs = [
        (consortium, awaited), (consortium.ledger, awaited.ledger),
        (consortium.job("x"), awaited.job("x")), (consortium.model("x"), awaited.model("x")),
    ]  # fmt: skip
    for one, other in pairs:
        names = [{n for n in dir(each) if not n.startswith("_")} for each in (one, other)]
        assert names[0] - {"close"} == names[1] - {"aclose"}
        assert all(getattr(one, name).__doc__ for name in names[0])
    known = {n for n in dir(consortium) if not n.startswith("_")} - {"close", "ledger", "job"}
    assert known - {"model", "events"} <= set(ASKED)


def test_a_list_is_read_page_by_page_as_far_as_it_is_wanted(
    consortium: Consortium, served: Served, troubled: Troubled, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plan, "PAGE", 7)
    entries = consortium.ledger.entries()
    assert troubled.asked == []
    for _ in range(7):
        next(entries)
    assert len(troubled.asked) == 1
    next(entries)
    assert len(troubled.asked) == 2
    whole = [item.record for item in consortium.ledger.entries()]
    blocks = served.store.blocks()
    assert whole == [entry.record.body() for block in blocks for entry in block.entries]


def test_what_one_person_names_stays_one_part_of_the_path(consortium: Consortium) -> None:
    for name in ("../ledger/head", "x/rounds", "x?limit=1", "ü"):
        with pytest.raises(ApiError) as failed:
            consortium.job(name).detail()
        assert failed.value.status in (404, 422)


# errors


def test_errors_have_the_servers_code_and_words(
    consortium: Consortium, url: str, served: Served, model: str
) -> None:
    auditor = Consortium(url, served.token(Role.AUDITOR))
    cases: list[tuple[type[ApiError], str, Callable[[], object]]] = [
        (NotFound, "JobMissing", consortium.job("unheard-of").detail),
        (NotFound, "ContentMissing", consortium.model("0" * 64).card),
        (Invalid, "RequestInvalid", lambda: list(consortium.ledger.search("!"))),
        (NotAllowed, "RoleForbidden", auditor.model(model).weights),
        (NotAllowed, "TokenInvalid", Consortium(url, "mpa_0_0").me),
        (NotAllowed, "TokenInvalid", Consortium(url, "").me),
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
    url: str, served: Served, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = served.token(Role.SCIENTIST)
    monkeypatch.setenv("MEDPOLE_TOKEN", f"{secret}\n")
    caplog.set_level(logging.DEBUG)
    with Consortium(url) as client:
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


# models


def test_a_model_is_downloaded_whole_and_only_if_it_is_the_one(
    consortium: Consortium, troubled: Troubled, model: str, served: Served, tmp_path: Path
) -> None:
    path = tmp_path / "model.safetensors"
    assert consortium.model(model).download(path) == path
    assert path.read_bytes() == served.home.models.path(model).read_bytes()
    assert consortium.model(model).download(tmp_path) == tmp_path / f"{model}.safetensors"
    assert consortium.model(model).weights().keys() == {"weight", "bias"}
    before, asked = path.read_bytes(), f"/v1/models/{model}"
    for change in (lambda b: b[:-1] + bytes([b[-1] ^ 1]), lambda b: b"x" * len(b)):
        troubled.changes[asked] = change
        for ask in (consortium.model(model).download, lambda _: consortium.model(model).weights()):
            with pytest.raises(ContentInvalid):
                ask(path)
    troubled.changes[asked] = lambda b: b[:100]  # cut off on its way
    with pytest.raises(Unreachable):
        consortium.model(model).download(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([path.name, f"{model}.safetensors"])


def test_every_model_that_the_ledger_names_is_traced_to_it(
    consortium: Consortium, model: str, genesis: str
) -> None:
    proved = consortium.model(model).verify()
    assert (proved.ledger, proved.pinned, proved.record.type) == (genesis, True, "job-end")
    assert len(proved.cosigners) >= proved.quorum
    kinds = {"initial": "job", "round": "result", "released": "job-end"}
    for item in consortium.models():
        found = consortium.model(item.model).verify().record
        assert kinds[item.kind] == found.type or item.model != model
    card = consortium.model(model).card()
    assert model in card


def test_a_model_is_not_traced_to_what_does_not_name_it(
    consortium: Consortium, troubled: Troubled, url: str, token: str, model: str
) -> None:
    with pytest.raises(OptionInvalid):
        Consortium(url, token).model(model).verify()
    with pytest.raises(GenesisMismatch):
        Consortium(url, token, genesis="0" * 64).model(model).verify()
    found = json.loads(json.dumps(next(consortium.ledger.search(model)).model_dump()))
    for index in (0, 2):  # other records' proofs hold, and say nothing of the model
        body = json.dumps({"items": [{**found, "index": index}], "next": None}).encode()
        troubled.answers["/v1/ledger/search"] = [Response(body)]
        with pytest.raises(ProofInvalid, match="does not name this model"):
            consortium.model(model).verify()
    other = consortium.ledger.proof(2).encode()
    troubled.answers[f"/v1/ledger/proofs/{found['index']}"] = [Response(other)]
    with pytest.raises(ProofInvalid, match="is of record 2"):
        consortium.model(model).verify()


def test_a_model_predicts_as_at_the_hospitals(
    consortium: Consortium, served: Served, model: str
) -> None:
    task = tasks.get("breast-cancer")
    inputs, _ = task.tensors(task.sites()[0].frame)
    module = consortium.model(model).torch()
    expected = task.model()
    expected.load_state_dict(to_torch(served.home.models.get(model)))
    assert torch.equal(module(inputs), expected(inputs))
    assert not module.training


# the ledger


def test_another_ledgers_head_is_refused(url: str, token: str) -> None:
    other = Consortium(url, token, genesis="0" * 64)
    for ask in (
        other.ledger.head,
        lambda: next(other.events()),
        lambda: next(other.job(JOB).watch()),
        lambda: other.ledger.prove(2),
    ):
        with pytest.raises(GenesisMismatch):
            ask()
    for genesis in ("abc", "z" * 64):
        with pytest.raises(OptionInvalid):
            Consortium(url, genesis=genesis)


def test_an_export_is_verified_before_it_has_its_name(
    consortium: Consortium, troubled: Troubled, served: Served, genesis: str, tmp_path: Path
) -> None:
    path, by_command = tmp_path / "export.tar", tmp_path / "command.tar"
    assert consortium.ledger.export(path) == path
    arguments = ["ledger", "export", "--archive", str(by_command), "--home", str(served.home.path)]
    done = CliRunner().invoke(commands, arguments)
    assert done.exit_code == 0, done.output
    assert path.read_bytes() == by_command.read_bytes()
    with opened(path) as folder:
        assert verify_export(folder, genesis).pinned
    part = consortium.ledger.export(tmp_path / "part.tar", first=2, last=3)
    with opened(part) as folder:
        assert verify_export(folder, genesis).first_height == 2
    with pytest.raises(FileExistsError):
        consortium.ledger.export(path)
    troubled.changes["/v1/ledger/export"] = lambda body: body.replace(b"hospital-1", b"hospital-2")
    with pytest.raises(LedgerError):
        consortium.ledger.export(tmp_path / "changed.tar")
    consortium.ledger.export(tmp_path / "unverified.tar", verify=False)
    assert len(list(tmp_path.iterdir())) == 4


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
    code = "import consortium.client, sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "fastapi", "flwr", "sqlalchemy", "numpy", "pandas", "uvicorn", "psycopg2"}
    assert not set(done.stdout.split()) & heavy
    code = "import ledger.prove, ledger.verify, ledger.archive, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & heavy
