"""What a report shows of entries, counted one by one.

Tallies of successive parts add up exactly to the tally of the whole. A tally grows with
institutions, jobs and changes of the membership, not with entries.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from ledger.block import Header
from ledger.entry import Entry
from ledger.keys import PublicKey, Role
from ledger.membership import change_digest
from ledger.records import (
    Action,
    Approval,
    Change,
    CreditPolicy,
    Enrol,
    Genesis,
    Job,
    JobEnd,
    KeyForm,
    Proof,
    Refusal,
    Result,
    Rotate,
    RotateCoordinator,
    SetPolicy,
)

ROUNDS = 500  # the newest of all jobs together: all that a tally keeps one by one


class Contract(NamedTuple):
    """What a report shows of a job's contract."""

    task: str
    fingerprint: str
    rounds: int
    average_from: int
    drop: int
    drop_with_noise: int
    scores: str
    participants: tuple[tuple[str, int, str, str], ...]  # institution, weight, epsilon, delta


class _End(NamedTuple):
    height: int
    status: str
    rounds: int
    model: str


class Round(NamedTuple):
    """What a report shows of one attempt at a round. ``state``: as in `round_state`."""

    job: str
    round: int
    height: int
    accepted: int
    rejected: int
    undecided: int
    absent: int
    learner: str
    minted: int
    state: str


class Proposal(NamedTuple):
    """A change of the membership as it was proposed."""

    height: int
    author: str
    actions: tuple[str, ...]


class Approved(NamedTuple):
    """One approval of a change."""

    change: str
    author: str
    height: int
    base: str  # the membership that it was given under


@dataclass
class Tally:
    """What a report shows of entries. Tallies of successive parts add up to that of the whole.

    ``counts`` are by job, institution ("" for none), what is counted, and a code or kind. ``spent``
    is the epsilon and delta of an institution's newest proof, by job and by cohort.
    """

    founded: Genesis | None = None
    began: int | None = None
    types: Counter[str] = field(default_factory=Counter)
    counts: Counter[tuple[str, str, str, str]] = field(default_factory=Counter)
    jobs: dict[str, Contract | None] = field(default_factory=dict)
    ends: dict[str, _End] = field(default_factory=dict)
    rounds: deque[Round] = field(default_factory=lambda: deque(maxlen=ROUNDS))
    spent: dict[tuple[str, str, str], tuple[str, str]] = field(default_factory=dict)
    proposals: dict[str, Proposal] = field(default_factory=dict)
    approvals: list[Approved] = field(default_factory=list)

    def add(self, header: Header, entry: Entry) -> None:
        """Counts one entry of the block with this header."""
        record = entry.record
        self.types[record.type] += 1
        if self.began is None:
            self.began = header.time
        job = getattr(record, "job", None)
        if job is not None:
            self.jobs.setdefault(job, None)
        match record:
            case Genesis():
                self.founded = record
            case Change():
                actions = tuple(map(_action, record.actions))
                proposal = Proposal(header.height, record.author, actions)
                self.proposals[change_digest(record)] = proposal
            case Approval():
                approved = Approved(record.change, record.author, header.height, header.membership)
                self.approvals.append(approved)
            case Job():
                self.jobs[record.job] = _contract(record)
            case Refusal():
                self.counts[record.job, record.author, "refused", record.code] += 1
            case Proof():
                spent = record.spend.epsilon, record.spend.delta
                self.spent[record.author, "job", record.job] = spent
                self.spent[record.author, "cohort", record.spend.cohort] = spent
            case Result():
                self._add_result(header, record)
            case JobEnd():
                end = _End(header.height, record.status, record.rounds, record.model)
                self.ends[record.job] = end

    def _add_result(self, header: Header, result: Result) -> None:
        def count(institution: str, what: str, code: str, by: int = 1) -> None:
            self.counts[result.job, institution, what, code] += by

        count("", "rounds", round_state(result))
        count("", "minted", "credits", result.minted)
        for outcome in result.proofs:
            count(outcome.institution, "proofs", outcome.code)
            count(outcome.institution, "credits", "learning", outcome.credits)
        for fee in result.fees:
            count(fee.institution, "credits", "verdicts", fee.credits)
        for absence in result.absent:
            count(absence.institution, "absent", f"{absence.code} in {absence.phase}")
        if result.learner is not None:
            count(result.learner, "rounds", "learner")
            count(result.learner, "credits", "bonus", result.bonus)
        accepted, rejected, undecided = outcomes_of(Counter(o.code for o in result.proofs))
        self.rounds.append(
            Round(
                result.job, result.round, header.height, accepted, rejected.total(), undecided,
                len(result.absent), result.learner or "", result.minted, round_state(result),
            )
        )  # fmt: skip

    def merge(self, later: "Tally") -> None:
        """Adds the tally of the entries that follow."""
        self.founded = later.founded or self.founded
        self.began = later.began if self.began is None else self.began
        self.types.update(later.types)
        self.counts.update(later.counts)
        for job, contract in later.jobs.items():
            self.jobs[job] = contract or self.jobs.get(job)
        self.ends.update(later.ends)
        self.rounds.extend(later.rounds)
        self.spent.update(later.spent)
        self.proposals.update(later.proposals)
        self.approvals.extend(later.approvals)


