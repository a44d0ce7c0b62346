"""One model, by its hash: downloaded, checked to be it, traced to the ledger, loaded."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from consortium.api.schemas import JobDetail, ModelItem, Page
from consortium.client.bound import Async, Bound, Sync, call
from consortium.client.files import whole_file
from consortium.client.ledger import proved, search, wrong_proof
from consortium.client.plan import Plan, fetch, first, get, pages, path, work
from consortium.errors import OptionInvalid, PartMissing
from consortium.model_files.formats import FileFormat, Inputs
from ledger.errors import ContentInvalid, ContentMissing
from ledger.records import Job, parse_record

if TYPE_CHECKING:
    from numpy import float32
    from numpy.typing import NDArray
    from torch import nn

    from ledger.prove import Proved


class ModelCalls(Bound):
    """What can be asked of a model."""

    @property
    def hash(self) -> str:
        """Its name: SHA-256 over its weights, as it stands on the ledger."""
        return self._name

    @call
    def card(self) -> Plan[str]:
        """What it is, of what, by whom, at which privacy (Markdown); of a released model."""
        return _card(self._name)

    @call
    def weights(self) -> "Plan[Mapping[str, NDArray[float32]]]":
        """Its weights by name.

        Raises:
            ContentInvalid: if what came has another hash.
        """
        return _weights(self._name)

    @call
    def download(self, path: str | os.PathLike[str]) -> Plan[Path]:
        """Writes it as a safetensors file, or into the folder ``path`` under its hash.

        Raises:
            ContentInvalid: if what came has another hash; nothing is written then.
        """
        return _download(self._name, Path(path))

    @call
    def export(
        self, path: str | os.PathLike[str], format: str = "onnx", inputs: str | None = None
    ) -> Plan[Path]:
        """Writes it as a new file that says what it is, as `consortium model export` does.

        Args:
            path: the file; there must be none yet.
            format: ``onnx``, which any runtime takes, or ``safetensors``.
            inputs: what an ONNX model takes: ``columns`` of the task's table, as by default where
                it has some, or ``inputs`` that are encoded.

        Raises:
            OptionInvalid: if there is no such format, or no such inputs.
            ContentInvalid: if what came has another hash.
            ExportExists: if the file is there already.
            ModelUnexportable: if the model cannot be written so.
            PartMissing: if onnx or torch is not installed, for ONNX.
        """
        return _export(self._name, Path(path), format, inputs)

    @call
    def verify(self) -> "Plan[Proved]":
        """Traces it to the pinned ledger: its weights have its hash, and a record names the hash.

        The record is proved by the signatures of a quorum, from the genesis on.

        Raises:
            OptionInvalid: if no genesis is pinned.
            ContentInvalid: if what came has another hash.
            LedgerError: if the proof does not hold, or is another ledger's.
        """
        return _verify(self._name, self._genesis)

    @call
    def torch(self) -> "Plan[nn.Module]":
        """The task's module with these weights, to predict with.

        Raises:
            ContentInvalid: if what came has another hash.
            PartMissing: if torch is not installed.
        """
        return _torch(self._name)


class ModelHandle(ModelCalls, Sync):
    """A model. Its methods block."""


class AsyncModelHandle(ModelCalls, Async):
    """A model. Its methods are awaited."""


def _card(name: str) -> Plan[str]:
    answer = yield from get(path("models", name, "card"))
    return answer.body.decode()


def _weights(name: str) -> "Plan[Mapping[str, NDArray[float32]]]":
    answer = yield from get(path("models", name))
    weights = yield from work(lambda: _checked(name, answer.body))
    return weights


def _download(name: str, out: Path) -> Plan[Path]:
    target = out / f"{name}.safetensors" if out.is_dir() else out
    with whole_file(target) as (file, partial):
        yield from get(path("models", name), into=file)
        file.flush()
        yield from work(lambda: _checked(name, partial.read_bytes()))
    return target


def _export(name: str, out: Path, format: str, inputs: str | None) -> Plan[Path]:
    try:
        form, taken = FileFormat(format), Inputs(inputs) if inputs else None
    except ValueError:
        raise OptionInvalid(
            f"models are not written as {format[:20]!r} that takes {str(inputs)[:20]!r}",
            "format is onnx or safetensors; inputs are columns, image, inputs, or None",
        ) from None
    weights = yield from _weights(name)
    index, job = yield from _named_by(name)
    models = pages(Page[ModelItem], "/v1/models", {"job": job})
    item = yield from first(models, lambda one: one.index == index)
    detail = yield from fetch(JobDetail, path("jobs", job))
    assert item is not None

    def write() -> Path:
        from consortium.lineage import NamedModel
        from consortium.model_files.files import model_bytes, write_new

        contract = parse_record(detail.contract)
        assert isinstance(contract, Job)
        place = item.index, item.height, item.time
        named = NamedModel(name, item.kind, job, item.round, *place)
        write_new(out, model_bytes(form, named, contract, weights, taken))
        return out

    written = yield from work(write)
    return written


def _verify(name: str, genesis: str | None) -> "Plan[Proved]":
    if genesis is None:
        raise OptionInvalid(
            "there is no fingerprint to verify the model against",
            "give the ledger's, from somebody you trust: Consortium(url, genesis=FINGERPRINT)",
        )
    yield from _weights(name)
    index, _ = yield from _named_by(name)
    found = yield from proved(index, genesis)
    record: Any = found.record
    named = [getattr(record, key, None) for key in ("initial_model", "model_after", "model")]
    if name not in named:
        raise wrong_proof(f"record {index} does not name this model")
    return found


def _torch(name: str) -> "Plan[nn.Module]":
    def load() -> "nn.Module":
        try:
            from consortium import tasks
            from consortium.weights import to_torch

            module = tasks.get(detail.job.task).model()
            module.load_state_dict(to_torch(weights))
        except ModuleNotFoundError as error:
            raise _missing("loading a model with torch", error, "agent") from None
        return module.eval()

    weights = yield from _weights(name)
    _, job = yield from _named_by(name)
    detail = yield from fetch(JobDetail, path("jobs", job))
    module = yield from work(load)
    return module


def _named_by(name: str) -> Plan[tuple[int, str]]:
    """A record that names a model, and the record's job: the model's release, else the first."""
    found = search(name)
    release = yield from first(found, lambda one: (one.what, one.hash) == ("model", name))
    if release is not None and release.job is not None:
        return release.index, release.job
    models = pages(Page[ModelItem], "/v1/models")
    item = yield from first(models, lambda one: one.model == name)
    if item is None:
        raise ContentMissing(f"no record names the model {name[:16]}…", "see models() for all")
    return item.index, item.job


def _checked(name: str, data: bytes) -> "Mapping[str, NDArray[float32]]":
    try:
        from consortium.errors import RoundInvalid
        from consortium.weights import from_bytes
        from ledger.content import model_hash
    except ModuleNotFoundError as error:
        raise _missing("checking a model", error, "client") from None
    try:
        weights = from_bytes(data)
        same = model_hash(weights) == name
    except RoundInvalid:
        same = False
    if not same:
        raise ContentInvalid(
            f"what came is not the model {name[:16]}…",
            "ask again; if it stays so, tell the consortium's admin",
        )
    return weights


def _missing(what: str, error: ModuleNotFoundError, extra: str) -> PartMissing:
    return PartMissing(
        f"{what} needs {error.name}, which is not installed", f"pip install 'medpole[{extra}]'"
    )
