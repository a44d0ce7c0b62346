"""One consortium's API, for data scientists: `Consortium` blocks, `AsyncConsortium` is awaited."""

import os
import re
from types import TracebackType
from typing import Self

from consortium.api.schemas import (
    Account,
    Contribution,
    EvaluationItem,
    Forecast,
    Health,
    Institution,
    Job,
    Me,
    ModelItem,
    Page,
    Spend,
    Spending,
    Statement,
)
from consortium.client.bound import Async, Bound, Sync, call, listing
from consortium.client.connection import Connection
from consortium.client.events import Event, listen
from consortium.client.job import AsyncJobHandle, JobHandle
from consortium.client.ledger import AsyncLedger, Ledger, Order, check_head
from consortium.client.model import AsyncModelHandle, ModelHandle
from consortium.client.plan import Emit, Flow, Plan, fetch, pages, path
from consortium.client.transports import AsyncTransport, SyncTransport
from consortium.errors import OptionInvalid

TIMEOUT_S = 60.0
_HASH = re.compile(r"[0-9a-f]{64}")


class ConsortiumCalls(Bound):
    """What can be asked of a consortium."""

    @call
    def health(self) -> Plan[Health]:
        """Whether the API answers; needs no token."""
        return fetch(Health, "/v1/health")

    @call
    def me(self) -> Plan[Me]:
        """Whose token this is, and its role."""
        return fetch(Me, "/v1/me")

    @listing
    def institutions(self) -> Flow[Institution]:
        """Members and suspended institutions, by id."""
        return pages(Page[Institution], "/v1/institutions")

    @call
    def institution(self, id: str) -> Plan[Institution]:
        """One institution."""
        return fetch(Institution, path("institutions", id))

    @call
    def statement(self, institution: str) -> Plan[Statement]:
        """What each job brought an institution."""
        return fetch(Statement, path("institutions", institution, "statement"))

    @listing
    def jobs(self, order: Order = "oldest") -> Flow[Job]:
        """All jobs."""
        return pages(Page[Job], "/v1/jobs", {"order": order})

    @listing
    def contributions(
        self, job: str | None = None, institution: str | None = None, order: Order = "oldest"
    ) -> Flow[Contribution]:
        """How each hospital's proof fared in each attempt at a round."""
        query = {"job": job, "institution": institution, "order": order}
        return pages(Page[Contribution], "/v1/contributions", query)

    @listing
    def credits(self, job: str | None = None) -> Flow[Account]:
        """Each institution's totals, over one job or all."""
        return pages(Page[Account], "/v1/credits", {"job": job})

    @listing
    def models(self, job: str | None = None, order: Order = "oldest") -> Flow[ModelItem]:
        """The models that the ledger names."""
        return pages(Page[ModelItem], "/v1/models", {"job": job, "order": order})

    @listing
    def evaluations(
        self, job: str | None = None, institution: str | None = None, order: Order = "oldest"
    ) -> Flow[EvaluationItem]:
        """Released models on hospitals' test patients, as far as the hospitals let it out."""
        query = {"job": job, "institution": institution, "order": order}
        return pages(Page[EvaluationItem], "/v1/evaluations", query)

    @listing
    def privacy(self, task: str | None = None, institution: str | None = None) -> Flow[Spending]:
        """What each institution's cohorts have declared to have spent."""
        return pages(Page[Spending], "/v1/privacy", {"task": task, "institution": institution})

    @listing
    def spends(
        self, job: str | None = None, institution: str | None = None, order: Order = "oldest"
    ) -> Flow[Spend]:
        """Every reveal's cost, by the proof that declares it."""
        query = {"job": job, "institution": institution, "order": order}
        return pages(Page[Spend], "/v1/privacy/spends", query)

    @call
    def forecast(
        self, task: str, epsilon: str, delta: str | None = None, rounds: int | None = None
    ) -> Plan[Forecast]:
        """What a job would cost each institution; epsilon and delta are decimal strings."""
        query = {"task": task, "epsilon": epsilon, "delta": delta, "rounds": rounds}
        return fetch(Forecast, "/v1/privacy/forecast", query)

    @listing
    def events(self) -> Flow[Event]:
        """The newest head and the jobs that run: at once, then whenever one changes.

        It connects again by itself, and ends when you stop asking.
        """
        return Flow(_events(self._genesis))


class Consortium(ConsortiumCalls, Sync):
    """One consortium's API. Every method blocks; safe to share between threads.

    Example::

        with Consortium("https://consortium.example", genesis=FINGERPRINT) as consortium:
            for job in consortium.jobs():
                print(job.job, job.state)

    Args:
        url: ``https://HOST``, or ``unix:///HOME/api.sock`` on the coordinator's machine.
        token: yours; default: the environment's ``MEDPOLE_TOKEN``.
        ca: a PEM file of the certificates to trust instead of the system's.
        genesis: the ledger's fingerprint, from somebody you trust: heads and proofs of another
            ledger are refused, and models can be traced to it.
        timeout: seconds without a byte after which an answer counts as not coming.

    Raises:
        Unsafe, OptionInvalid: before anything is sent.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        ca: str | os.PathLike[str] | None = None,
        genesis: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        connection = Connection.to(url, token, ca, timeout)
        super().__init__(SyncTransport(connection), _fingerprint(genesis), connection.url)

    @property
    def ledger(self) -> Ledger:
        """The ledger."""
        return Ledger(self._transport, self._genesis)

    def job(self, id: str) -> JobHandle:
        """One job. Nothing is asked yet."""
        return JobHandle(self._transport, self._genesis, id)

    def model(self, hash: str) -> ModelHandle:
        """One model. Nothing is asked yet."""
        return ModelHandle(self._transport, self._genesis, hash)

    def close(self) -> None:
        """Closes all connections."""
        self._transport.http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class AsyncConsortium(ConsortiumCalls, Async):
    """One consortium's API. What `Consortium` gives is awaited here, what it lists is iterated.

    Example::

        async with AsyncConsortium("https://consortium.example") as consortium:
            head = await consortium.ledger.head()
            async for job in consortium.jobs():
                print(job.job, job.state)

    Args, errors: as `Consortium`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        ca: str | os.PathLike[str] | None = None,
        genesis: str | None = None,
        timeout: float = TIMEOUT_S,
    ) -> None:
        connection = Connection.to(url, token, ca, timeout)
        super().__init__(AsyncTransport(connection), _fingerprint(genesis), connection.url)

    @property
    def ledger(self) -> AsyncLedger:
        """The ledger."""
        return AsyncLedger(self._transport, self._genesis)

    def job(self, id: str) -> AsyncJobHandle:
        """One job. Nothing is asked yet."""
        return AsyncJobHandle(self._transport, self._genesis, id)

    def model(self, hash: str) -> AsyncModelHandle:
        """One model. Nothing is asked yet."""
        return AsyncModelHandle(self._transport, self._genesis, hash)

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._transport.http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _fingerprint(genesis: str | None) -> str | None:
    given = None if genesis is None else genesis.strip().lower()
    if given is not None and not _HASH.fullmatch(given):
        raise OptionInvalid(
            "a fingerprint has 64 hexadecimal digits", "copy it whole: `consortium ledger status`"
        )
    return given


def _events(genesis: str | None) -> Plan[None]:
    def react(event: Event) -> Plan[bool]:
        if not isinstance(event, Job):
            check_head(event, genesis)
        yield Emit(event)
        return False

    yield from listen(react)
