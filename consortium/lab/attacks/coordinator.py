"""A coordinator that cheats: the hospitals are honest, and are asked to take what it proposes.

Its code is what an honest member answers to the block. So that a refusal says something, the block
that follows from the round's records is put to them as well: a member that refuses that one is a
false alarm.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np

from consortium.lab.arena import Arena, Played
from consortium.lab.attacks.attack import Attack, Trial, counted
from consortium.lab.members import Block, Members
from consortium.lab.submission import Submission, submit
from consortium.rounds.checks import Reveal, RoundContext
from consortium.rounds.commitment import closed_set_digest
from consortium.rounds.result import RoundRecords
from ledger import canonical
from ledger.content import model_hash
from ledger.entry import Entry, assemble, sign_record
from ledger.keys import Role
from ledger.records import ACCEPTED, Close, Verdict


class CoordinatorAttack(Attack):
    """Plays an honest round, and proposes another block than its records give."""

    def __init__(self, arena: Arena, cheat: str) -> None:
        super().__init__(arena, cheat)
        self.members = Members(arena)
        self.submitted: dict[str, Submission] = {}

    @property
    def guilty(self) -> Collection[str]:
        """No hospital."""
        return ()

    def submissions(self) -> dict[str, Submission]:
        """Honest ones, and kept: the coordinator has seen all that was revealed."""
        self.submitted = super().submissions()
        return self.submitted

    def trial(self, played: Played) -> Trial:
        """What members answer to the block, and whether they take the right one."""
        reveals = self.reveals(played, self.submitted)
        code = self.answered(played, reveals)
        right = self.members.proposed(played.context, played.records, reveals)
        refused = self.members.refuse(right, reveals)
        found = counted(code or ACCEPTED, played, self.guilty)
        self.members.follow(played, reveals)
        return found if refused is None else replace(found, false_alarms=found.honest)

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """The code with which members answer to the coordinator's cheat; None: it succeeds."""
        raise NotImplementedError

    def reveals(self, played: Played, submitted: Mapping[str, Submission]) -> dict[str, Reveal]:
        """What was revealed in a round, by hospital."""
        proofs = {entry.record.author: entry for entry in played.records.proofs}
        return {name: Reveal(proof, submitted[name].update) for name, proof in proofs.items()}

    def close(self, context: RoundContext, name: str, digest: str) -> Entry:
        """A hospital's signature on a set of commitments."""
        record = Close(
            v=1, type="close", ledger=context.ledger, author=name, job=context.job.job,
            round=context.round, attempt=context.attempt, digest=digest,
        )  # fmt: skip
        return sign_record(record, [self.arena.hospitals[name].keys[Role.RECORD]])


class AddedCommitment(CoordinatorAttack):
    """A friend commits once the reveals are known: to a copy of one of them."""

    def submissions(self) -> dict[str, Submission]:
        """All but the friend's."""
        others = [name for name in self.arena.hospitals if name != self.cheat]
        self.submitted = self.arena.honest_submissions(others)
        return self.submitted

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """To the set with the friend's commitment in it, its close and its proof."""
        context, records = played.context, played.records
        weights = played.examined[self.other].weights
        assert weights is not None
        keys = self.arena.hospitals[self.cheat].keys
        late = submit(context, self.cheat, keys, weights, reveals_before=0)
        commitments = _sorted((*records.commitments, late.commitment()))
        digest = closed_set_digest(commitments)
        shown = late.reveal(digest)
        added = replace(
            records,
            commitments=commitments,
            closes=_sorted((*records.closes, self.close(context, self.cheat, digest))),
            proofs=_sorted((*records.proofs, shown.proof)),
        )
        everything = {**reveals, self.cheat: shown}
        return self.members.refuse(self.members.proposed(context, added, everything), everything)


class RewrittenVerdict(CoordinatorAttack):
    """A verdict says that the proof is harmful, under the signature that it had."""

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """To the block with that verdict."""
        records = played.records
        verdicts = tuple(
            self.rewritten(entry) if entry.record.author == self.other else entry
            for entry in records.verdicts
        )
        block = self.members.proposed(played.context, replace(records, verdicts=verdicts), reveals)
        return self.members.refuse(block, reveals)

    def rewritten(self, entry: Entry) -> Entry:
        """The same signature under other findings."""
        verdict = entry.record
        assert isinstance(verdict, Verdict)
        findings = tuple(
            finding.model_copy(update={"code": "NearCopy"})
            if finding.institution == self.cheat else finding
            for finding in verdict.findings
        )  # fmt: skip
        changed = verdict.model_copy(update={"findings": findings})
        return assemble(changed, canonical.loads(entry.data)["signatures"])


class SwappedModel(CoordinatorAttack):
    """The result names another model than the accepted updates give."""

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """To the block with that result."""
        model = {name: -np.asarray(array) for name, array in played.model.items()}
        block = self.members.proposed(
            played.context, played.records, reveals, model_after=model_hash(model)
        )
        return self.members.refuse(block, reveals)


class ForkedBlock(CoordinatorAttack):
    """Two blocks at one height, each of them right: one leaves out a verdict."""

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """To whoever shows both as final: one half of the members co-signed each."""
        records = played.records
        fewer = replace(records, verdicts=records.verdicts[:-1])
        blocks = [self.members.proposed(played.context, each, reveals) for each in (records, fewer)]
        names = sorted(self.arena.hospitals)
        halves = names[: len(names) // 2], names[len(names) // 2 :]
        codes = [
            self.members.refuse(block, reveals)
            or self.members.not_final(*self.members.cosigned(block, half))
            for block, half in zip(blocks, halves, strict=True)
        ]
        return codes[0] if None not in codes else None


class SplitCommitments(CoordinatorAttack):
    """One half of the hospitals is shown another set than the other, and reveals all the same."""

    def answered(self, played: Played, reveals: Mapping[str, Reveal]) -> str | None:
        """To the block with one half's set, its closes and its proofs."""
        context, names = played.context, sorted(self.arena.hospitals)
        half = names[: len(names) // 2]
        digest = closed_set_digest(played.records.commitments)
        shown = {name: reveals[name] for name in half}
        records = RoundRecords(
            commitments=played.records.commitments,
            closes=tuple(self.close(context, name, digest) for name in half),
            proofs=tuple(reveal.proof for reveal in shown.values()),
        )
        return self.members.refuse(self.members.proposed(context, records, shown), shown)


def _sorted(entries: Collection[Entry]) -> Block:
    return tuple(sorted(entries, key=lambda entry: entry.record.author))
