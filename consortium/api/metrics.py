"""`GET /v1/metrics`: how the API and its ledger are, in Prometheus' text format.

Each application has a registry of its own. Labels are routes, methods, states, institutions and
jobs that have not ended: nobody's name, and nothing that a caller wrote.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from fastapi import APIRouter, Depends, Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy.exc import SQLAlchemyError

from consortium.api.callers import Permission
from consortium.api.edge import Traffic
from consortium.api.schemas import Access
from consortium.job_state import job_state
from consortium.standing import Standing
from ledger.errors import LedgerError
from ledger.store import LedgerStore

EVENTS = "/v1/events"
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {}}}}}


class Metrics:
    """What is counted while requests are answered, and what is looked up when somebody asks."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter(
            "medpole_http_requests", "Requests that are over.", ("method", "route", "status"),
            registry=self.registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "medpole_http_request_seconds", "How long they took; streams until their end.",
            ("route",), buckets=_SECONDS, registry=self.registry,
        )  # fmt: skip

    def observe(self, access: Access) -> None:
        """Counts one request."""
        self._requests.labels(access.method, access.route, str(access.status)).inc()
        self._seconds.labels(access.route).observe(access.ms / 1000)

    def text(self) -> bytes:
        """All of it, as it is at this moment."""
        return generate_latest(self.registry)


class TrafficCollector(Collector):
    """Requests under way."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic

    def collect(self) -> Iterator[Metric]:
        """One gauge by route, and the open streams of events."""
        under_way = self._traffic.under_way()
        gauge = GaugeMetricFamily(
            "medpole_http_in_flight", "Requests that are being answered.", labels=("route",)
        )
        for route, count in under_way.items():
            gauge.add_metric((route,), count)
        yield gauge
        yield GaugeMetricFamily(
            "medpole_event_streams", "Open streams of events.", under_way[EVENTS]
        )

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering looks at nothing."""
        return iter(())


class LedgerCollector(Collector):
    """The ledger, its running job and its institutions; the sums are those of the newest block."""

    def __init__(
        self, store: LedgerStore, standing: Standing, live: Callable[[], Mapping[str, Any]]
    ) -> None:
        self._store, self._standing, self._live = store, standing, live

    def collect(self) -> Iterator[Metric]:
        """What can be read; while the database is away, that it cannot."""
        try:
            found = [*self._ledger(), *self._jobs(), *self._institutions()]
        except (SQLAlchemyError, LedgerError):
            found = []
        yield GaugeMetricFamily(
            "medpole_ledger_up", "Whether the ledger could be read.", int(bool(found))
        )
        yield from found

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering looks at nothing."""
        return iter(())

    def _ledger(self) -> Iterator[Metric]:
        head = self._store.head()
        for name, text, value in (
            ("height", "The newest block's height.", head.header.height),
            ("block_age_seconds", "Since the newest block.", time.time() - head.header.time),
            ("cosignatures", "On the newest block.", head.cosigned),
            ("quorum", "Cosignatures that make it final.", head.quorum),
        ):
            yield GaugeMetricFamily(f"medpole_ledger_{name}", text, value)

    def _jobs(self) -> Iterator[Metric]:
        done = GaugeMetricFamily("medpole_job_rounds_done", "Rounds that counted.", labels=("job",))
        agreed = GaugeMetricFamily("medpole_job_rounds", "Rounds agreed.", labels=("job",))
        live = self._live()
        with self._standing.jobs() as jobs:
            states = [job_state(one, live) for one in jobs.values() if one.end is None]
        for state in states:
            done.add_metric((state.job,), state.done)
            agreed.add_metric((state.job,), state.rounds)
        yield from (done, agreed)

    def _institutions(self) -> Iterator[Metric]:
        rejected = CounterMetricFamily(
            "medpole_proofs_rejected", "Proofs not accepted.", labels=("institution",)
        )
        absent = CounterMetricFamily(
            "medpole_absences", "Answers that were missing.", labels=("institution",)
        )
        for institution, account in self._standing.accounts().items():
            rejected.add_metric((institution,), account.rejected)
            absent.add_metric((institution,), account.absent)
        yield from (rejected, absent)


def metrics_router(metrics: Metrics, auditing: Permission) -> APIRouter:
    """The route. ``auditing`` is the dependency that says who asks."""
    router = APIRouter(prefix="/v1", tags=["operations"])

    @router.get(
        "/metrics", dependencies=[Depends(auditing)], response_class=Response, responses=_TEXT
    )
    def text() -> Response:
        """How the API and its ledger are, in Prometheus' text format."""
        return Response(metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    return router
