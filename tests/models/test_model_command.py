"""`consortium model` on a real ledger: a job's model leaves as a file, and is proved to be it."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from consortium import tasks
from consortium.cli.main import app
from consortium.cli.run import run
from consortium.errors import (
    ModelFileInvalid,
    ModelMissing,
    ModelUnproven,
    PartMissing,
)
from consortium.local import open_ledger
from consortium.model_files import onnx_file
from consortium.model_files.files import read_model, write_new
from consortium.model_files.verification import trace
from consortium.registry import Registry, registry_of_export
from consortium.weights import to_bytes, to_torch
from ledger.content import model_hash
from ledger.errors import ContentMissing, ExportExists, GenesisMismatch, LedgerError

JOB = "breast-cancer-1"
HOSPITALS = [f"hospital-{i}" for i in range(1, 5)]


def consortium(*arguments: object) -> int:
    """Runs a command; its exit code."""
    with pytest.raises(SystemExit) as ended:
        run(app, [str(argument) for argument in arguments])
    return int(ended.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    """What a command printed as JSON."""
    capsys.readouterr()
    assert consortium(*arguments, "--format", "json") == 0
    return json.loads(capsys.readouterr().out)


@pytest.fixture(scope="module")
def home(demo_home: Path) -> Iterator[Path]:
    """A demo's home, its database running for all tests of this file."""
    with open_ledger(demo_home, shared=True):
        yield demo_home


