"""What a model's file says of the model in it, so that it can be traced wherever it is found.

The same in both formats: safetensors' metadata, ONNX's ``metadata_props``. Nothing in it is to be
believed before `consortium.model_files.verification` compared it with the ledger.
"""

from typing import Final

from consortium.lineage import NamedModel
from ledger.records import Job

FORM: Final = "1"
"""Raised whenever the same model would be written otherwise, so that old files stay explained."""

_PREFIX: Final = "medpole."


def label_of(named: NamedModel, contract: Job) -> dict[str, str]:
    """What is written beside a model's weights; ``contract`` is its job's."""
    content = {
        "form": FORM,
        "model": named.model,
        "kind": named.kind,
        "ledger": contract.ledger,
        "job": named.job,
        "rounds": str(named.round or 0),
        "record": str(named.index),
        "block": str(named.height),
        "task": contract.task,
        "task_fingerprint": contract.task_fingerprint,
        "use": "for research; no medical device; see its card: consortium model card",
    }
    return {f"{_PREFIX}{name}": value for name, value in content.items()}


def stated(metadata: dict[str, str], name: str) -> str | None:
    """What a file's metadata say of one thing, None if nothing."""
    return metadata.get(f"{_PREFIX}{name}")
