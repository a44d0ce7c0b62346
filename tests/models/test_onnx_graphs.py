"""A model as ONNX predicts as torch does: each layer's rule, each task's columns."""

import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
from torch import nn

from consortium import tasks
from consortium.errors import ModelFileInvalid, ModelUnexportable, PartMissing
from consortium.model_files import onnx_file
from consortium.model_files.formats import Inputs
from consortium.tasks.errors import DataInvalid
from consortium.tasks.image import Images
from consortium.tasks.network import Mlp
from consortium.tasks.task import Task
from consortium.weights import of_module, to_torch
from ledger.content import model_hash

PATIENTS = 40
DOCS = Path(__file__).parents[2] / "docs" / "models.md"


def task_with(module: nn.Module, **changed: Any) -> Task:
    """What `onnx_file` asks of a task, with any module as its model and no columns."""
    known = {"name": "made-up", "features": (), "inputs": Images(8), "model": lambda: module}
    return cast(Task, SimpleNamespace(**known | changed))


def session(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return onnxruntime.InferenceSession(onnx_file.to_bytes(model), options)


def same(logit: Any, probability: Any, expected: torch.Tensor) -> None:
    assert logit.shape == probability.shape == (len(expected),)
    assert logit.dtype == probability.dtype == np.float32
    np.testing.assert_allclose(logit, expected[:, 0].numpy(), atol=1e-5)
    np.testing.assert_allclose(probability, torch.sigmoid(expected)[:, 0].numpy(), atol=1e-5)


def linear() -> nn.Module:
    return nn.Linear(30, 1)


def perceptron() -> nn.Module:
    return nn.Sequential(
        nn.Linear(13, 8), nn.Tanh(), nn.LayerNorm(8), nn.Dropout(), nn.Linear(8, 6), nn.GELU(),
        nn.Linear(6, 5), nn.SiLU(), nn.Linear(5, 4, bias=False), nn.LeakyReLU(.2), nn.ELU(1.5),
        nn.Identity(), nn.Linear(4, 1),
    )  # fmt: skip


def small_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.GroupNorm(4, 4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, stride=2, dilation=2), nn.GroupNorm(1, 8), nn.Sigmoid(),
        nn.AvgPool2d(2, padding=1), nn.Flatten(), nn.Linear(8 * 3 * 3, 1),
    )  # fmt: skip


def any_size_cnn() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.GELU("tanh"), nn.MaxPool2d(3, 2, ceil_mode=True)
    )
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1))


def signal_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(2, 4, 5, groups=2), nn.ReLU(), nn.AvgPool1d(2), nn.AdaptiveMaxPool1d(1),
        nn.Flatten(), nn.Linear(4, 1),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (linear, (30,)),
        (perceptron, (13,)),
        (small_cnn, (1, 24, 24)),
        (any_size_cnn, (1, 28, 20)),
        (signal_cnn, (2, 50)),
    ],
)
def test_every_layer_acts_as_in_torch(
    make: Callable[[], nn.Module], shape: tuple[int, ...]
) -> None:
    torch.manual_seed(0)
    module = make()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    module.eval()
    weights = of_module(module)
    model = onnx_file.build(task_with(module), weights, {"medpole.job": "job-1"}, Inputs.ENCODED)
    x = torch.randn(PATIENTS, *shape)
    with torch.no_grad():
        expected = module(x)
    same(*session(model).run(None, {"inputs": x.numpy()}), expected)
    again = onnx_file.read(onnx_file.to_bytes(model))
    assert model_hash(onnx_file.weights_of(again)) == model_hash(weights)
    assert sorted(onnx_file.weights_of(again)) == sorted(module.state_dict())
    assert onnx_file.differences(again, model) == []
    said = onnx_file.metadata_of(again)
    assert (said["medpole.job"], said["medpole.opset"]) == ("job-1", "21")


@pytest.mark.parametrize(
    ("layer", "match"),
    [
        (nn.PReLU(), "layer '1' is a PReLU"),
        (nn.LayerNorm(4, elementwise_affine=False), "layer '1' normalises without a scale"),
        (nn.Flatten(0), "layer '1' flattens other axes"),
        (nn.Conv1d(4, 4, 3), "layers do not fit together"),
        (nn.Conv1d(4, 4, 3, padding="same"), "pads otherwise"),
        (nn.AdaptiveAvgPool1d(2), "pools to another size"),
        (nn.AvgPool1d(2, ceil_mode=True), "rounds up"),
        (nn.MaxPool1d(2, return_indices=True), "returns indices"),
    ],
)
def test_a_layer_without_a_rule_is_refused(layer: nn.Module, match: str) -> None:
    module = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1))
    with pytest.raises(ModelUnexportable, match=match):
        onnx_file.build(task_with(module), of_module(module), {}, Inputs.ENCODED)


def test_weights_of_another_form_are_refused() -> None:
    task = task_with(linear())
    for weights in (
        of_module(nn.Linear(29, 1)),
        {name: array.astype(np.float64) for name, array in of_module(linear()).items()},
    ):
        with pytest.raises(ModelUnexportable, match="not of the model"):
            onnx_file.build(task, weights, {})
    with pytest.raises(ModelUnexportable, match="takes no columns"):
        onnx_file.build(task, of_module(linear()), {}, Inputs.COLUMNS)
    with pytest.raises(ModelUnexportable, match="no linear layer"):
        onnx_file.build(task_with(nn.Tanh()), {}, {}, Inputs.ENCODED)


