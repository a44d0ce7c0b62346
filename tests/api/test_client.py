"""The Python client against the API of a ledger with a finished job, and against trouble."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from served_demo import Served
from starlette.responses import Response
from troubled import Troubled
from typer.testing import CliRunner

from consortium import tasks
from consortium.cli.main import app as commands
from consortium.client import (
    ApiError,
    AsyncConsortium,
    Consortium,
    NotFound,
    Unreachable,
    plan,
)
from consortium.errors import OptionInvalid
from consortium.model_files.files import model_bytes, read_model
from consortium.model_files.formats import FileFormat
from consortium.registry import registry_of_store
from consortium.weights import to_torch
from ledger.archive import opened
from ledger.errors import ContentInvalid, ExportExists, GenesisMismatch, LedgerError, ProofInvalid
from ledger.verify import verify_export

JOB = "breast-cancer-1"


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
    "evaluations": lambda c: c.evaluations(job=JOB),
    "privacy": lambda c: c.privacy(task="breast-cancer"),
    "spends": lambda c: c.spends(order="newest"),
    "forecast": lambda c: c.forecast("breast-cancer", "1", rounds=5),
    "job.detail": lambda c: c.job(JOB).detail(),
    "job.rounds": lambda c: c.job(JOB).rounds(),
    "job.contributions": lambda c: c.job(JOB).contributions(),
    "job.evaluations": lambda c: c.job(JOB).evaluations("hospital-2"),
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
    consortium: Consortium, socket: str, token: str, genesis: str
) -> None:
    blocking = {name: _whole(ask(consortium)) for name, ask in ASKED.items()}

    async def awaited() -> dict[str, Any]:
        async with AsyncConsortium(socket, token, genesis=genesis) as client:
            return {name: await _awaited(ask(client)) for name, ask in ASKED.items()}

    assert asyncio.run(awaited()) == blocking
    assert all(blocking[name] for name in ASKED if not name.endswith("evaluations"))
    assert blocking["me"].role == "scientist"
    assert blocking["job.watch"][-1].state == "finished"


def _whole(given: Any) -> Any:
    return list(given) if isinstance(given, Iterator) else given


async def _awaited(given: Any) -> Any:
    if isinstance(given, AsyncIterator):
        return [item async for item in given]
    return await given


def test_both_have_the_same_methods(consortium: Consortium, socket: str) -> None:
    awaited = AsyncConsortium(socket, "x")
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


def test_a_model_is_exported_as_the_command_does(
    consortium: Consortium, model: str, served: Served, tmp_path: Path
) -> None:
    registry = registry_of_store(served.store, served.home.models.get)
    for named in registry.models():
        if named.kind == "round":
            continue
        contract = registry.lineage(named).contract.record
        weights = served.home.models.get(named.model)
        path = consortium.model(named.model).export(tmp_path / f"{named.kind}.onnx")
        assert path.read_bytes() == model_bytes(FileFormat.ONNX, named, contract, weights)
    plain = consortium.model(model).export(tmp_path / "plain", "safetensors")
    assert read_model(plain).metadata["medpole.job"] == JOB
    with pytest.raises(ExportExists):
        consortium.model(model).export(plain)
    for format, inputs in (("pickle", None), ("onnx", "raw")):
        with pytest.raises(OptionInvalid, match="models are not written as"):
            consortium.model(model).export(tmp_path / "other", format, inputs)


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
    consortium: Consortium, troubled: Troubled, socket: str, token: str, model: str
) -> None:
    with pytest.raises(OptionInvalid):
        Consortium(socket, token).model(model).verify()
    with pytest.raises(GenesisMismatch):
        Consortium(socket, token, genesis="0" * 64).model(model).verify()
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


def test_another_ledgers_head_is_refused(socket: str, token: str) -> None:
    other = Consortium(socket, token, genesis="0" * 64)
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
            Consortium(socket, genesis=genesis)


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


def test_awaited_downloads_are_the_same(
    socket: str, token: str, genesis: str, model: str, served: Served, tmp_path: Path
) -> None:
    async def download() -> None:
        async with AsyncConsortium(socket, token, genesis=genesis) as client:
            one = client.model(model)
            await one.download(tmp_path / "model")
            await client.ledger.export(tmp_path / "export.tar")
            assert (await one.verify()).pinned
            assert (await one.torch()).weight.shape == (1, 30)
            with pytest.raises(NotFound):
                await client.model("0" * 64).download(tmp_path)

    asyncio.run(download())
    assert (tmp_path / "model").read_bytes() == served.home.models.path(model).read_bytes()
    with opened(tmp_path / "export.tar") as folder:
        assert verify_export(folder, genesis).pinned
    assert len(list(tmp_path.iterdir())) == 2
