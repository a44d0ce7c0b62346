"""Proves from a verified ledger that a file's weights came out of a job, and nothing was added.

In this order: the weights' hash is computed from the weights in the file; a record of the ledger
names it; what the file says of itself is what the ledger says; and of an ONNX file, the whole graph
is the one that the task's layers and these weights give, built anew here and compared field by
field, unknown ones too. One weight, one constant, one activation, one word that differs, and the
file is unproven.

That the named model follows from the hospitals' proofs is another question, which deriving the
rounds anew answers (`consortium.audit`). That it is good, safe or private is none of the two.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from consortium.errors import ModelMissing, ModelUnexportable, ModelUnproven
from consortium.lineage import Lineage, NamedModel, namings
from consortium.model_files import onnx_file
from consortium.model_files.files import ModelFile, task_of
from consortium.model_files.formats import FileFormat, Inputs
from consortium.model_files.label import label_of, stated
from consortium.registry import Registry
from ledger.content import model_hash

_RESOLVE = (
    "do not use the file; export the model anew with `consortium model export`, or ask whoever "
    "gave you the file for the original"
)


@dataclass(frozen=True)
class ModelTraced:
    """What was found to hold of a file. ``graph``, ``label``: what stands in it besides weights."""

    format: FileFormat
    lineage: Lineage
    graph: str
    label: str


def trace(file: ModelFile, registry: Registry) -> ModelTraced:
    """Finds a file's model on a ledger that was verified, and compares all else in the file.

    Raises:
        ModelUnproven: naming the first thing that does not follow from the ledger.
        PartMissing: if onnx or torch is not installed, for ONNX.
    """
    name = model_hash(file.weights)
    try:
        found = namings(registry.models(), name)
    except ModelMissing:
        raise _unproven(
            f"no record of ledger {registry.ledger[:16]}… names the model {name[:16]}… that the "
            "file's weights are", file, name,
        ) from None  # fmt: skip
    if not file.metadata and file.onnx is None:
        lineage = registry.lineage(found[0])
        return ModelTraced(file.format, lineage, "not in the file", "none in the file")
    lineage = registry.lineage(_meant(file, found))
    label = label_of(lineage.named, lineage.contract.record)
    if file.onnx is None:
        _compare_label(file.metadata, label)
        return ModelTraced(file.format, lineage, "not in the file", "as the ledger says")
    _compare_graph(file, lineage)
    return ModelTraced(
        file.format, lineage, "built anew, the same in every field", "as the ledger says"
    )


def _meant(file: ModelFile, found: Sequence[NamedModel]) -> NamedModel:
    """Of several records that name one model, the one that the file says."""
    wanted = [stated(file.metadata, name) for name in ("job", "record")]
    same = [one for one in found if [one.job, str(one.index)] == wanted]
    return (same or list(found))[0]


def _compare_label(found: dict[str, str], expected: dict[str, str]) -> None:
    differing = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if differing:
        raise ModelUnproven(
            "the weights are this ledger's, but what the file says of itself is not what the "
            f"ledger says: {', '.join(name[:40] for name in differing[:5])}",
            _RESOLVE,
        )


def _compare_graph(file: ModelFile, lineage: Lineage) -> None:
    assert file.onnx is not None
    inputs = stated(file.metadata, "inputs")
    try:
        chosen = Inputs(inputs) if inputs in list(Inputs) else None
        task = task_of(lineage.contract.record)
        expected = onnx_file.build(
            task, file.weights, label_of(lineage.named, lineage.contract.record), chosen
        )
    except ModelUnexportable as error:
        raise ModelUnproven(
            f"the weights are this ledger's, but their graph cannot be built anew: {error.what}",
            "use the version of MedPoLe that the job ran with, or verify its safetensors file",
        ) from None
    differing = onnx_file.differences(file.onnx, expected)
    if not differing and file.data != onnx_file.to_bytes(
        expected
    ):  # said twice, say: the last counts
        differing = ["how it is written"]
    if differing:
        raise ModelUnproven(
            "the weights are this ledger's, but the file differs from what is exported of them "
            f"in: {', '.join(differing)}",
            _RESOLVE,
        )


def _unproven(what: str, file: ModelFile, name: str) -> ModelUnproven:
    claimed = stated(file.metadata, "model")
    if claimed is not None and claimed != name:
        what += f"; the file says that it is {claimed[:16]}…, so its weights were changed"
    return ModelUnproven(what, _RESOLVE)
