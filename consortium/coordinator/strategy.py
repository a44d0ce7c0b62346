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
from consortium.coordinator.exchange import exchange, messages, read_replies
from consortium.coordinator.sequencing import Sequencing
from consortium.coordinator.view import StoreView
from consortium.errors import RoundInvalid
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import Reveal, RoundContext, examine
from consortium.rounds.commitment import closed_set_digest, revealed_set_digest
from consortium.rounds.replay import (
    ATTEMPT,
    check_block,
    check_record,
    is_update_of,
    released_model,
    round_context,
    steps_of,
)
from consortium.rounds.result import RoundRecords, derive_result
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

PHASE_SECONDS = 600.0
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
        self._sequencing = Sequencing(view, keys)
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
            train = self.configure_train(number, initial_arrays, config, grid)
            self._gather(Phase.TRAIN, self._exchange(grid, train))
            if self._enough(self._now.records.commitments):
                self._gather(Phase.CLOSE, self._exchange(grid, self.configure_close(grid)))
            if self._enough(self._now.records.closes):
                self._gather(Phase.REVEAL, self._exchange(grid, self.configure_reveal(grid)))
            if self._now.records.proofs:
                verify = self.configure_evaluate(number, initial_arrays, config, grid)
                self._gather(Phase.VERIFY, self._exchange(grid, verify))
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
        self._gather(Phase.TRAIN, read_replies(replies))
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
        self._gather(Phase.VERIFY, read_replies(replies))
        return None

    # one round

    def _begin(self, number: int) -> None:
        while (height := self._sequencing.step(between_rounds=True)) is not None:
            self._wait_final(height)
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

    def _gather(self, phase: Phase, replies: Sequence[Reply]) -> None:
        """Keeps what is signed, in its phase, in its place, and the first of its kind.

        The rest is no answer: nothing that one hospital sends may end up in a block that the
        others would refuse.
        """
        chain, now = self._view.store.chain(), self._now
        entries = list(now.records.all())
        answered = {entry.record.author for entry in self._expected(phase)}
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
                    if isinstance(record, Proof):
                        self._view.content.put(reply.content[0])
                        now.updates[record.author] = reply.content[0]
        now.records = RoundRecords.sort(entries)

    def _expected(self, phase: Phase) -> tuple[Entry, ...]:
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
        seen = revealed_set_digest(now.records.proofs)
        if isinstance(record, Verdict) and record.reveals != seen:
            raise RoundInvalid("a verdict on other reveals", "verify what this round revealed")

    def _finish(self) -> None:
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
        self._view.remember(job, steps_of(now.context, examined))
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
