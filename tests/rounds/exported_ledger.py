"""A ledger made of values, co-signed by all its members whatever it says, and its export."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import rounds_examples
from rounds_examples import (
    CREDITS,
    Submission,
    all_records,
    finding,
    honest_findings,
    honest_step,
    make_example_job,
    member_form,
    moved,
    names,
    reveal_all,
    spend_of,
    submit,
    verdict,
)

from consortium import weights as weight_forms
from consortium.audit import ExportView
from consortium.contract import initial_model
from consortium.rounds.checks import Examined, RoundContext, examine
from consortium.rounds.progress import next_place, rounds_done
from consortium.rounds.replay import check_block, released_model, round_context
from consortium.rounds.result import RoundRecords, derive_result
from ledger.block import Block, Header
from ledger.chain import Chain, ledger_id
from ledger.content import Weights, digest, model_hash
from ledger.disclosure import Disclosure
from ledger.entry import Entry, sign_record
from ledger.export import Contents, export_ledger
from ledger.keys import KeyRing, Role
from ledger.membership import COORDINATOR_ROLES, change_digest
from ledger.merkle import Frontier, Span
from ledger.note import cosign
from ledger.records import (
    Approval,
    Change,
    Genesis,
    Job,
    JobEnd,
    KeyForm,
    MemberForm,
    Policy,
    Result,
    Rotate,
    consent_message,
)
from ledger.sequencer import genesis_block, next_block

CREATED = 1_750_000_000
NOBODY = digest(b"a person")


class Keys:
    """Keys by institution; `rotate` makes new ones."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}
        self._made = rounds_examples.keys_of

    def __call__(self, name: str) -> KeyRing:
        return self._made(self._names.get(name, name))

    def rotate(self, name: str) -> None:
        self._names[name] = f"{name} anew"

    def first(self, name: str) -> KeyRing:
        return self._made(name)

    def of(self, form: MemberForm) -> KeyRing:
        """The keys that a member stands with in one membership."""
        both = self.first(form.id), self(form.id)
        return next(keys for keys in both if keys[Role.RECORD].public == form.key(Role.RECORD))


def genesis(founders: Sequence[MemberForm]) -> Genesis:
    keys = rounds_examples.keys_of("coordinator")
    return Genesis(
        v=1, type="genesis", author="coordinator", consortium="Audited",
        coordinator={role: KeyForm.of(keys[role].public) for role in COORDINATOR_ROLES},
        founders=tuple(founders), policy=Policy(quorum="floor((n+f)/2)+1", credits=CREDITS),
        created=CREATED,
    )  # fmt: skip


@dataclass(frozen=True)
class Played:
    """What was signed in one round, and what checks 1 to 7 say of it."""

    context: RoundContext
    records: RoundRecords
    examined: dict[str, Examined]


def with_codes(
    context: RoundContext, records: RoundRecords, codes: Mapping[str, str]
) -> RoundRecords:
    """The same round with verdicts in which everybody says the same."""
    verdicts = []
    for author in names(4):
        said = honest_findings(author, codes)
        said = [
            found if codes[found.institution] == "Accepted" else finding(
                found.institution, code=codes[found.institution], score=None, harmful=None,
                shapley=None,
            )
            for found in said
        ]  # fmt: skip
        closed = records.verdicts[0].record.body()["digest"]
        verdicts.append(verdict(context, author, closed, said, records.proofs))
    return replace(records, verdicts=tuple(verdicts))


