"""Proof of Learning as a Flower strategy: train, close, reveal, verify, then a co-signed block.

Flower's own steps keep their meaning: `configure_train` and `aggregate_train` gather commitments,
`configure_evaluate` and `aggregate_evaluate` verdicts. Between them stand two phases of our own,
close and reveal. Every phase is one message to every node; whoever does not answer in time is
named in the round's result, and the round goes on while a quorum is there.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result as FlowerResult
from flwr.serverapp.strategy import Strategy

from consortium import weights as weight_forms
from consortium.coordinator.exchange import (
    PATIENCE_S,
    Asked,
    GridPresence,
    Presence,
    exchange,
    messages,
    read_replies,
)
from consortium.coordinator.journal import Journal, Place
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.errors import Interrupted, JobPaused, RoundInvalid
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import Reveal, RoundContext, examine
from consortium.rounds.commitment import closed_set_digest, revealed_set_digest
from consortium.rounds.committee import committee
from consortium.rounds.progress import next_place, rounds_done
from consortium.rounds.replay import (
    check_block,
    check_record,
    is_update_of,
    released_model,
    round_context,
    steps_of,
)
from consortium.rounds.result import RoundRecords, derive_result
from ledger.changes import Happened
from ledger.content import model_hash
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError
from ledger.keys import KeyRing, Role
from ledger.quorum import quorum
from ledger.records import (
    Close,
    Commitment,
    Job,
    JobEnd,
    Proof,
    Record,
    Refusal,
    Result,
    Verdict,
)

_QUORUM_EVERY_S = 0.5
ATTEMPTS = 3  # in a row at one round, before the job pauses
_AFTER = {phase: tuple(Phase)[i + 1 :] for i, phase in enumerate(Phase)}
_ANSWERS: dict[Phase, tuple[type[Record], ...]] = {
    Phase.TRAIN: (Commitment, Refusal),
    Phase.CLOSE: (Close,),
    Phase.REVEAL: (Proof,),
    Phase.VERIFY: (Verdict,),
}


@dataclass(frozen=True)
class Progress:
    """What just happened, for whoever watches: ``institution`` is None for the round itself."""

    round: int
    phase: str
    institution: str | None = None
    state: str = ""
    result: Result | None = None


@dataclass
class _Round:
    """One round in the making."""

    context: RoundContext
    records: RoundRecords = field(default_factory=RoundRecords)
    updates: dict[str, bytes] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        return closed_set_digest(self.records.commitments)


class ProofOfLearning(Strategy):
    """Runs one job's rounds.

    Args:
        view: the ledger, with its store, contents and models.
        keys: the coordinator's keys.
        job: the contract, on the final ledger.
        wait_final: waits until the block at a height is final; raises `NotFinal` if it stays
            pending.
        on_progress: told what happens, as it happens.
        stopped: asked often; true ends the job after the message under way.
        journal: keeps a round under way over a crash; a simulation has none.
        presence: which hospitals are there; default: all nodes of the grid.
        ending: asked between rounds; true ends the job there, stopped.
        patience: seconds for which a hospital that is gone is waited for.
        quorum_here: asked before a round; while it is false, none begins.
    """

    def __init__(
        self,
        view: StoreView,
        keys: KeyRing,
        job: Job,
        wait_final: Callable[[int], None],
        on_progress: Callable[[Progress], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        journal: Journal | None = None,
        presence: Presence | None = None,
        ending: Callable[[], bool] = lambda: False,
        patience: float = PATIENCE_S,
        quorum_here: Callable[[], bool] = lambda: True,
    ) -> None:
        self._view, self._keys, self._job = view, keys, job
        self._wait_final, self._on_progress = wait_final, on_progress
        self._stopped, self._journal, self._presence = stopped, journal, presence
        self._ending, self._patience, self._quorum_here = ending, patience, quorum_here
        self._sequencing = Sequencing(view, keys)
        self._now: _Round

    def summary(self) -> None:
        """Flower calls this to log a summary; the ledger holds it all."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = 3600,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> FlowerResult:
        """Runs the job's remaining rounds and ends it on the ledger.

        The model, the number of rounds and how long a phase waits are the contract's; of the
        arguments only ``grid`` is used. With a journal a round that was cut off goes on in the
        phase where it was.

        Raises:
            JobPaused: after `ATTEMPTS` attempts in a row at one round.
            Interrupted: once ``stopped`` says so.
        """
        presence = self._presence or GridPresence(grid)
        failed = 0
        self._wait_final(self._view.store.chain().header.height)
        while rounds_done(results := self._view.results(self._job.job)) < self._job.rounds:
            self._await_quorum()
            if self._ending():
                break
            begun = self._begin(*next_place(results))
            for phase in Phase:
                if not self._ready(phase):
                    break
                if not any(later in begun for later in _AFTER[phase]):
                    self._run_phase(grid, presence, phase)
            result = self._finish()
            failed = failed + 1 if result.again else 0
            if failed == ATTEMPTS:
                raise _paused(result)
        model = end_job(self._view, self._keys, self._job, self._wait_final)
        return FlowerResult(arrays=ArrayRecord(weight_forms.to_torch(self._view.model(model))))

    # Flower's names for the first and the last phase

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks for commitments to updates of the current model."""
        return messages(self._request(Phase.TRAIN), grid.get_node_ids())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Takes in commitments; there is nothing to average before the reveal."""
        self._gather(Phase.TRAIN, read_replies(replies))
        return None, None

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Shows all reveals and asks for verdicts."""
        return messages(self._request(Phase.VERIFY), grid.get_node_ids())

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Takes in verdicts."""
        self._gather(Phase.VERIFY, read_replies(replies))
        return None

    # one round

    def _await_quorum(self) -> None:
        """An attempt with too few would be void, and after three of them the job would pause."""
        while not self._quorum_here() and not self._ending():
            if self._stopped():
                raise Interrupted("stopped", "start again with the same --home; nothing is lost")
            time.sleep(_QUORUM_EVERY_S)

    def _begin(self, number: int, attempt: int) -> set[Phase]:
        """Turns to a round; the phases of it that had begun before a restart."""
        place = Place(self._job.job, number, attempt, self._view.head)
        if self._journal is None or self._journal.under_way() != place:
            while (height := self._sequencing.step(between_rounds=True)) is not None:
                self._wait_final(height)
        self._now = _Round(round_context(self._view, self._job, number, attempt))
        self._on_progress(Progress(number, "train"))
        if self._journal is None or not self._journal.begin(replace(place, base=self._view.head)):
            return set()
        for phase in Phase:
            self._gather(phase, self._journal.answers(phase))
        return self._journal.asked()

    def _ready(self, phase: Phase) -> bool:
        """Whether the phase before came to enough."""
        records, needed = self._now.records, quorum(len(self._now.context.members))
        return {
            Phase.TRAIN: True,
            Phase.CLOSE: len(records.commitments) >= needed,
            Phase.REVEAL: len(records.closes) >= needed,
            Phase.VERIFY: bool(records.proofs),
        }[phase]

    def _run_phase(self, grid: Grid, presence: Presence, phase: Phase) -> None:
        if self._journal is not None:
            self._journal.ask(phase)
        exchange(
            grid,
            presence,
            Asked(
                self._request(phase),
                float(getattr(self._job.durations, phase)),
                self._expected(grid, phase),
                frozenset(entry.record.author for entry in self._answered(phase)),
                quorum(len(self._now.context.members)),
                self._patience,
                lambda replies: self._gather(phase, replies),
                self._sent,
                self._told,
                self._stopped,
            ),
        )

    def _expected(self, grid: Grid, phase: Phase) -> frozenset[str] | None:
        """Who is asked: in the first phase all participants, then who answered the one before.

        Nobody knows which hospital stands behind a simulation's nodes: there all are asked.
        """
        if self._presence is None:
            return None
        records = self._now.records
        if phase is Phase.TRAIN:
            return frozenset(p.institution for p in self._job.participants)
        before = records.commitments if phase is Phase.CLOSE else records.closes
        asked = frozenset(entry.record.author for entry in before)
        return asked & self._judges() if phase is Phase.VERIFY else asked

    def _judges(self) -> frozenset[str]:
        proofs = [e.record for e in self._now.records.proofs if isinstance(e.record, Proof)]
        return committee(self._now.context, proofs)

    def _sent(self) -> None:
        if self._presence is not None:  # a simulation's nodes are called
            self._view.store.tell(Happened.MESSAGES)

    def _told(self, institution: str, state: str) -> None:
        self._on_progress(Progress(self._now.context.round, "", institution, state))

    def _request(self, phase: Phase) -> Request:
        """What a phase shows, besides the place: commitments, closes, or all reveals."""
        context, records = self._now.context, self._now.records
        self._on_progress(Progress(context.round, phase))
        request = Request(phase, self._job.job, context.round, context.attempt, context.base)
        if phase is Phase.CLOSE:  # and that the block it starts from is final
            lines = self._view.store.require_final(self._view.store.chain().header.height)
            shown = _data(records.commitments)
            return replace(request, entries=shown, cosignatures=tuple(lines))
        if phase is Phase.REVEAL:
            return replace(request, entries=_data(records.closes))
        if phase is Phase.VERIFY:
            updates = tuple(self._now.updates[p.record.author] for p in records.proofs)
            shown = _data(records.commitments) + _data(records.proofs)
            return replace(request, entries=shown, content=updates)
        return request

    def _gather(self, phase: Phase, replies: Sequence[Reply]) -> None:
        """Keeps what is signed, in its phase, in its place, and the first of its kind.

        The rest is no answer: nothing that one hospital sends may end up in a block that the
        others would refuse.
        """
        chain, now = self._view.store.chain(), self._now
        entries = list(now.records.all())
        answered = {entry.record.author for entry in self._answered(phase)}
        kept: list[Reply] = []
        for reply in replies:
            for data in reply.entries[:1]:
                entry = Entry(data)
                try:
                    chain.upcoming.check_entry(entry)
                    record = entry.record
                    self._check_answer(phase, record, reply)
                except (LedgerError, RoundInvalid):
                    continue
                if record.author == reply.institution and record.author not in answered:
                    answered.add(record.author)
                    entries.append(entry)
                    kept.append(reply)
                    if isinstance(record, Proof):
                        self._view.content.put(reply.content[0])
                        now.updates[record.author] = reply.content[0]
        if self._journal is not None:
            self._journal.keep(phase, kept)
        now.records = RoundRecords.sort(entries)
        for reply in replies:
            self._told(reply.institution, reply.error or "answered")

    def _answered(self, phase: Phase) -> tuple[Entry, ...]:
        records = self._now.records
        return {
            Phase.TRAIN: records.commitments + records.refusals,
            Phase.CLOSE: records.closes,
            Phase.REVEAL: records.proofs,
            Phase.VERIFY: records.verdicts,
        }[phase]

    def _check_answer(self, phase: Phase, record: Record, reply: Reply) -> None:
        if not isinstance(record, _ANSWERS[phase]):
            raise RoundInvalid("a record of another phase", "answer the phase that was asked")
        now = self._now
        check_record(now.context, record, None if phase is Phase.TRAIN else now.digest)
        before = {Phase.CLOSE: now.records.commitments, Phase.REVEAL: now.records.closes}.get(phase)
        if before is not None and record.author not in {e.record.author for e in before}:
            raise RoundInvalid("an answer without the one before it", "answer every phase")
        if isinstance(record, Proof) and not (
            len(reply.content) == 1 and is_update_of(record, reply.content[0], now.context.model)
        ):
            raise RoundInvalid("the update is not the one that the proof names", "send that one")
        if isinstance(record, Verdict):
            if record.reveals != revealed_set_digest(now.records.proofs):
                raise RoundInvalid("a verdict on other reveals", "verify what this round revealed")
            if record.author not in self._judges():
                raise RoundInvalid("a verdict by who is not on the committee", "leave it out")

    def _finish(self) -> Result:
        now, job = self._now, self._job.job
        reveals = {
            proof.record.author: Reveal(proof, now.updates[proof.record.author])
            for proof in now.records.proofs
        }
        examined = examine(now.context, now.records.commitments, reveals)
        result, model = derive_result(
            now.context, now.records, examined, self._view.policy.credits, self._view.results(job)
        )
        self._view.models.put(model)
        entries = [*now.records.all(), _signed(result, self._keys)]
        # A block that members refuse can never be withdrawn: it is checked before it is proposed.
        check_block(self._view, entries)
        block = self._view.store.propose(entries, self._keys)
        self._view.remember(job, result.round, steps_of(now.context, examined))
        self._on_progress(Progress(now.context.round, "co-sign"))
        self._wait_final(block.header.height)
        self._on_progress(Progress(now.context.round, "final", result=result))
        return result


