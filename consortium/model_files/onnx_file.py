"""A model as an ONNX file: one exact graph for each task and its weights, so it can be rebuilt.

The graph's initializers are the weights and nothing else, each under its torch name; all other
numbers are constants of the task. Outputs are ``logit`` and ``probability``, float32 [n]. The input
is ``columns``, float64 [n, columns], as they stand in the task's table, NaN for what is missing; or
``image``, float32 [n, 1, side, side], grey values; or, where it is asked for, ``inputs``, float32
[n, ...], already encoded.
"""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from consortium.errors import ModelFileInvalid, ModelUnexportable, PartMissing
from consortium.model_files.formats import Inputs
from consortium.tasks.image import Images
from consortium.tasks.schema import Table
from ledger.content import Weights

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

    from consortium.tasks.task import Task

OPSET: Final = 21
_IR: Final = 10  # the first with this opset
_LOGIT: Final = "logit"
_PROBABILITY: Final = "probability"


def build(
    task: "Task", weights: Weights, label: Mapping[str, str], inputs: Inputs | None = None
) -> "ModelProto":
    """The model of a task as ONNX.

    Args:
        task: gives the layers and, for columns, their encoding.
        weights: float32 arrays by torch name.
        label: metadata.
        inputs: what it takes; None: columns, or an image, whichever the task is of.

    Raises:
        ModelUnexportable: if the weights are not this task's model's, or a layer has no rule.
        PartMissing: if onnx or torch is not installed.
    """
    helper, numpy_helper = _onnx("helper"), _onnx("numpy_helper")
    raw = _raw(task)
    chosen = inputs or raw
    if chosen not in (raw, Inputs.ENCODED):
        raise ModelUnexportable(
            f"the task {task.name} takes no {chosen.value}",
            f"export it with --inputs {raw.value} or --inputs {Inputs.ENCODED.value}",
        )
    module = _module(task)
    _check_form(module, weights)
    nodes, entrance = _nodes(task, module, chosen)
    outputs = [
        helper.make_tensor_value_info(name, helper.TensorProto.FLOAT, ["patients"])
        for name in (_LOGIT, _PROBABILITY)
    ]
    initializers = [
        numpy_helper.from_array(np.ascontiguousarray(weights[name]), name)
        for name in sorted(weights)
    ]
    graph = helper.make_graph(nodes, task.name, [entrance], outputs, initializers)
    model: ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=_IR,
        producer_name="medpole",
    )  # fmt: skip
    columns = json.dumps([f.name for f in task.features] if chosen is Inputs.COLUMNS else [])
    more = {"opset": str(OPSET), "inputs": chosen.value, "columns": columns}
    own = {f"medpole.{name}": value for name, value in more.items()}
    helper.set_model_props(model, {**label, **own})
    _check(model)
    return model


def to_bytes(model: "ModelProto") -> bytes:
    """The file."""
    return bytes(model.SerializeToString(deterministic=True))


def read(data: bytes) -> "ModelProto":
    """The model in an ONNX file.

    Raises:
        ModelFileInvalid: if it is not one.
        PartMissing: if onnx is not installed.
    """
    onnx = _onnx()
    from google.protobuf.message import DecodeError

    model: ModelProto = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise invalid("it is neither safetensors nor a whole ONNX file") from None
    if not model.ir_version or not model.graph.initializer:
        raise invalid("it is neither safetensors nor an ONNX file with weights in it")
    return model


def metadata_of(model: "ModelProto") -> dict[str, str]:
    """What the file says of itself."""
    return {prop.key: prop.value for prop in model.metadata_props}


def weights_of(model: "ModelProto") -> dict[str, NDArray[Any]]:
    """The initializers, to the bit.

    Raises:
        ModelFileInvalid: if one is malformed, lies in another file, or there are two of one name.
    """
    numpy_helper, tensor = _onnx("numpy_helper"), _onnx().TensorProto
    weights: dict[str, NDArray[Any]] = {}
    for initializer in model.graph.initializer:
        if initializer.name in weights or initializer.data_location == tensor.EXTERNAL:
            raise invalid("its weights are not each once in the file itself")
        if not isinstance(initializer.name, str):  # bytes that are no text
            raise invalid("a weight's name is no text")
        try:
            weights[initializer.name] = numpy_helper.to_array(initializer)
        except (ValueError, TypeError, KeyError, NotImplementedError):
            raise invalid("one of its weights is malformed") from None
    return weights