class Ledger:
    """A coordinator, four members, their contents; also `ledger.copies.LedgerCopy`."""

    def __init__(self, root: Path, keys: Keys, record: Genesis) -> None:
        self.root, self.keys, self.id = root, keys, ledger_id(record)
        for name in ("content", "models"):
            (root / name).mkdir(parents=True)
        signers = ["coordinator", *names(4)]
        entry = sign_record(record, [keys(name)[Role.RECORD] for name in signers])
        block = genesis_block(entry, keys("coordinator"))
        self.chain = Chain.begin(block)
        self.view = ExportView(root, Chain.begin(block))
        self.stored = [(block, self._cosigned(), self.chain.frontier.copy())]

    def _cosigned(self) -> list[str]:
        text, members = self.chain.checkpoint.text(), self.chain.membership.members
        return sorted(
            cosign(name, self.keys.of(form)[Role.COSIGN], text, CREATED + 9)
            for name, form in members.items()
        )

    # blocks

    def lie(self, *entries: Entry) -> None:
        """A block that everybody co-signs without a look."""
        _, lines, _ = self.stored[-1]
        block = next_block(self.chain, entries, lines, CREATED + 60, self.keys("coordinator"))
        self.chain.follow(block)
        self.stored.append((block, self._cosigned(), self.chain.frontier.copy()))

    def add(self, *entries: Entry) -> None:
        """A block as members co-sign it: checked first."""
        checked = check_block(self.view, entries)
        if checked.model is not None:
            self.keep_model(checked.model)
        self.lie(*entries)
        self.view.accept(self.stored[-1][0], checked)

    def keep_model(self, model: Weights) -> str:
        name = model_hash(model)
        (self.root / "models" / name).write_bytes(weight_forms.to_bytes(model))
        return name

    def keep_update(self, update: bytes) -> str:
        (self.root / "content" / digest(update)).write_bytes(update)
        return digest(update)

    def sign(self, record: Any, name: str = "coordinator", role: Role = Role.RECORD) -> Entry:
        return sign_record(record, [self.keys(name)[role]])

    # jobs

    def job(self, name: str = "job-1", rounds: int = 2) -> Job:
        job = make_example_job(rounds=rounds).model_copy(update={"job": name})
        self.keep_model(initial_model(job.task, job.seed))
        return job

    def end(self, status: str, **changed: Any) -> Entry:
        job = self.view.jobs()[-1]
        results = self.view.results(job.job)
        body = {
            "v": 1, "type": "job-end", "ledger": self.id, "author": "coordinator", "job": job.job,
            "status": status, "rounds": rounds_done(results),
            "model": self.keep_model(released_model(self.view, job, results)),
        }  # fmt: skip
        return self.sign(JobEnd.model_validate({**body, **changed}))

    def play(
        self, before: int = 0, change: Callable[[Submission], Submission] = lambda s: s,
        **steps: np.ndarray,
    ) -> Played:  # fmt: skip
        """The next round, after ``before`` earlier ones; ``change`` makes hospital-1 cheat.

        ``steps`` are taken instead of new ones: h1 for hospital-1.
        """
        job = self.view.jobs()[-1]
        context = round_context(self.view, job, *next_place(self.view.results(job.job)))
        shown: dict[str, Submission] = {}
        for name in names(4):
            step = steps.get(f"h{name[-1]}")
            step = honest_step(name, len(self.stored)) if step is None else step
            spend = spend_of(context, name, before)
            shown[name] = replace(submit(context, name, moved(context, step)), spend=spend)
        shown["hospital-1"] = change(shown["hospital-1"])
        for submission in shown.values():
            self.keep_update(submission.update)
        revealed = reveal_all(shown)
        examined = examine(context, revealed.commitments, revealed.reveals)
        records = all_records(context, revealed)
        codes = {name: found.code for name, found in examined.items()}
        return Played(context, with_codes(context, records, codes), examined)

    def derived(self, played: Played, examined: dict[str, Examined] | None = None) -> Result:
        """The result that follows, or would if the reveals were what ``examined`` says."""
        result, model = derive_result(
            played.context, played.records, examined or played.examined, CREDITS,
            self.view.results(played.context.job.job),
        )  # fmt: skip
        self.keep_model(model)
        return result

    def round(self, played: Played, result: Result | None = None, **changed: Any) -> list[Entry]:
        """The block's entries."""
        result = (result or self.derived(played)).model_copy(update=changed)
        return [*played.records.all(), self.sign(result)]

    # the export

    def export(self, out: Path, first: int = 0, contents: bool = True) -> Path:
        folders = Contents((self.root / "content").joinpath, (self.root / "models").joinpath)
        key = self.keys("coordinator")[Role.RECORD]
        export_ledger(self, "coordinator", key, out, (first, None), folders if contents else None)
        return out

    def newest(self) -> int:
        return len(self.stored) - 1

    def genesis(self) -> Entry:
        return self.stored[0][0].entries[0]

    def changes(self, last: int) -> list[Entry]:
        entries = [entry for block, _, _ in self.stored[: last + 1] for entry in block.entries]
        return [entry for entry in entries if isinstance(entry.record, Change | Approval)]

    def erased(self) -> list[str]:
        return []

    def header(self, height: int) -> Header:
        return self.stored[height][0].header

    def frontier(self, height: int) -> Frontier:
        return self.stored[height][2]

    def blocks(self, first: int, last: int) -> Iterator[tuple[Block, list[str]]]:
        yield from ((block, lines) for block, lines, _ in self.stored[first : last + 1])

    def write_entries(self, out: IO[bytes], first: int, last: int) -> None:
        for block, _, _ in self.stored[first : last + 1]:
            out.writelines(entry.data + b"\n" for entry in block.entries)

    def subtrees(self, spans: Sequence[Span]) -> list[bytes]:
        raise NotImplementedError

    def leaf(self, index: int) -> tuple[int, bytes] | None:
        raise NotImplementedError

    def disclosures(self) -> Iterable[Disclosure]:
        return []


@contextmanager
def audited(root: Path, founders: Sequence[MemberForm] = ()) -> Iterator[Ledger]:
    """A ledger whose id is in every record that `rounds_examples` makes."""
    keys = Keys()
    record = genesis(founders or [member_form(name) for name in names(4)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounds_examples, "LEDGER", ledger_id(record))
        patch.setattr(rounds_examples, "keys_of", keys)
        yield Ledger(root, keys, record)


def rotate(ledger: Ledger, name: str) -> list[Entry]:
    """New keys for a member, with as many approvals as are needed."""
    old = ledger.keys(name)
    ledger.keys.rotate(name)
    form = member_form(name)
    message = consent_message(ledger.id, form)
    action = Rotate(
        kind="rotate", member=form, consent=ledger.keys(name)[Role.RECORD].sign(message).hex(),
        consent_of_old=old[Role.RECORD].sign(message).hex(),
    )  # fmt: skip
    change = Change(
        v=1, type="change", ledger=ledger.id, author="coordinator",
        base=ledger.chain.upcoming.digest, actions=(action,),
    )  # fmt: skip
    approvals = [
        Approval(v=1, type="approval", ledger=ledger.id, author=other,
                 change=change_digest(change), approver=NOBODY)
        for other in names(4) if other != name
    ]  # fmt: skip
    return [ledger.sign(change), *(ledger.sign(a, a.author, Role.APPROVAL) for a in approvals)]


def as_accepted(played: Played, weights: Weights) -> tuple[Played, dict[str, Examined]]:
    """What liars make of a cheat by hospital-1: it passed, and they have its update."""
    records = with_codes(played.context, played.records, dict.fromkeys(names(4), "Accepted"))
    examined = {**played.examined, "hospital-1": Examined("Accepted", weights)}
    return replace(played, records=records), examined