@pytest.fixture(scope="module")
def folder(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The whole ledger with all updates and models, and the released model as both files."""
    root = tmp_path_factory.mktemp("models")
    ledger = ("ledger", "export", "--home", home, "--content")
    assert consortium(*ledger, "--out", root / "ledger") == 0
    assert consortium(*ledger, "--archive", root / "ledger.tar") == 0
    for form in ("safetensors", "onnx"):
        out = root / f"model.{form}"
        assert consortium(*export(out, form), "--home", home) == 0
    return root


def export(out: Path, form: str, model: str = JOB) -> tuple[object, ...]:
    return "model", "export", model, "--format", form, "--out", out


@pytest.fixture(scope="module")
def registry(folder: Path) -> Registry:
    return registry_of_export(folder / "ledger")


@pytest.fixture(scope="module")
def released(registry: Registry) -> str:
    return registry.find(JOB).model


# what there is


def test_every_model_of_the_ledger_is_listed_and_stored_under_its_hash(
    home: Path, folder: Path, registry: Registry, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = answer(capsys, "model", "list", "--home", home)
    assert listed == answer(capsys, "model", "list", "--ledger", folder / "ledger.tar")
    kinds = [(one["kind"], one["round"]) for one in listed]
    rounds = [("round", number) for number in (1, 2, 3)]
    assert kinds == [("initial", None), *rounds, ("released", 3)]
    with open_ledger(home, shared=True) as (local, _):
        for one in listed:
            assert model_hash(local.models.get(one["model"])) == one["model"]
            assert model_hash(registry.weights(one["model"])) == one["model"]
    only = answer(capsys, "model", "list", "--home", home, "--released", "--job", JOB)
    assert only == listed[-1:]
    assert consortium("model", "list", "--home", home) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert listed[-1]["model"][:16] in lines[-2]


def test_a_lineage_names_contract_proofs_and_records(
    home: Path, folder: Path, released: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = answer(capsys, "model", "show", JOB, "--home", home)
    assert shown == answer(capsys, "model", "show", released[:8], "--ledger", folder / "ledger")
    assert (shown["model"], shown["kind"], shown["participants"]) == (
        released,
        "released",
        HOSPITALS,
    )
    assert (shown["contract"]["record"], shown["averaged_rounds"]) == (2, [2, 3])
    before = shown["initial_model"]
    for number, step in enumerate(shown["rounds"], 1):
        assert (step["round"], step["before"]) == (number, before)
        assert [proof["institution"] for proof in step["proofs"]] == HOSPITALS
        # The first is the one that re-submits its first update.
        accepted = [proof["code"] == "Accepted" for proof in step["proofs"]]
        assert accepted == [number == 1, True, True, True]
        assert all(
            (folder / "ledger/content" / proof["update"]).exists() for proof in step["proofs"]
        )
        before = step["after"]
    entries = (folder / "ledger/entries.csv").read_text().splitlines()[1:]
    records = [shown["named_by"], shown["contract"], *shown["rounds"]]
    for record, kind in zip(records, ["job-end", "job", *["result"] * 3], strict=True):
        (row,) = [one for one in entries if one.startswith(f"{record['record']},")]
        assert f",{kind}," in row
    first = answer(capsys, "model", "show", shown["initial_model"], "--home", home)
    assert (first["kind"], first["rounds"], first["learned_from"]) == ("initial", [], [])
    second = answer(capsys, "model", "show", shown["rounds"][1]["after"], "--home", home)
    assert (second["kind"], len(second["rounds"]), second["averaged_rounds"]) == ("round", 2, [])


def test_a_card_says_where_the_model_comes_from(
    home: Path, folder: Path, registry: Registry, released: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    capsys.readouterr()
    assert consortium("model", "card", released, "--home", home) == 0
    card = capsys.readouterr().out
    assert consortium("model", "card", JOB, "--ledger", folder / "ledger.tar") == 0
    assert capsys.readouterr().out == card
    for said in (
        released, "| `mean_radius` | px | 0 to 80 | 14 |", "weighted by the numbers of patients",
        "| contract | 2 | 1 |", "Of 12 proofs of learning 10 were accepted.",
        "no approval as a medical device",
        "Quality by age, sex or origin is not released", "no proof shows",
    ):  # fmt: skip
        assert said in card
    with pytest.raises(ModelMissing, match="it was not released"):
        registry.card(registry.models()[0])


@pytest.mark.parametrize("name", ["nothing", "0" * 64, "abc", JOB[:-1]])
def test_a_model_that_is_not_there(registry: Registry, name: str) -> None:
    with pytest.raises(ModelMissing, match="no model is called"):
        registry.find(name)


# a file of it


def test_the_exported_file_predicts_as_the_model_does(folder: Path, registry: Registry) -> None:
    task = tasks.get("breast-cancer")
    patients = task.sites()[0].frame
    module = task.model()
    module.load_state_dict(to_torch(registry.weights(registry.find(JOB).model)))
    with torch.no_grad():
        expected = module(torch.from_numpy(task.encode(patients)))[:, 0]
    session = onnxruntime.InferenceSession(str(folder / "model.onnx"))
    said = session.get_modelmeta().custom_metadata_map
    columns = json.loads(said["medpole.columns"])
    logit, probability = session.run(
        ["logit", "probability"], {"columns": patients[columns].to_numpy(np.float64)}
    )
    assert len(patients) > 100
    np.testing.assert_allclose(logit, expected.numpy(), atol=1e-5)
    np.testing.assert_allclose(probability, torch.sigmoid(expected).numpy(), atol=1e-5)
    assert (said["medpole.job"], said["medpole.ledger"]) == (JOB, registry.ledger)
    assert read_model(folder / "model.safetensors").metadata.items() <= said.items()


def test_a_file_is_whole_or_not_there_and_replaces_none(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "model.onnx"
    out.write_bytes(b"mine")
    assert consortium(*export(out, "onnx"), "--home", home) == 1
    with pytest.raises(ExportExists):
        write_new(out, b"other")
    assert out.read_bytes() == b"mine"

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            write_new(tmp_path / "other", b"whole")
    with monkeypatch.context() as patch:  # a file system without links
        patch.setattr("os.link", full)
        write_new(tmp_path / "another", b"whole")
    assert (tmp_path / "another").read_bytes() == b"whole"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["another", "model.onnx"]


def test_export_of_what_an_export_does_not_hold(folder: Path, home: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    assert consortium("ledger", "export", "--home", home, "--out", bare) == 0
    registry = registry_of_export(bare)
    with pytest.raises(ContentMissing, match="not in this export"):
        registry.weights(registry.find(JOB).model)
    assert consortium("model", "verify", folder / "model.onnx", "--ledger", bare) == 0
    assert consortium("model", "verify", folder / "model.onnx", "--ledger", bare, "--rounds") == 1
    late = tmp_path / "late"
    range = ("--from-height", "3", "--out", late)
    assert consortium("ledger", "export", "--home", home, *range) == 0
    registry = registry_of_export(late)
    with pytest.raises(ModelMissing, match="not in this part of the ledger"):
        registry.lineage(registry.find(JOB))


def test_an_untrained_model_needs_not_be_stored(
    home: Path, registry: Registry, tmp_path: Path
) -> None:
    initial = registry.models()[0].model
    with open_ledger(home, shared=True) as (local, _):
        local.models.path(initial).unlink()
    assert consortium(*export(tmp_path / "file", "safetensors", initial), "--home", home) == 0
    assert model_hash(read_model(tmp_path / "file").weights) == initial


def test_options_that_do_not_go_together(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert consortium(*export(out, "safetensors"), "--inputs", "columns", "--home", home) == 1
    assert consortium(*export(out, "pickle"), "--home", home) == 2
    assert consortium("model", "list", "--genesis", "0" * 64, "--home", home) == 1
    assert consortium("model", "list", "--job", "nothing", "--home", home) == 1
    assert not out.exists()


# the proof


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_a_file_is_proved_to_be_the_jobs(
    folder: Path, released: str, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    genesis = registry_id(folder)
    file = folder / f"model.{form}"
    verify = ("model", "verify", file, "--genesis", genesis, "--ledger")
    said = answer(capsys, *verify, folder / "ledger", "--rounds")
    assert said["verdict"] == "verified against the pinned genesis"
    assert (said["model"], said["job"], said["what"]) == (
        released, JOB, "released after round 3",
    )  # fmt: skip
    assert (said["participants"], said["fewest_cosigners"]) == (HOSPITALS, 4)
    assert (said["rounds_derived"], said["proofs"]) == (3, "10 accepted, 2 not")
    assert ("built anew, the same" in said["graph"]) == (form == "onnx")
    archived = answer(capsys, *verify, folder / "ledger.tar")
    assert archived["lineage"] == said["lineage"]
    assert archived["rounds_derived"] is None
    assert consortium(*verify, folder / "ledger") == 0
    assert "no: --rounds does" in capsys.readouterr().out


def registry_id(folder: Path) -> str:
    return str(json.loads((folder / "ledger/manifest.json").read_text())["ledger"])


def test_models_of_rounds_and_other_inputs_are_proved_too(
    folder: Path, registry: Registry, tmp_path: Path
) -> None:
    for number, named in enumerate(registry.models()):
        out = tmp_path / f"{number}.onnx"
        arguments = (*export(out, "onnx", named.model), "--inputs", "inputs")
        assert consortium(*arguments, "--ledger", folder / "ledger") == 0
        assert trace(read_model(out), registry).lineage.named == named


def test_weights_alone_are_proved_too(folder: Path, registry: Registry, released: str) -> None:
    """As the portal, the API and an export's own folder give them."""
    traced = trace(read_model(folder / "ledger/models" / released), registry)
    assert (traced.label, traced.lineage.named.kind) == ("none in the file", "released")


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_one_changed_weight_is_found(
    folder: Path, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = tmp_path / f"changed.{form}"
    found = read_model(folder / f"model.{form}")
    weights = {name: np.array(array) for name, array in found.weights.items()}
    flat = weights["weight"].reshape(-1)
    flat[7] = np.nextafter(flat[7], np.float32(9))  # by its last bit
    if found.onnx is None:
        changed.write_bytes(to_bytes(weights, found.metadata))
    else:
        for initializer in found.onnx.graph.initializer:
            initializer.raw_data = weights[initializer.name].tobytes()
        changed.write_bytes(onnx_file.to_bytes(found.onnx))
    capsys.readouterr()
    assert consortium("model", "verify", changed, "--ledger", folder / "ledger") == 1
    error = capsys.readouterr().err
    assert error.startswith("error[ModelUnproven]: no record of ledger")
    assert "so its weights were changed" in error


def _swap(model: Any) -> None:
    next(node for node in model.graph.node if node.op_type == "Sigmoid").op_type = "Tanh"


def _constant(model: Any) -> None:
    node = next(node for node in model.graph.node if node.op_type == "Constant")
    tensor = node.attribute[0].t
    tensor.raw_data = b"\x01" * len(tensor.raw_data)


def _order(model: Any) -> None:
    said = next(one for one in model.metadata_props if one.key == "medpole.columns")
    said.value = json.dumps(json.loads(said.value)[::-1])


def _another_job(model: Any) -> None:
    next(one for one in model.metadata_props if one.key == "medpole.job").value = "heart-disease-9"


def _unlabelled(model: Any) -> None:
    del model.metadata_props[:]


def _words(model: Any) -> None:
    model.doc_string = "Approved."


def _output(model: Any) -> None:
    model.graph.output[1].name = "logit"


def _unknown_field(model: Any) -> None:
    # Field 1000 of the first node, in which the standard has none: three bytes.
    model.graph.node[0].MergeFromString(b"\xc2\x3e\x03abc")


def _function(model: Any) -> None:
    model.functions.add(name="Gemm", domain="elsewhere")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_swap, "layers"),
        (_constant, "layers"),
        (_order, "metadata"),
        (_another_job, "metadata"),
        (_unlabelled, "metadata"),
        (_words, "beside its graph"),
        (_output, "outputs"),
        (_function, "beside its graph"),
        (_unknown_field, "layers"),
    ],
)
def test_a_graph_that_is_not_the_tasks_is_found(
    folder: Path, registry: Registry, change: Callable[[Any], None], match: str, tmp_path: Path
) -> None:
    model = onnx_file.read((folder / "model.onnx").read_bytes())
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(onnx_file.to_bytes(model))
    with pytest.raises(ModelUnproven, match=f"differs .* in: .*{match}"):
        trace(read_model(path), registry)