def submit_job(view: StoreView, keys: KeyRing, job: Job, wait_final: Callable[[int], None]) -> None:
    """Puts a job's contract on the ledger.

    Raises:
        JobInvalid, RoundInvalid: if it breaks a rule; nothing is stored then.
        NotFinal: if no quorum co-signs.
    """
    _append(view, keys, job, wait_final)


def end_job(view: StoreView, keys: KeyRing, job: Job, wait_final: Callable[[int], None]) -> str:
    """Ends a job, finished or stopped; returns the hash of the model that it gives out."""
    results = view.results(job.job)
    done = rounds_done(results)
    model = released_model(view, job, results)
    name = view.models.put(model)
    assert name == model_hash(model)
    end = JobEnd(
        v=1, type="job-end", ledger=view.ledger, author="coordinator", job=job.job,
        status="finished" if done == job.rounds else "stopped", rounds=done, model=name,
    )  # fmt: skip
    _append(view, keys, end, wait_final)
    return name


def _paused(result: Result) -> JobPaused:
    absent = ", ".join(f"{a.institution} ({a.code} in {a.phase})" for a in result.absent)
    return JobPaused(
        f"{ATTEMPTS} attempts in a row at round {result.round} of {result.job} had too few "
        f"hospitals; absent from the last: {absent or 'nobody'}",
        "see to it that they can take part, then: `consortium job resume`",
    )


def _append(
    view: StoreView, keys: KeyRing, record: Record, wait_final: Callable[[int], None]
) -> None:
    entry = _signed(record, keys)
    check_block(view, [entry])
    wait_final(view.store.propose([entry], keys).header.height)


def _signed(record: Record, keys: KeyRing) -> Entry:
    return sign_record(record, [keys[Role.RECORD]])


def _data(entries: Sequence[Entry]) -> tuple[bytes, ...]:
    return tuple(entry.data for entry in entries)
