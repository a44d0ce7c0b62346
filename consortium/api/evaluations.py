"""The API for evaluations: what hospitals let out of how a released model did on their patients."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, page_of, past
from consortium.api.schemas import Estimate, EvaluationItem, GainItem, Page
from consortium.rounds.evaluation import Estimate as Found
from consortium.rounds.evaluation import gain_of, intervals
from ledger.listing import Listed
from ledger.records import Evaluation
from ledger.records import Name as RecordName
from ledger.store import LedgerStore

Name = Annotated[RecordName | None, Query()]


def evaluations_router(store: LedgerStore, allowed: Permissions) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", tags=["models"])

    @router.get("/evaluations", dependencies=[Depends(allowed.everyone)])
    def evaluations(
        job: Name = None, institution: Name = None, limit: Limit = 50, cursor: Cursor = None,
        order: Order = Order.OLDEST,
    ) -> Page[EvaluationItem]:  # fmt: skip
        """Released models on hospitals' test patients, with intervals; a cursor is an index."""
        found = store.listing.entries(
            ("evaluation",), job, institution, past=past(cursor), limit=limit + 1,
            newest_first=order is Order.NEWEST,
        )  # fmt: skip
        return page_of([_item(one) for one in found], limit, lambda item: str(item.index))

    return router


def _item(listed: Listed) -> EvaluationItem:
    evaluation = listed.entry.record
    assert isinstance(evaluation, Evaluation)
    return EvaluationItem(
        index=listed.index, height=listed.height, time=listed.time, job=evaluation.job,
        institution=evaluation.author, model=evaluation.model, noised=evaluation.noised,
        positives=evaluation.positives,
        negatives=evaluation.negatives,
        estimates=[
            _estimate(model, measure, found)
            for model, measures in intervals(evaluation).items()
            for measure, found in measures.items()
        ],
        gain=_gain(gain_of(evaluation)),
    )  # fmt: skip


def _estimate(model: str, measure: str, found: Found | None) -> Estimate:
    value, low, high = (found.value, found.low, found.high) if found else (None, None, None)
    return Estimate(model=model, measure=measure, value=value, low=low, high=high)


def _gain(found: Found | None) -> GainItem | None:
    if found is None or found.low is None or found.high is None:
        return None
    return GainItem(value=found.value, low=found.low, high=found.high)
