"""One hospital that answers out of turn must not put anything into a block that others refuse."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
from consortium_in_memory import Consortium

from consortium.coordinator.strategy import ProofOfLearning, _Round
from consortium.phases import Phase, Reply
from ledger.content import digest
from ledger.entry import sign_record
from ledger.keys import Role
from ledger.records import Close, Verdict

EVIL = "hospital-4"

Answer = Callable[[Phase, Callable[[], Reply], ProofOfLearning], Reply | None]


def coordinator_of(four: Consortium) -> ProofOfLearning:
    """The coordinator's own gathering of answers, without a database."""
    strategy = ProofOfLearning.__new__(ProofOfLearning)
    store = SimpleNamespace(chain=lambda: four.newest)
    strategy._view = SimpleNamespace(store=store, content=SimpleNamespace(put=digest))
    strategy._job = four.job
    strategy._journal, strategy._on_progress = None, lambda _: None
    strategy._now = _Round(four.context(1))
    return strategy


def play(four: Consortium, evil: Answer) -> None:
    """A round with three honest hospitals; its block must be co-signed by all four."""
    strategy = coordinator_of(four)
    for phase in Phase:
        four.records, four.updates = strategy._now.records, dict(strategy._now.updates)
        request = four.request(phase)
        replies = []
        for name in four.folders:
            participant = four.participant(name)
            honest = lambda participant=participant, request=request: participant.answer(request)  # noqa: E731
            reply = evil(phase, honest, strategy) if name == EVIL else honest()
            replies += [] if reply is None else [reply]
        strategy._gather(phase, replies)
    four.records, four.updates = strategy._now.records, dict(strategy._now.updates)
    assert len(four.records.proofs) >= 3
    for update in four.updates.values():
        four.api.content["content", digest(update)] = update
    four.add(four.result()[0])
    assert len(four.api.cosignatures[four.newest.header.height]) == 4


def by_evil(four: Consortium, record: Close | Verdict) -> Reply:
    entry = sign_record(record, [four.folders[EVIL].keys[Role.RECORD]])
    return Reply(EVIL, (entry.data,))


def test_a_close_without_a_commitment(four: Consortium) -> None:
    def evil(phase: Phase, honest: Callable[[], Reply], at: ProofOfLearning) -> Reply | None:
        if phase is not Phase.CLOSE:
            return None
        return by_evil(
            four,
            Close(v=1, type="close", ledger=four.newest.ledger, author=EVIL, job=four.job.job,
                  round=1, attempt=1, digest=at._now.digest),
        )  # fmt: skip

    play(four, evil)


@pytest.mark.parametrize("late", [Phase.TRAIN, Phase.CLOSE, Phase.REVEAL])
def test_an_answer_held_back_until_the_next_phase(four: Consortium, late: Phase) -> None:
    held: list[Reply] = []

    def evil(phase: Phase, honest: Callable[[], Reply], at: ProofOfLearning) -> Reply | None:
        if phase is late:
            held.append(honest())
            return None
        return held.pop() if held else honest()

    play(four, evil)


def test_a_verdict_before_there_are_reveals(four: Consortium) -> None:
    def evil(phase: Phase, honest: Callable[[], Reply], at: ProofOfLearning) -> Reply | None:
        if phase is not Phase.REVEAL:
            return honest()
        return by_evil(
            four,
            Verdict(v=1, type="verdict", ledger=four.newest.ledger, author=EVIL, job=four.job.job,
                    round=1, attempt=1, digest=at._now.digest, reveals="0" * 64, findings=()),
        )  # fmt: skip

    play(four, evil)


def test_nothing_at_all(four: Consortium) -> None:
    play(four, lambda phase, honest, at: None)
