"""The store on PostgreSQL against a model of it: a Python list.

Hypothesis proposes, co-signs, submits, repeats, contradicts and reopens in any order, by two stores
on one database. After every step both stores say what the list says.
"""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from ledger_examples import (
    CREATED,
    Consortium,
    approve,
    keys_of,
    propose,
    propose_submissions,
    reinstate,
    set_policy,
    suspend,
)
from sqlalchemy import Engine, text

from ledger import schema
from ledger.entry import Entry, sign_record
from ledger.errors import (
    CosignatureConflict,
    LedgerError,
    LedgerMissing,
    MembershipInvalid,
    NoteInvalid,
    QuorumMissing,
    RangeInvalid,
    RecordInvalid,
    SequenceConflict,
    SignatureInvalid,
)
from ledger.export import export_ledger
from ledger.keys import Role
from ledger.membership import Membership
from ledger.note import cosign
from ledger.records import Action, Approval, Change, Erasure, Evaluation, Measures
from ledger.rows import submission_key
from ledger.store import LedgerStore
from ledger.verify import verify_export

FOUR = Consortium(4)
NAMES = sorted(FOUR.members)
Reset = Callable[[], None]


@dataclass
class Kept:
    """One block as the model has it: entries, who was in force, and who co-signed."""

    entries: list[Entry]
    in_force: Membership
    lines: dict[str, str] = field(default_factory=dict)

    @property
    def final(self) -> bool:
        return len(self.lines) >= self.in_force.quorum


@pytest.fixture
def reset(superuser_engine: Engine) -> Reset:
    """Empties the database, which only its superuser can."""
    tables = [table for table in schema.metadata.tables if table != "disclosures"]

    def run() -> None:
        with superuser_engine.begin() as connection:
            for table in tables:
                connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            connection.execute(text(f"TRUNCATE {', '.join(schema.metadata.tables)}"))
            for table in tables:
                for trigger in ("refuse_change", "refuse_truncate"):
                    statement = f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER {trigger}"
                    connection.execute(text(statement))

    return run


stores = st.integers(0, 1)
mostly = st.sampled_from([True, True, True, False])
members = st.sampled_from(NAMES)
jobs = st.sampled_from(["job-a", "job-b"])


