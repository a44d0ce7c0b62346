"""The API for models: which there are, their weights, and a card that says what one is."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from consortium.api.caching import tagged
from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, page_of, past
from consortium.api.schemas import ModelItem, Page
from consortium.lineage import TYPES, NamedModel, lineage_of, named_models
from consortium.model_card import model_card
from consortium.model_files.files import model_bytes
from consortium.model_files.formats import FileFormat
from consortium.models import ModelStore
from consortium.standing import JobStanding, Placed, Standing
from ledger.content import ContentStore
from ledger.errors import ContentMissing
from ledger.listing import Listed
from ledger.records import Evaluation, Job, JobEnd, Name, Result
from ledger.store import LedgerStore

Digest = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$", examples=["0a" * 32])]
JobName = Annotated[Name | None, Query()]
_BYTES: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string"}}}}
}
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/markdown": {"schema": {"type": "string"}}}}
}


def models_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, content: ContentStore,
    models: ModelStore,
) -> APIRouter:  # fmt: skip
    """The routes."""
    router = APIRouter(prefix="/v1", tags=["models"])
    anyone = [Depends(allowed.everyone)]

    @router.get("/models", dependencies=anyone)
    def all_models(
        job: JobName = None, limit: Limit = 50, cursor: Cursor = None, order: Order = Order.OLDEST
    ) -> Page[ModelItem]:
        """The models that the ledger names, by the record that names them; a cursor is an index."""
        types = ("job", "result", "job-end")
        found = store.listing.entries(
            types, job, past=past(cursor), limit=limit + 1, newest_first=order is Order.NEWEST
        )
        with standing.jobs() as jobs:
            tasks = {name: job.contract.task for name, job in jobs.items()}
        return page_of([_item(one, tasks) for one in found], limit, lambda item: str(item.index))

    @router.get(
        "/models/{model}", dependencies=[Depends(allowed.models)], response_class=Response,
        responses=_BYTES,
    )  # fmt: skip
    def weights(model: Digest, request: Request) -> Response:
        """A model's weights: a safetensors file, named by the hash of what is in it."""
        data = models.path(model).read_bytes()
        return tagged(request, model, lambda: _binary(data))

    def released(model: str) -> JobStanding:
        """The job that released a model; it is over, so it changes no more."""
        with standing.jobs() as jobs:
            found = [j for j in jobs.values() if j.end and j.end.record.model == model]
        if not found:
            raise ContentMissing(
                f"no job released the model {model[:16]}", "see /v1/models for those released"
            )
        return found[-1]

    @router.get(
        "/models/{model}/onnx", dependencies=[Depends(allowed.models)], response_class=Response,
        responses=_BYTES,
    )  # fmt: skip
    def onnx(model: Digest) -> Response:
        """A released model as ONNX: from a table's columns to a probability, in any runtime."""
        job = released(model)
        contract, end = job.contract, job.end
        assert end is not None
        place = end.index, end.height, end.time
        named = NamedModel(model, "released", contract.job, end.record.rounds, *place)
        return _binary(model_bytes(FileFormat.ONNX, named, contract, models.get(model)))

    @router.get(
        "/models/{model}/card", dependencies=anyone, response_class=Response, responses=_TEXT
    )
    def card(model: Digest) -> Response:
        """What a released model is, of what, by whom, at which privacy: from the ledger."""
        job = released(model)
        types = (*TYPES, "evaluation")
        listed = store.listing.entries(types, job.contract.job, limit=None)
        records = [Placed(one.entry.stored, one.index, one.height, one.time) for one in listed]
        said = [one.record for one in records if isinstance(one.record, Evaluation)]
        (named,) = [one for one in named_models(records) if one.kind == "released"]
        text = model_card(lineage_of(store.chain().ledger, named, records), job, said)
        return Response(text, media_type="text/markdown")

    @router.get(
        "/content/{digest}", dependencies=[Depends(allowed.members)], response_class=Response,
        responses=_BYTES,
    )  # fmt: skip
    def update(digest: Digest, request: Request) -> Response:
        """A revealed update, for the members who check it."""
        data = content.get(digest)
        return tagged(request, digest, lambda: _binary(data))

    return router


def _binary(data: bytes) -> Response:
    return Response(data, media_type="application/octet-stream")


def _item(listed: Listed, tasks: dict[str, str]) -> ModelItem:
    record = listed.entry.record
    named: tuple[Literal["initial", "round", "released"], str, int | None]
    if isinstance(record, Job):
        named = "initial", record.initial_model, None
    elif isinstance(record, Result):
        named = "round", record.model_after, record.round
    else:
        assert isinstance(record, JobEnd)
        named = "released", record.model, record.rounds
    kind, model, round = named
    return ModelItem(
        model=model, job=record.job, task=tasks.get(record.job, ""), kind=kind, round=round,
        index=listed.index, height=listed.height, time=listed.time,
    )  # fmt: skip
