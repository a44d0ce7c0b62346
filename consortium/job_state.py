"""How far a job is: from the ledger, and for a running one from what its coordinator reports."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from consortium.rounds.progress import next_place, rounds_done
from ledger.records import Job, JobEnd, Result
from ledger.store import LedgerStore

SUBMITTED, RUNNING, FINISHED, STOPPED = "submitted", "running", "finished", "stopped"


@dataclass(frozen=True)
class JobState:
    """One job. ``state`` is submitted, running, waiting, paused, reconnecting, finished, stopped.

    ``done`` of ``rounds`` rounds counted; ``round`` and ``attempt`` are under way; ``phase`` and
    ``institutions`` are what the coordinator last reported, ``absent`` who was missing from the
    last attempt on the ledger, by code.
    """

    job: str
    task: str
    state: str
    done: int
    rounds: int
    participants: tuple[str, ...]
    round: int | None = None
    attempt: int | None = None
    phase: str = ""
    reason: str = ""
    institutions: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.state in (FINISHED, STOPPED)


def job_states(store: LedgerStore, live: Mapping[str, Any]) -> list[JobState]:
    """All jobs on the ledger, oldest first."""
    jobs = [r for e in store.entries("job") if isinstance(r := e.record, Job)]
    return [job_state(store, job, live) for job in jobs]


def job_state(store: LedgerStore, job: Job, live: Mapping[str, Any]) -> JobState:
    """One job's state."""
    results = [r for e in store.entries("result", job.job) if isinstance(r := e.record, Result)]
    absent = {a.institution: f"{a.code} ({a.phase})" for a in results[-1].absent} if results else {}
    known: dict[str, Any] = {
        "job": job.job,
        "task": job.task,
        "done": rounds_done(results),
        "rounds": job.rounds,
        "participants": tuple(p.institution for p in job.participants),
        "absent": absent,
    }
    for entry in store.entries("job-end", job.job):
        if isinstance(end := entry.record, JobEnd):
            return JobState(**known, state=end.status)
    known["round"], known["attempt"] = next_place(results)
    if live.get("job") != job.job:
        return JobState(**known, state=RUNNING if results else SUBMITTED)
    if live.get("phase") in ("co-sign", "final") and results:  # of the newest block's round
        known["round"], known["attempt"] = results[-1].round, results[-1].attempt
    return JobState(
        **known, state=str(live.get("state", RUNNING)), phase=str(live.get("phase", "")),
        reason=str(live.get("reason", "")), institutions=dict(live.get("states", {})),
    )  # fmt: skip