def test_a_safetensors_file_that_says_something_else_is_found(
    folder: Path, registry: Registry, tmp_path: Path
) -> None:
    found = read_model(folder / "model.safetensors")
    path = tmp_path / "changed"
    for name, value in (("medpole.job", "other-1"), ("medpole.block", "4"), ("approved", "yes")):
        path.write_bytes(to_bytes(found.weights, {**found.metadata, name: value}))
        with pytest.raises(ModelUnproven, match=f"what the file says .* {name}"):
            trace(read_model(path), registry)


def test_nothing_hides_beside_what_is_compared(
    folder: Path, registry: Registry, tmp_path: Path
) -> None:
    path, onnx = tmp_path / "changed", (folder / "model.onnx").read_bytes()
    path.write_bytes(b"\x12\x06hidden" + onnx)  # producer_name twice: the last one counts
    with pytest.raises(ModelUnproven, match="how it is written"):
        trace(read_model(path), registry)
    plain = (folder / "model.safetensors").read_bytes()
    size = int.from_bytes(plain[:8], "little")
    header = plain[8 : 8 + size].rstrip().replace(b'"dtype"', b'"note":"hidden","dtype"', 1)
    path.write_bytes(len(header).to_bytes(8, "little") + header + plain[8 + size :])
    with pytest.raises(ModelFileInvalid):
        read_model(path)


