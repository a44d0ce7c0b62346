"""How far a job is: from the ledger, and for a running one from what its coordinator reports."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from consortium.rounds.splits import Split, splits
from consortium.standing import JobStanding, Standing
from ledger.records import Record
from ledger.store import LedgerStore

_AT_ONCE = 500
SUBMITTED, RUNNING, FINISHED, STOPPED = "submitted", "running", "finished", "stopped"


@dataclass(frozen=True)
class JobState:
    """One job. ``state`` is submitted, running, waiting, paused, reconnecting, finished, stopped.

    ``done`` of ``rounds`` rounds counted; ``round`` and ``attempt`` are under way; ``phase`` and
    ``institutions`` are what the coordinator last reported, ``phase_ends`` when (in seconds since
    1970) the phase does; ``absent`` who was missing from the last attempt on the ledger, by code;
    ``left_out`` whose last proof was called harmful: the next model holds nothing of theirs, nor
    does the one that is given out.
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
    phase_ends: int | None = None
    reason: str = ""
    institutions: Mapping[str, str] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def body(self) -> dict[str, Any]:
        """As plain JSON values."""
        return asdict(self)

    @property
    def ended(self) -> bool:
        """Whether the job is over."""
        return self.state in (FINISHED, STOPPED)


def job_states(store: LedgerStore, live: Mapping[str, Any]) -> list[JobState]:
    """All jobs on the ledger, oldest first."""
    with Standing(store.listing).jobs() as jobs:
        return [job_state(standing, live) for standing in jobs.values()]


def job_splits(store: LedgerStore, job: str) -> list[Split]:
    """The proofs of a job on which the members' verdicts divide, oldest first."""
    return list(splits(_judged(store, job)))


def _judged(store: LedgerStore, job: str) -> Iterator[Record]:
    past = None
    while found := store.listing.entries(("verdict", "result"), job, past=past, limit=_AT_ONCE):
        yield from (listed.entry.stored for listed in found)
        past = found[-1].index


def job_state(standing: JobStanding, live: Mapping[str, Any]) -> JobState:
    """One job's state."""
    job, last = standing.contract, standing.last
    absent = {a.institution: f"{a.code} ({a.phase})" for a in last.absent} if last else {}
    known: dict[str, Any] = {
        "job": job.job,
        "task": job.task,
        "done": standing.done,
        "rounds": job.rounds,
        "participants": tuple(p.institution for p in job.participants),
        "absent": absent,
        "left_out": tuple(sorted(standing.doubted)),
    }
    if standing.end is not None:
        return JobState(**known, state=standing.end.record.status)
    known["round"], known["attempt"] = standing.place
    if live.get("job") != job.job:
        return JobState(**known, state=RUNNING if last else SUBMITTED)
    if live.get("phase") in ("co-sign", "final") and last:  # of the newest block's round
        known["round"], known["attempt"] = last.round, last.attempt
    ends = live.get("phase_ends")
    return JobState(
        **known, state=str(live.get("state", RUNNING)), phase=str(live.get("phase", "")),
        phase_ends=ends if isinstance(ends, int) else None,
        reason=str(live.get("reason", "")), institutions=dict(live.get("states", {})),
    )  # fmt: skip