# columns


def table(task: Task, random: np.random.Generator) -> pd.DataFrame:
    """Any patients that the schema allows, at its ends too; one value in ten is missing."""
    columns = {}
    for feature in task.features:
        low, high = float(feature.low), float(feature.high)
        values = random.choice(feature.levels, PATIENTS) if feature.levels else None
        near = random.normal(float(feature.centre), 4 * float(feature.scale), PATIENTS)
        column = np.clip(near, low, high) if values is None else values.astype(float)
        if not feature.levels:
            column[:2] = low, high
        column[random.random(PATIENTS) < 0.1] = np.nan
        columns[feature.name] = column
    return pd.DataFrame(columns)


def trained(task: Task, random: np.random.Generator) -> tuple[nn.Module, dict[str, Any]]:
    module = task.model()
    weights = {
        name: random.normal(0, 0.5, tensor.shape).astype(np.float32)
        for name, tensor in module.state_dict().items()
    }
    module.load_state_dict(to_torch(weights))
    return module, weights


@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("name", [name for name, task in tasks.TASKS.items() if task.features])
def test_columns_are_encoded_as_the_task_does(name: str, hidden: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    task = replace(tasks.get(name), network=Mlp(hidden))
    module, weights = trained(task, random)
    model = onnx_file.build(task, weights, {})
    columns = json.loads(onnx_file.metadata_of(model)["medpole.columns"])
    assert columns == [feature.name for feature in task.features]
    predict = session(model)
    for _ in range(5):
        frame = table(task, random)
        encoded = task.encode(frame)
        with torch.no_grad():
            expected = module(torch.from_numpy(encoded))
        found = predict.run(None, {"columns": frame[columns].to_numpy(np.float64)})
        same(*found, expected)
    plain = session(onnx_file.build(task, weights, {}, Inputs.ENCODED))
    same(*plain.run(None, {"inputs": encoded}), expected)


def test_images_are_scaled_as_the_task_does() -> None:
    task, random = tasks.get("lesion-image"), np.random.default_rng(3)
    module, weights = trained(task, random)
    grey = random.integers(0, 4096, (PATIENTS, *task.inputs.shape)).astype(np.float32)
    grey[0] = 7  # an even image
    encoded = task.encode(pd.DataFrame({"image": list(grey[:, 0])}))
    with torch.no_grad():
        expected = module(torch.from_numpy(encoded))
    same(*session(onnx_file.build(task, weights, {})).run(None, {"image": grey}), expected)
    plain = session(onnx_file.build(task, weights, {}, Inputs.ENCODED))
    same(*plain.run(None, {"inputs": encoded}), expected)
    with pytest.raises(ModelUnexportable, match="takes no columns"):
        onnx_file.build(task, weights, {}, Inputs.COLUMNS)


def test_a_patient_whose_values_are_impossible_gets_no_number() -> None:
    random = np.random.default_rng(2)
    task = tasks.get("heart-disease")
    _, weights = trained(task, random)
    predict = session(onnx_file.build(task, weights, {}))
    frame = table(task, random)
    wrong = [("chol", 5.2), ("chol", np.inf), ("age", -1.0), ("cp", 5.0), ("restecg", 0.5)]
    for row, (column, value) in enumerate(wrong):
        frame.loc[row, column] = value
        with pytest.raises(DataInvalid, match=column):
            task.encode(frame.iloc[[row]])
    logit, probability = predict.run(None, {"columns": frame.to_numpy(np.float64)})
    for found in (logit, probability):
        assert np.isnan(found[: len(wrong)]).all()
        assert np.isfinite(found[len(wrong) :]).all()


def test_the_lines_of_the_docs_predict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(3)
    task = tasks.get("heart-disease")
    _, weights = trained(task, random)
    (tmp_path / "heart.onnx").write_bytes(onnx_file.to_bytes(onnx_file.build(task, weights, {})))
    frame = table(task, random)
    frame["disease"] = 1
    frame.sample(frac=1, axis=1, random_state=0).to_csv(tmp_path / "patients.csv", index=False)
    (lines,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    predict = session(onnx_file.build(task, weights, {}, Inputs.ENCODED))
    np.testing.assert_allclose(
        found["probability"], predict.run(None, {"inputs": task.encode(frame)})[1], atol=1e-5
    )


# reading


def test_what_is_no_onnx_file_is_refused() -> None:
    whole = onnx_file.to_bytes(
        onnx_file.build(task_with(linear()), of_module(linear()), {}, Inputs.ENCODED)
    )
    for data in (b"", b"no model", whole[:50], whole[:-1], bytes(1000)):
        with pytest.raises(ModelFileInvalid):
            onnx_file.read(data)


@pytest.mark.parametrize("change", ["twice", "elsewhere", "short"])
def test_weights_that_are_not_whole_in_the_file_are_refused(change: str) -> None:
    model = onnx_file.build(task_with(linear()), of_module(linear()), {}, Inputs.ENCODED)
    first = model.graph.initializer[0]
    if change == "twice":
        model.graph.initializer.append(first)
    elif change == "elsewhere":
        first.data_location = 1
    else:
        first.raw_data = first.raw_data[:-1]
    with pytest.raises(ModelFileInvalid):
        onnx_file.weights_of(model)


def test_without_onnx_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(PartMissing, match="need onnx"):
        onnx_file.read(b"")
