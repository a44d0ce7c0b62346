"""A model's file: written with its label, read with whatever it holds.

Safetensors is weights and label, for whoever has the task's code. ONNX is the whole computation,
from a table's columns to a probability, for any runtime.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from consortium.errors import ModelUnexportable, RoundInvalid
from consortium.lineage import NamedModel
from consortium.model_files import onnx_file
from consortium.model_files.formats import FileFormat, Inputs
from consortium.model_files.label import label_of
from consortium.weights import from_bytes, to_bytes
from ledger.content import Weights
from ledger.errors import ExportExists
from ledger.records import Job

if TYPE_CHECKING:
    from onnx import ModelProto

    from consortium.tasks.task import Task


@dataclass(frozen=True)
class ModelFile:
    """What a model's file holds. ``onnx``: all of it, where it is of that format; ``data``: its
    bytes."""

    format: FileFormat
    weights: Weights
    metadata: dict[str, str]
    onnx: "ModelProto | None" = None
    data: bytes = b""


def model_bytes(
    format: FileFormat, named: NamedModel, contract: Job, weights: Weights,
    inputs: Inputs | None = None,
) -> bytes:  # fmt: skip
    """A model's file.

    Args:
        format: what it is written as.
        named: the model, where a record names it.
        contract: its job's.
        weights: its own.
        inputs: what an ONNX model takes (`onnx_file.build`).

    Raises:
        ModelUnexportable: if it cannot be written as ONNX.
        PartMissing: if onnx or torch is not installed, for ONNX.
    """
    label = label_of(named, contract)
    if format is FileFormat.SAFETENSORS:
        return to_bytes(weights, label)
    task = task_of(contract)
    return onnx_file.to_bytes(onnx_file.build(task, weights, label, inputs))


def task_of(contract: Job) -> "Task":
    """The task that a job was of, if it is the one installed here.

    Raises:
        ModelUnexportable: if it is not.
        PartMissing: if what tasks are made of is not installed.
    """
    try:
        from consortium import tasks
        from consortium.tasks.errors import TaskUnknown
    except ModuleNotFoundError as error:
        raise onnx_file.missing(error) from None

    try:
        task = tasks.get(contract.task)
    except TaskUnknown:
        task = None
    if task is None or task.fingerprint() != contract.task_fingerprint:
        raise ModelUnexportable(
            f"the task {contract.task} of {contract.job} is not the one installed here, so nothing "
            "tells the layers around the weights",
            "use the version of MedPoLe that the job ran with, or a safetensors file",
        )
    return task


def read_model(path: Path) -> ModelFile:
    """Reads a model's file, of either format. Nothing in it is believed yet.

    Raises:
        ModelFileInvalid: if it is no model's file, or a torn one.
        PartMissing: if onnx is not installed, for ONNX.
    """
    data = path.read_bytes()
    if _is_safetensors(data):
        try:
            weights = from_bytes(data)
        except RoundInvalid:
            raise onnx_file.invalid("it is no whole safetensors file") from None
        if not weights:
            raise onnx_file.invalid("it is a safetensors file without weights")
        return ModelFile(FileFormat.SAFETENSORS, weights, _metadata(data))
    model = onnx_file.read(data)
    metadata = onnx_file.metadata_of(model)
    return ModelFile(FileFormat.ONNX, onnx_file.weights_of(model), metadata, model, data)


def write_new(path: Path, data: bytes) -> None:
    """Writes a new file, whole or not at all.

    Raises:
        ExportExists: if there is one of this name; it is left as it is.
        OSError: if it cannot be written.
    """
    exists = ExportExists(f"{path} is there already", "name a new file with --out")
    if os.path.lexists(path):
        raise exists
    partial = path.with_name(f".{path.name}.{token_hex(4)}.partial")
    try:
        with partial.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(partial, path)  # never replaces what somebody else wrote meanwhile
        except FileExistsError:
            raise exists from None
        except OSError:  # a file system without links, as on a stick
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def _is_safetensors(data: bytes) -> bool:
    """As the format says it of itself: the header's length in 8 bytes, then its JSON."""
    return data[8:9] == b"{" and 2 <= int.from_bytes(data[:8], "little") < 2**27


def _metadata(data: bytes) -> dict[str, str]:
    """What a safetensors file says of itself. Beside it there is nothing but weights.

    Raises:
        ModelFileInvalid: if there is.
    """
    text = data[8 : 8 + int.from_bytes(data[:8], "little")]
    header: Any = json.loads(text, object_pairs_hook=_once)
    metadata = header.pop("__metadata__", None) or {}
    if any(set(entry) != {"dtype", "shape", "data_offsets"} for entry in header.values()):
        raise onnx_file.invalid("something stands in it beside weights and metadata")
    return dict(metadata)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise onnx_file.invalid("a name stands twice in its header")
    return dict(pairs)
