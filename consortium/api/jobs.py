"""The API for jobs: what was agreed, how far they are, round by round."""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Response

from consortium.api.callers import Permissions
from consortium.api.ledger import page_of_records
from consortium.api.pages import Cursor, Limit, Order, page_of_all, past
from consortium.api.schemas import Job, JobDetail, Page, Place, RecordItem
from consortium.errors import JobMissing
from consortium.job_state import job_state
from consortium.standing import JobStanding, Standing
from ledger.records import Name
from ledger.store import LedgerStore

Live = Callable[[], Mapping[str, Any]]
JobName = Annotated[Name, Path(examples=["heart-disease-1"])]


def jobs_router(
    store: LedgerStore, standing: Standing, allowed: Permissions, live: Live
) -> APIRouter:
    """The routes. ``live`` gives what the coordinator reports of the job that runs."""
    router = APIRouter(prefix="/v1/jobs", tags=["jobs"], dependencies=[Depends(allowed.everyone)])

    @router.get("")
    def jobs(limit: Limit = 50, cursor: Cursor = None, order: Order = Order.OLDEST) -> Page[Job]:
        """All jobs; a cursor is a position."""
        with standing.jobs() as known:
            page = page_of_all(list(known.values()), limit, cursor, order)
            now = live()
            return Page[Job](items=[job_form(job, now) for job in page.items], next=page.next)

    @router.get("/{job}")
    def one(job: JobName) -> JobDetail:
        """A job, with the contract that all its hospitals agreed to."""
        with standing.jobs() as known:
            found = _named(known, job)
            return JobDetail(
                job=job_form(found, live()), index=found.submitted.index,
                contract=found.contract.body(),
            )  # fmt: skip

    @router.get("/{job}/rounds", response_model=Page[RecordItem])
    def rounds(
        job: JobName, limit: Limit = 50, cursor: Cursor = None, order: Order = Order.OLDEST
    ) -> Response:
        """The results of a job's rounds, attempts that were repeated too; a cursor is an index."""
        with standing.jobs() as known:
            _named(known, job)
        found = store.listing.entries(
            ("result",), job, past=past(cursor), limit=limit + 1,
            newest_first=order is Order.NEWEST,
        )  # fmt: skip
        return page_of_records(found, limit)

    return router


def job_form(standing: JobStanding, live: Mapping[str, Any]) -> Job:
    """A job as the API shows it."""
    state, end, submitted = job_state(standing, live), standing.end, standing.submitted
    terms = [participant.terms for participant in standing.contract.participants]
    return Job(
        **state.body(),
        epsilon=max((t.epsilon for t in terms), key=Decimal),
        submitted=Place(height=submitted.height, time=submitted.time),
        ended=Place(height=end.height, time=end.time) if end else None,
        model=end.record.model if end else None,
        rejected=standing.rejected,
        absences=standing.absences,
        void=standing.void,
        repeated=standing.repeated,
    )


def _named(known: Mapping[str, JobStanding], job: str) -> JobStanding:
    if job not in known:
        raise JobMissing(f"no job is called {job}", "see /v1/jobs for all")
    return known[job]