class LedgerMachine(RuleBasedStateMachine):
    """``kept`` is the ledger; ``waiting`` what was submitted; ``conflicts`` second cosignatures."""

    def __init__(self, engine: Engine, reset: Reset) -> None:
        super().__init__()
        reset()
        self.engine = engine
        self.stores = [LedgerStore(engine), LedgerStore(engine)]
        self.kept: list[Kept] = []
        self.waiting: list[Entry] = []
        self.conflicts: set[tuple[int, str]] = set()
        self.rounds = 0

    # the model

    @property
    def upcoming(self) -> Membership:
        newest = self.kept[-1]
        records = [e.record for e in newest.entries if isinstance(e.record, Change | Approval)]
        return newest.in_force.after(records)

    @property
    def flat(self) -> list[Entry]:
        return [entry for kept in self.kept for entry in kept.entries]

    @property
    def final_height(self) -> int:
        return len(self.kept) - 1 if self.kept[-1].final else len(self.kept) - 2

    def fresh(self, name: str, job: str = "job-1") -> Entry:
        self.rounds += 1
        return FOUR.entry(name, job, self.rounds)

    def line(self, height: int, name: str, time: int = CREATED) -> str:
        key = FOUR.members[name][Role.COSIGN]
        return cosign(name, key, self.stores[0].checkpoint(height).text(), time)

    def appended(self, entries: list[Entry]) -> None:
        self.kept.append(Kept(entries, self.upcoming))
        on_ledger = {submission_key(entry.record) for entry in entries}
        self.waiting = [e for e in self.waiting if submission_key(e.record) not in on_ledger]

    # steps

    @initialize(blocks=st.integers(0, 3), opened=st.booleans())
    def found(self, blocks: int, opened: bool) -> None:
        """A ledger of some blocks, perhaps with a change that lacks one approval."""
        with pytest.raises(LedgerMissing):
            self.stores[0].chain()
        for store in self.stores:
            store.found(FOUR.founding_entry, FOUR.coordinator)
        self.kept = [Kept([FOUR.founding_entry], FOUR.begin().membership)]
        for number in range(blocks):
            self.propose(number % 2, True, NAMES[:number], "job-a")
        if opened:
            proposed = propose(self.upcoming, suspend(NAMES[-1]))
            for entry in [proposed, *approve(self.upcoming, proposed, *NAMES[:2])]:
                self.co_sign_the_newest(0)
                self.stores[0].propose([entry], FOUR.coordinator)
                self.appended([entry])

    @rule(which=stores, finish=mostly, authors=st.lists(members, max_size=3), job=jobs)
    def propose(self, which: int, finish: bool, authors: list[str], job: str) -> None:
        if finish:
            self.co_sign_the_newest(which)
        authors = [name for name in authors if name in self.upcoming.members]
        entries = [self.fresh(name, job) for name in authors]
        if not self.kept[-1].final:
            with pytest.raises(QuorumMissing):
                self.stores[which].propose(entries, FOUR.coordinator)
            return
        block = self.stores[which].propose(entries, FOUR.coordinator)
        assert list(block.entries) == entries
        assert sorted(block.parent_cert) == sorted(self.kept[-1].lines.values())
        self.appended(entries)

    @rule(which=stores, how=st.sampled_from(["key", "ledger", "genesis", "stranger", "twice"]))
    def propose_what_does_not_hold(self, which: int, how: str) -> None:
        good = [name for name in NAMES if name in self.upcoming.members]
        record = self.fresh(good[0]).record
        keys = FOUR.members[good[0]]
        foreign = record.model_copy(update={"ledger": "0" * 64})
        entries = {
            "key": [sign_record(record, [keys[Role.COSIGN]])],
            "ledger": [sign_record(foreign, [keys[Role.RECORD]])],
            "genesis": [FOUR.founding_entry],
            "stranger": [sign_record(record, [keys_of("stranger")[Role.RECORD]])],
            "twice": [sign_record(record, [keys[Role.RECORD]])] * 2,
        }[how]
        with pytest.raises(LedgerError):
            self.stores[which].propose([self.fresh(good[0]), *entries], FOUR.coordinator)

    @precondition(lambda self: len(self.kept) > 1)
    @rule(which=stores, data=st.data())
    def propose_again(self, which: int, data: st.DataObject) -> None:
        """As after a lost answer: the stored block. Cut short, it is no repeat."""
        height = data.draw(st.integers(1, len(self.kept) - 1))
        entries = self.kept[height].entries
        if not entries:
            return
        block = self.stores[which].propose(entries, FOUR.coordinator)
        assert (block.header.height, list(block.entries)) == (height, entries)
        # What became invalid since (decided, or its author suspended) is refused as that.
        expected = (SequenceConflict, QuorumMissing, MembershipInvalid, SignatureInvalid)
        if len(entries) > 1:
            with pytest.raises(expected):
                self.stores[which].propose(entries[1:], FOUR.coordinator)
        longer = [*entries, self.fresh(next(iter(self.upcoming.members)))]
        with pytest.raises(expected):
            self.stores[which].propose(longer, FOUR.coordinator)

    @rule(which=stores, names=st.sets(members, min_size=1), data=st.data())
    def co_sign(self, which: int, names: set[str], data: st.DataObject) -> None:
        height = data.draw(st.integers(0, len(self.kept) - 1))
        kept = self.kept[height]
        for name in sorted(names):
            line = kept.lines.get(name) or self.line(height, name)
            if name in kept.in_force.members:
                self.stores[which].add_cosignature(height, line)
                kept.lines.setdefault(name, line)
            else:
                with pytest.raises(RecordInvalid):
                    self.stores[which].add_cosignature(height, line)

    def co_sign_the_newest(self, which: int) -> None:
        kept, height = self.kept[-1], len(self.kept) - 1
        for name in list(kept.in_force.members)[: kept.in_force.quorum]:
            line = kept.lines.setdefault(name, self.line(height, name))
            self.stores[which].add_cosignature(height, line)

    @rule(which=stores, name=members, time=st.integers(1, 3), data=st.data())
    def co_sign_at_another_time(
        self, which: int, name: str, time: int, data: st.DataObject
    ) -> None:
        height = data.draw(st.integers(0, len(self.kept) - 1))
        kept = self.kept[height]
        if name not in kept.in_force.members:
            return
        line = self.line(height, name, CREATED + time)
        if kept.lines.setdefault(name, line) == line:
            self.stores[which].add_cosignature(height, line)
        else:
            with pytest.raises(CosignatureConflict):
                self.stores[which].add_cosignature(height, line)
            self.conflicts.add((height, line))

    @rule(which=stores, name=members, how=st.sampled_from(["key", "height", "name", "nothing"]))
    def co_sign_wrongly(self, which: int, name: str, how: str) -> None:
        height, text = len(self.kept) - 1, self.stores[0].checkpoint(len(self.kept) - 1).text()
        keys = FOUR.members[name]
        line = {
            "key": cosign(name, keys[Role.RECORD], text, CREATED),
            "height": cosign(name, keys[Role.COSIGN], text + "x", CREATED),
            "name": cosign("stranger", keys[Role.COSIGN], text, CREATED),
            "nothing": "",
        }[how]
        with pytest.raises((NoteInvalid, SignatureInvalid, RecordInvalid)):
            self.stores[which].add_cosignature(height, line)
        with pytest.raises(LedgerMissing):
            self.stores[which].add_cosignature(height + 1, self.line(height, name))

    @rule(which=stores, name=members, policy=st.integers(1, 3))
    def submit_a_change(self, which: int, name: str, policy: int) -> None:
        now = self.upcoming
        action: Action = set_policy(policy)
        if name in now.suspended:
            action = reinstate(name)
        elif policy == 1 and len(now.members) > 2:
            action = suspend(name)
        self.submit(which, propose(now, action))

    @precondition(lambda self: bool(self.upcoming.proposed))
    @rule(which=stores, names=st.sets(members, min_size=1), data=st.data())
    def submit_approvals(self, which: int, names: set[str], data: st.DataObject) -> None:
        now = self.upcoming
        opened = data.draw(st.sampled_from(sorted(now.proposed)))
        proposed = sign_record(now.proposed[opened].change, [FOUR.coordinator[Role.RECORD]])
        for entry in approve(now, proposed, *sorted(names & set(now.members))):
            self.submit(which, entry)

    @rule(which=stores, name=members, digit=st.sampled_from("0123"))
    def submit_an_erasure(self, which: int, name: str, digit: str) -> None:
        if name not in self.upcoming.members:
            return
        record = Erasure(
            v=1, type="erasure", ledger=FOUR.ledger, author=name, disclosure=digit * 64
        )
        self.submit(which, sign_record(record, [FOUR.members[name][Role.RECORD]]))

    @rule(which=stores, name=members, job=st.sampled_from("12"), majority=st.sampled_from([0, 200]))
    def submit_an_evaluation(self, which: int, name: str, job: str, majority: int) -> None:
        """One for each job and author, whatever it says; the rounds' rules are not the store's."""
        if name not in self.upcoming.members:
            return
        nothing = Measures(**dict.fromkeys(Measures.model_fields))
        record = Evaluation(
            v=1, type="evaluation", ledger=FOUR.ledger, author=name, job=f"job-{job}",
            model="0" * 64, noised=False, positives=5, negatives=5, federated=nothing,
            calibrated=nothing, alone=nothing, majority=majority, gain=None,
        )  # fmt: skip
        self.submit(which, sign_record(record, [FOUR.members[name][Role.RECORD]]))

    def submit(self, which: int, entry: Entry) -> None:
        """The first record under a key counts; the same again is harmless."""
        key = submission_key(entry.record)
        known = {submission_key(e.record): e for e in [*self.flat, *self.waiting]}
        if known.get(key, entry) != entry:
            with pytest.raises(RecordInvalid):
                self.stores[which].submit(entry)
            return
        assert self.stores[which].submit(entry) == key
        if key not in known:
            self.waiting.append(entry)

    @precondition(lambda self: bool(self.waiting))
    @rule(which=stores, finish=mostly)
    def propose_what_was_submitted(self, which: int, finish: bool) -> None:
        if finish:
            self.co_sign_the_newest(which)
        entries: list[Entry] = []
        before = now = self.upcoming
        for entry in self.waiting:
            if now.digest == before.digest:
                try:
                    before.check_entry(entry)
                    now = now.after([entry.record])
                except LedgerError:
                    continue
                entries.append(entry)
        if entries and not self.kept[-1].final:
            with pytest.raises(QuorumMissing):
                propose_submissions(self.stores[which], FOUR.coordinator)
            return
        block = propose_submissions(self.stores[which], FOUR.coordinator)
        if not entries:
            assert block is None
            return
        assert block is not None
        assert list(block.entries) == entries
        self.appended(entries)

    @rule(which=stores)
    def reopen(self, which: int) -> None:
        self.stores[which] = LedgerStore(self.engine)

    # what is read

    @rule(which=stores, job=st.sampled_from([None, "job-a", "job-b", "job-c"]), data=st.data())
    def read(self, which: int, job: str | None, data: st.DataObject) -> None:
        type = data.draw(st.sampled_from(["refusal", "change", "approval", "genesis"]))
        round = data.draw(st.none() | st.integers(1, self.rounds + 1))
        expected = [
            entry
            for entry in self.flat
            if type == entry.record.type
            and job in (None, getattr(entry.record, "job", None))
            and round in (None, getattr(entry.record, "round", None))
        ]
        assert self.stores[which].entries(type, job, round) == expected

    @precondition(lambda self: self.final_height >= 0)
    @rule(which=stores, data=st.data())
    def export_and_verify(self, which: int, data: st.DataObject) -> None:
        first = data.draw(st.integers(0, self.final_height))
        last = data.draw(st.integers(first, self.final_height))
        key = FOUR.coordinator[Role.RECORD]
        with tempfile.TemporaryDirectory() as folder, self.stores[which].snapshot() as snapshot:
            out = Path(folder) / "export"
            export_ledger(snapshot, "coordinator", key, out, (first, last))
            with pytest.raises(RangeInvalid):
                export_ledger(
                    snapshot, "coordinator", key, Path(folder) / "no", (0, self.final_height + 1)
                )
            written = (out / "entries.jsonl").read_bytes().splitlines()
            verified = verify_export(out, FOUR.ledger)
        assert written == [e.data for kept in self.kept[first : last + 1] for e in kept.entries]
        assert (verified.first_height, verified.height) == (first, last)
        assert verified.fewest_cosigners == min(len(k.lines) for k in self.kept[first : last + 1])

    @invariant()
    def both_stores_say_the_same(self) -> None:
        if not self.kept:
            return
        newest = len(self.kept) - 1
        for store in self.stores:
            head, chain = store.head(), store.chain()
            assert head.header.height == chain.header.height == newest
            assert head.final == self.kept[-1].final
            assert store.final_height() == self.final_height
            assert store.cosignatures(newest) == sorted(self.kept[-1].lines.values())
            assert chain.membership.digest == self.kept[-1].in_force.digest
            assert chain.upcoming == self.upcoming
            assert chain.frontier.size == len(self.flat) + len(self.kept)
            assert set(store.conflicts()) == self.conflicts
            assert store.submissions() == self.waiting

    def teardown(self) -> None:
        """At the end every block is read once more, by a store that has seen nothing."""
        if not self.kept:
            return
        cold = LedgerStore(self.engine)
        assert [list(block.entries) for block in cold.blocks()] == [k.entries for k in self.kept]
        for height, kept in enumerate(self.kept):
            assert cold.cosignatures(height) == sorted(kept.lines.values())


def run(engine: Engine, reset: Reset, examples: int, steps: int, *, random: bool) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: LedgerMachine(engine, reset),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            derandomize=not random,
            database=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_store_is_a_list(engine: Engine, reset: Reset) -> None:
    run(engine, reset, 16, 25, random=False)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_store_is_a_list_whatever_is_tried(engine: Engine, reset: Reset) -> None:
    run(engine, reset, 150, 50, random=True)
