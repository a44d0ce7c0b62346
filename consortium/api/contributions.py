"""The API for contributions: how each hospital's proof fared in each attempt at a round.

A page is read from the results on the ledger; a cursor names a result, and a place in it.
"""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from consortium.api.callers import Permissions
from consortium.api.pages import Cursor, Limit, Order, past
from consortium.api.schemas import Contribution, Page
from consortium.standing import credits_of
from ledger.listing import Listed
from ledger.records import Name as RecordName
from ledger.records import Result
from ledger.store import LedgerStore

Name = Annotated[RecordName | None, Query()]
_RESULTS_AT_ONCE = 50


def contributions_router(store: LedgerStore, allowed: Permissions) -> APIRouter:
    """The route."""
    router = APIRouter(prefix="/v1", tags=["contributions"])

    @router.get("/contributions", dependencies=[Depends(allowed.everyone)])
    def contributions(
        job: Name = None,
        institution: Name = None,
        limit: Limit = 50,
        cursor: Cursor = None,
        order: Order = Order.OLDEST,
    ) -> Page[Contribution]:
        """Proofs that were judged, and absences, of a job, an institution or all."""
        items: list[Contribution] = []
        last = None
        for place, item in _from(store, job, cursor, order is Order.NEWEST):
            if institution not in (None, item.institution):
                continue
            if len(items) == limit:
                return Page[Contribution](items=items, next=last)
            items.append(item)
            last = place
        return Page[Contribution](items=items)

    return router


def _from(
    store: LedgerStore, job: str | None, cursor: str | None, newest: bool
) -> Iterator[tuple[str, Contribution]]:
    """Contributions with their places, from behind a cursor on."""
    index = past(cursor)
    done = int(cursor.partition("-")[2] or 0) if cursor else 0
    # The cursor's own result once more: it may not be done with.
    index = None if index is None else index + 1 if newest else index - 1
    while found := store.listing.entries(
        ("result",), job, past=index, limit=_RESULTS_AT_ONCE, newest_first=newest
    ):
        for listed in found:
            for position, item in enumerate(_of(listed), 1):
                if position > done:
                    yield f"{listed.index}-{position}", item
            done = 0
            index = listed.index


def _of(listed: Listed) -> list[Contribution]:
    result = listed.entry.stored
    assert isinstance(result, Result)
    proved = {proof.institution for proof in result.proofs}
    return [
        Contribution(
            index=listed.index, job=result.job, round=result.round, attempt=result.attempt,
            institution=proof.institution, code=proof.code, phase=None,
            score=proof.score, shapley=proof.shapley,
            credits=credits_of(result, proof.institution),
            learner=proof.institution == result.learner,
        )
        for proof in result.proofs
    ] + [
        Contribution(
            index=listed.index, job=result.job, round=result.round, attempt=result.attempt,
            institution=gone.institution, code=gone.code, phase=gone.phase,
            score=None, shapley=None, learner=False,
            # A verdict is paid to who revealed nothing too; beside a proof it is counted already.
            credits=0 if gone.institution in proved else credits_of(result, gone.institution),
        )
        for gone in result.absent
    ]  # fmt: skip