def differences(found: "ModelProto", expected: "ModelProto") -> list[str]:
    """In which parts a file differs from the one that would be written; none if it is the same."""
    parts = {
        "layers": lambda m: [_bytes(node) for node in m.graph.node],
        "inputs": lambda m: [_bytes(one) for one in m.graph.input],
        "outputs": lambda m: [_bytes(one) for one in m.graph.output],
        "metadata": metadata_of,
    }
    named = [name for name, part in parts.items() if part(found) != part(expected)]
    if not named and _bytes(found) != _bytes(expected):
        named = ["what stands beside its graph and metadata"]
    return named


def invalid(what: str) -> ModelFileInvalid:
    """A file that is no model's."""
    return ModelFileInvalid(
        f"this is not a model's file: {what}",
        "give a file that `consortium model export` wrote, or one from the portal, whole",
    )


def _bytes(message: Any) -> bytes:
    return bytes(message.SerializeToString(deterministic=True))


def _module(task: "Task") -> "nn.Module":
    try:
        return task.model()
    except ModuleNotFoundError as error:
        raise missing(error) from None


def _check_form(module: "nn.Module", weights: Weights) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    given = {name: array.shape for name, array in weights.items()}
    if own != given or any(array.dtype != np.float32 for array in weights.values()):
        raise ModelUnexportable(
            "these weights are not of the model that the task has in this version",
            "use the version of MedPoLe that the job ran with, or export it as safetensors",
        )


def _raw(task: "Task") -> Inputs:
    """What the task's inputs are before they are encoded, as far as a graph can encode them."""
    if isinstance(task.inputs, Table):
        return Inputs.COLUMNS
    return Inputs.IMAGE if isinstance(task.inputs, Images) else Inputs.ENCODED


def _nodes(task: "Task", module: "nn.Module", inputs: Inputs) -> tuple[list[Any], Any]:
    from consortium.model_files.columns import add_columns
    from consortium.model_files.image import add_image
    from consortium.model_files.layers import add_layers, input_shape
    from consortium.model_files.nodes import Nodes

    helper = _onnx("helper")
    nodes, impossible = Nodes(), None
    value, kind, shape = inputs.value, helper.TensorProto.FLOAT, input_shape(module)
    if inputs is Inputs.COLUMNS:
        table = task.inputs
        assert isinstance(table, Table)
        kind, shape = helper.TensorProto.DOUBLE, ["patients", len(table.features)]
        value, impossible = add_columns(nodes, table.features, table.common_share, value)
    elif inputs is Inputs.IMAGE:
        shape = ["patients", *task.inputs.shape]
        value = add_image(nodes, value)
    logits = add_layers(nodes, module, value)
    axis = nodes.constant([1], np.int64)
    if impossible is None:
        nodes.add("Squeeze", logits, axis, output=_LOGIT)
    else:
        nothing = nodes.constant(np.nan, np.float32)
        logit = nodes.add("Squeeze", logits, axis)
        nodes.add("Where", impossible, nothing, logit, output=_LOGIT)
    nodes.add("Sigmoid", _LOGIT, output=_PROBABILITY)
    return nodes.all, helper.make_tensor_value_info(inputs.value, kind, shape)


def _check(model: "ModelProto") -> None:
    onnx = _onnx()
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError):
        raise ModelUnexportable(
            "the model cannot be written as ONNX: its layers do not fit together there",
            "export it as safetensors",
        ) from None


def _onnx(part: str | None = None) -> Any:
    try:
        import onnx
        import onnx.checker
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ModuleNotFoundError as error:
        raise missing(error) from None
    return getattr(onnx, part) if part else onnx


def missing(error: ModuleNotFoundError) -> PartMissing:
    """A part that ONNX takes is not installed."""
    return PartMissing(
        f"models as ONNX need {error.name}, which is not installed", "pip install 'medpole[agent]'"
    )