def round_state(result: Result) -> str:
    """Whether a round counts with a new model, counts without one, or is tried again."""
    if result.again:
        return "again"
    return "void" if result.void else "done"


def _contract(job: Job) -> Contract:
    parts = ((p.institution, p.weight, p.terms.epsilon, p.terms.delta) for p in job.participants)
    return Contract(
        job.task, job.task_fingerprint, job.rounds, job.average_from, job.thresholds.drop,
        job.thresholds.drop_with_noise, job.scores.kind, tuple(parts),
    )  # fmt: skip


def _action(action: Action) -> str:
    match action:
        case Enrol(member=member):
            return f"enrol {member.id} ({member.title})"
        case Rotate(member=member):
            return f"new keys for {member.id} (record key {key_id_of(member.keys, Role.RECORD)})"
        case RotateCoordinator(keys=keys):
            return f"new keys for the coordinator (record key {key_id_of(keys, Role.RECORD)})"
        case SetPolicy(policy=policy):
            return f"policy: {shares_of(policy.credits)}"
        case _:
            return f"{action.kind} {action.institution}"


def shares_of(credits: CreditPolicy) -> str:
    """How a policy splits a round's credits."""
    return (
        f"{credits.pool:,} credits a round, of them {credits.verdicts:,} for verdicts and "
        f"{credits.learner_bonus:,} for the learner; the rest by contribution "
        f"(window of rounds: {credits.window:,})"
    )


def key_id_of(keys: Mapping[Role, KeyForm], role: Role) -> str:
    """The id of the key for a role, empty where there is none."""
    form = keys.get(role)
    return PublicKey(role, bytes.fromhex(form.public), form.alg).key_id if form else ""


def outcomes_of(codes: Counter[str]) -> tuple[int, Counter[str], int]:
    """How many accepted, rejected by code, undecided."""
    rejected = Counter({c: n for c, n in codes.items() if c not in ("Accepted", "NoQuorum")})
    return codes["Accepted"], rejected, codes["NoQuorum"]


# counts, grouped

Sums = Counter[tuple[str, str]]  # by what is counted, and code


def sums_by_job(tally: Tally) -> dict[str, dict[str, Sums]]:
    """Sums by job and institution; a job's participants are there even where nothing is."""
    grouped: dict[str, dict[str, Sums]] = {job: {"": Counter()} for job in tally.jobs}
    for job, contract in tally.jobs.items():
        names = [name for name, *_ in contract.participants] if contract else []
        grouped[job] |= {name: Counter() for name in names}
    for (job, name, what, code), number in tally.counts.items():
        grouped[job].setdefault(name, Counter())[what, code] += number
    return grouped


def added_up(many: Iterable[Sums]) -> Sums:
    """Several sums as one."""
    whole: Sums = Counter()
    for sums in many:
        whole.update(sums)
    return whole


def codes_of(sums: Sums, what: str) -> Counter[str]:
    """The codes of one thing that is counted."""
    return Counter({code: number for (kind, code), number in sums.items() if kind == what})
