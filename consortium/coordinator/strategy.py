"""Proof of Learning as a Flower strategy: train, close, reveal, verify, then a co-signed block.

Flower's own steps keep their meaning: `configure_train` and `aggregate_train` gather commitments,
`configure_evaluate` and `aggregate_evaluate` verdicts. Between them stand two phases of our own,
close and reveal. Every phase is one message to every node; whoever does not answer in time is
named in the round's result, and the round goes on while a quorum is there.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result as FlowerResult
from flwr.serverapp.strategy import Strategy

from consortium import weights as weight_forms
from consortium.coordinator.exchange import exchange, messages
from consortium.coordinator.view import StoreView
from consortium.errors import RoundInvalid
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import Reveal, RoundContext, examine
from consortium.rounds.commitment import closed_set_digest, revealed_set_digest
from consortium.rounds.replay import (
    ATTEMPT,
    check_block,
    check_record,
    released_model,
    round_context,
    steps_of,
)
from consortium.rounds.result import RoundRecords, derive_result
from ledger.content import digest, model_hash
from ledger.entry import Entry, sign_record
from ledger.errors import LedgerError
from ledger.keys import KeyRing, Role
from ledger.quorum import quorum
from ledger.records import Job, JobEnd, Proof, Record, Result, Verdict

PHASE_SECONDS = 600.0


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
        phase_seconds: how long a phase waits for answers.
    """

    def __init__(
        self,
        view: StoreView,
        keys: KeyRing,
        job: Job,
        wait_final: Callable[[int], None],
        on_progress: Callable[[Progress], None] = lambda _: None,
        stopped: Callable[[], bool] = lambda: False,
        phase_seconds: float = PHASE_SECONDS,
    ) -> None:
        self._view, self._keys, self._job = view, keys, job
        self._wait_final, self._on_progress = wait_final, on_progress
        self._stopped, self._phase_seconds = stopped, phase_seconds
        self._now: _Round

    def summary(self) -> None:
        """Flower calls this to log a summary; the ledger holds it all."""

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord,
        num_rounds: int = 3,
        timeout: float = PHASE_SECONDS,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> FlowerResult:
        """Runs the job's remaining rounds and ends it on the ledger.

        The model and the number of rounds are the contract's; of the arguments only ``grid``
        and ``timeout`` (seconds a phase) are used.
        """
        self._phase_seconds = timeout
        config = ConfigRecord()
        done = len(self._view.results(self._job.job))
        for number in range(done + 1, self._job.rounds + 1):
            self._begin(number)
            train = self._exchange(grid, self.configure_train(number, initial_arrays, config, grid))
            self._gather(train)
            if self._enough(self._now.records.commitments):
                self._gather(self._exchange(grid, self.configure_close(grid)))
            if self._enough(self._now.records.closes):
                self._gather(self._exchange(grid, self.configure_reveal(grid)))
            if self._now.records.proofs:
                self._gather(
                    self._exchange(
                        grid, self.configure_evaluate(number, initial_arrays, config, grid)
                    )
                )
            self._finish()
        model = end_job(self._view, self._keys, self._job, self._wait_final)
        return FlowerResult(arrays=ArrayRecord(weight_forms.to_torch(self._view.model(model))))

    # phases

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Asks for commitments to updates of the current model."""
        return messages(self._request(Phase.TRAIN), grid.get_node_ids())

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Takes in commitments; there is nothing to average before the reveal."""
        self._gather([Reply.from_record_dict(m.content) for m in replies if m.has_content()])
        return None, None

    def configure_close(self, grid: Grid) -> Iterable[Message]:
        """Shows the set of commitments, and that the block it starts from is final."""
        height = self._view.store.chain().header.height
        request = replace(
            self._request(Phase.CLOSE),
            entries=_data(self._now.records.commitments),
            cosignatures=tuple(self._view.store.require_final(height)),
        )
        return messages(request, grid.get_node_ids())

    def configure_reveal(self, grid: Grid) -> Iterable[Message]:
        """Shows the signatures on the closed set and asks for the updates."""
        request = replace(self._request(Phase.REVEAL), entries=_data(self._now.records.closes))
        return messages(request, grid.get_node_ids())

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Shows all reveals and asks for verdicts."""
        proofs = self._now.records.proofs
        request = replace(
            self._request(Phase.VERIFY),
            entries=_data(self._now.records.commitments) + _data(proofs),
            content=tuple(self._now.updates[proof.record.author] for proof in proofs),
        )
        return messages(request, grid.get_node_ids())

    def aggregate_evaluate(
        self, server_round: int, replies: Iterable[Message]
    ) -> MetricRecord | None:
        """Takes in verdicts."""
        self._gather([Reply.from_record_dict(m.content) for m in replies if m.has_content()])
        return None

    # one round

    def _begin(self, number: int) -> None:
        self._now = _Round(round_context(self._view, self._job, number, ATTEMPT))
        self._on_progress(Progress(number, "train"))

    def _request(self, phase: Phase) -> Request:
        context = self._now.context
        self._on_progress(Progress(context.round, phase))
        return Request(phase, self._job.job, context.round, context.attempt, context.base)

    def _exchange(self, grid: Grid, outgoing: Iterable[Message]) -> list[Reply]:
        def on_reply(reply: Reply) -> None:
            state = reply.error or "answered"
            self._on_progress(Progress(self._now.context.round, "", reply.institution, state))

        return exchange(grid, outgoing, self._phase_seconds, on_reply, self._stopped)

    def _enough(self, entries: Sequence[Entry]) -> bool:
        return len(entries) >= quorum(len(self._now.context.members))

    def _gather(self, replies: Sequence[Reply]) -> None:
        """Keeps what is signed, in place, and the first of its kind; the rest is no answer."""
        chain, now = self._view.store.chain(), self._now
        entries = list(now.records.all())
        have = {(entry.record.type, entry.record.author) for entry in entries}
        for reply in replies:
            for data in reply.entries:
                entry = Entry(data)
                try:
                    chain.check_entry(entry)
                    record = entry.record
                    closed = now.digest if now.records.commitments else None
                    check_record(now.context, record, closed)
                    self._fits(record)
                    self._take_update(record, reply)
                except (LedgerError, RoundInvalid, AssertionError):
                    continue
                if record.author == reply.institution and (record.type, record.author) not in have:
                    have.add((record.type, record.author))
                    entries.append(entry)
        now.records = RoundRecords.sort(entries)

    def _fits(self, record: Record) -> None:
        """Drops what no block could hold: a reveal without closing, a verdict on other reveals."""
        closed = {entry.record.author for entry in self._now.records.closes}
        if isinstance(record, Proof) and record.author not in closed:
            raise RoundInvalid("a reveal without closing", "close the set first")
        seen = revealed_set_digest(self._now.records.proofs)
        if isinstance(record, Verdict) and record.reveals != seen:
            raise RoundInvalid("a verdict on other reveals", "verify what this round revealed")

    def _take_update(self, record: Record, reply: Reply) -> None:
        if not isinstance(record, Proof):
            return
        if len(reply.content) != 1 or digest(reply.content[0]) != record.update:
            raise RoundInvalid("the update is not the one that the proof names", "send that one")
        self._view.content.put(reply.content[0])
        self._now.updates.setdefault(record.author, reply.content[0])

    def _finish(self) -> None:
        now = self._now
        reveals = {
            proof.record.author: Reveal(proof, now.updates[proof.record.author])
            for proof in now.records.proofs
        }
        examined = examine(now.context, now.records.commitments, reveals)
        history = self._view.results(self._job.job)
        result, model = derive_result(
            now.context, now.records, examined, self._view.policy.credits, history
        )
        self._view.models.put(model)
        entries = [*now.records.all(), _signed(result, self._keys)]
        block = self._view.store.propose(entries, self._keys)
        self._view.remember(self._job.job, steps_of(now.context, examined))
        self._on_progress(Progress(now.context.round, "co-sign"))
        self._wait_final(block.header.height)
        self._on_progress(Progress(now.context.round, "final", result=result))


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
    model = released_model(view, job, results)
    name = view.models.put(model)
    assert name == model_hash(model)
    end = JobEnd(
        v=1, type="job-end", ledger=view.ledger, author="coordinator", job=job.job,
        status="finished" if len(results) == job.rounds else "stopped", rounds=len(results),
        model=name,
    )  # fmt: skip
    _append(view, keys, end, wait_final)
    return name


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
