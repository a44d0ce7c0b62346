"""One job, by its id: its contract, its rounds, and how it goes on."""

from consortium.api.schemas import (
    Account,
    Contribution,
    EvaluationItem,
    Job,
    JobDetail,
    ModelItem,
    Page,
    RecordItem,
)
from consortium.client.bound import Async, Bound, Sync, call, listing
from consortium.client.events import Event, listen
from consortium.client.ledger import Order, check_head
from consortium.client.plan import Emit, Flow, Plan, fetch, pages, path


class JobCalls(Bound):
    """What can be asked of a job."""

    @property
    def id(self) -> str:
        """Its id."""
        return self._name

    @call
    def detail(self) -> Plan[JobDetail]:
        """How far it is, and the contract that all its hospitals agreed to."""
        return fetch(JobDetail, path("jobs", self._name))

    @listing
    def rounds(self, order: Order = "oldest") -> Flow[RecordItem]:
        """The results of its rounds, attempts that were repeated too."""
        return pages(Page[RecordItem], path("jobs", self._name, "rounds"), {"order": order})

    @listing
    def contributions(
        self, institution: str | None = None, order: Order = "oldest"
    ) -> Flow[Contribution]:
        """How each hospital's proof fared in each of its rounds."""
        query = {"job": self._name, "institution": institution, "order": order}
        return pages(Page[Contribution], "/v1/contributions", query)

    @listing
    def evaluations(self, institution: str | None = None) -> Flow[EvaluationItem]:
        """What it released, on hospitals' test patients, as far as the hospitals let it out."""
        query = {"job": self._name, "institution": institution}
        return pages(Page[EvaluationItem], "/v1/evaluations", query)

    @listing
    def credits(self) -> Flow[Account]:
        """What it brought each institution."""
        return pages(Page[Account], "/v1/credits", {"job": self._name})

    @listing
    def models(self, order: Order = "oldest") -> Flow[ModelItem]:
        """Its first model, one a round, and the one it released."""
        return pages(Page[ModelItem], "/v1/models", {"job": self._name, "order": order})

    @listing
    def watch(self) -> Flow[Job]:
        """How it stands now, then whenever that changes, until it has ended."""
        return Flow(_watch(self._name, self._genesis))


class JobHandle(JobCalls, Sync):
    """A job. Its methods block."""


class AsyncJobHandle(JobCalls, Async):
    """A job. Its methods are awaited."""


def _watch(name: str, genesis: str | None) -> Plan[None]:
    last: Job | None = None

    def react(event: Event) -> Plan[bool]:
        nonlocal last
        seen: Job | None = None
        if not isinstance(event, Job):
            # A job that ends while a newer one waits has no event of its own; its block has.
            check_head(event, genesis)
            seen = (yield from fetch(JobDetail, path("jobs", name))).job
        elif event.job == name:
            seen = event
        if seen is None:
            return False
        if seen != last:
            yield Emit(seen)
        last = seen
        return seen.ended is not None

    yield from listen(react)
