"""The API for jobs: what institutions offer, how far jobs are, what runs at this moment."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from pydantic import BaseModel, ConfigDict, Field

from consortium.coordinator.live import LiveState
from consortium.job_state import job_states
from consortium.offers import Offers
from ledger.records import Name
from ledger.store import LedgerStore

MOST_TASKS = 100


class TaskOffers(BaseModel):
    """Declared patients by task: public round numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)
    tasks: Annotated[
        dict[Name, Annotated[int, Field(ge=1, le=10**9)]], Field(max_length=MOST_TASKS)
    ]


def jobs_router(
    home: Path,
    store: LedgerStore,
    institution: Callable[..., str],
    caller: Callable[..., str],
) -> APIRouter:
    """The routes. ``institution`` and ``caller`` are the dependencies that say who asks."""
    router = APIRouter(prefix="/v1")

    @router.put("/institutions/self/offers", status_code=204)
    def put_offers(
        who: Annotated[str, Depends(institution)], offers: Annotated[TaskOffers, Body()]
    ) -> None:
        Offers(home).put(who, offers.tasks)

    @router.get("/jobs", dependencies=[Depends(caller)])
    def jobs() -> list[dict[str, Any]]:
        return [state.body() for state in job_states(store, LiveState(home).read())]

    return router