def test_a_weights_name_that_is_no_text(folder: Path, tmp_path: Path) -> None:
    onnx = (folder / "model.onnx").read_bytes()
    place = onnx.rindex(b"weight")
    (tmp_path / "file").write_bytes(onnx[:place] + b"\xff" + onnx[place + 1 :])
    with pytest.raises(ModelFileInvalid):
        read_model(tmp_path / "file")


def test_a_task_that_is_another_here_proves_no_graph(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("consortium.tasks.task.Task.fingerprint", lambda self: "0" * 64)
    with pytest.raises(ModelUnproven, match="not the one installed here"):
        trace(read_model(folder / "model.onnx"), registry)
    trace(read_model(folder / "model.safetensors"), registry)


# bad input


@pytest.mark.parametrize("form", ["safetensors", "onnx"])
def test_what_is_no_models_file(folder: Path, form: str, tmp_path: Path) -> None:
    whole = (folder / f"model.{form}").read_bytes()
    path = tmp_path / "file"
    for data in (b"", b"text", bytes(200), whole[:100], whole[:-1], whole[1:], to_bytes({})):
        path.write_bytes(data)
        with pytest.raises(ModelFileInvalid):
            read_model(path)
    with pytest.raises(IsADirectoryError):
        read_model(folder / "ledger")
    verify = ("model", "verify", folder / "ledger.tar", "--ledger", folder / "ledger")
    assert consortium(*verify) == 1


def test_another_ledger(folder: Path, tmp_path: Path) -> None:
    verify = ("model", "verify", folder / "model.onnx", "--ledger")
    assert consortium(*verify, folder / "ledger", "--genesis", "0" * 64) == 1
    with pytest.raises(GenesisMismatch):
        registry_of_export(folder / "ledger", "0" * 64)
    tampered = tmp_path / "tampered"
    shutil.copytree(folder / "ledger", tampered)
    entries = (tampered / "entries.jsonl").read_bytes()
    (tampered / "entries.jsonl").write_bytes(entries.replace(b'"finished"', b'"stopped"'))
    with pytest.raises(LedgerError):
        registry_of_export(tampered)
    assert consortium(*verify, tampered) == 1
    assert consortium(*verify, tmp_path / "nowhere") == 1


def test_without_onnx_safetensors_are_proved_all_the_same(
    folder: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PartMissing, match="onnx, which is not installed"):
        read_model(folder / "model.onnx")
    assert trace(read_model(folder / "model.safetensors"), registry).lineage.named.job == JOB
