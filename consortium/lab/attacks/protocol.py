"""Hospitals that break a step of the protocol around an update that may be honest."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from decimal import Decimal
from hashlib import sha256

from consortium import weights as weight_forms
from consortium.lab.arena import Arena, Findings, Played
from consortium.lab.attacks.attack import Attack, Trial, counted
from consortium.lab.members import Members
from consortium.lab.submission import Submission
from consortium.rounds.checks import Reveal
from ledger.entry import Entry
from ledger.quorum import faulty
from ledger.records import ACCEPTED
from privacy.contract import decimal_text


class OtherSubmission(Attack):
    """Submits its honest update, and changes something about it."""

    def submissions(self) -> dict[str, Submission]:
        """Honest ones, the cheat's changed."""
        submissions = super().submissions()
        return {**submissions, self.cheat: self.changed(submissions[self.cheat])}

    def changed(self, honest: Submission) -> Submission:
        """What the cheat submits."""
        return honest


class Replay(Attack):
    """Sends bytes that were revealed in the round before once more, their mapping's proof too."""

    before: dict[str, Submission] | None = None

    def submissions(self) -> dict[str, Submission]:
        """The cheat's own old bytes in even rounds, another's in odd ones."""
        submissions = super().submissions()
        shown, self.before = self.before, dict(submissions)
        if shown is not None:
            even = self.arena.context.round % 2 == 0
            old = shown[self.cheat if even else self.other]
            submissions[self.cheat] = replace(
                submissions[self.cheat], update=old.update, vrf_proof=old.vrf_proof
            )
        return submissions


class WrongShape(OtherSubmission):
    """An update with one more input than the model has."""

    def changed(self, honest: Submission) -> Submission:
        """The first tensor with a column more."""
        update = dict(weight_forms.from_bytes(honest.update))
        name = max(update, key=lambda key: update[key].ndim)
        update[name] = update[name].repeat([2] + [1] * (update[name].shape[-1] - 1), axis=-1)
        return replace(honest, update=weight_forms.to_bytes(update))


class FalseEpsilon(OtherSubmission):
    """Declares half of the epsilon that it has spent."""

    def changed(self, honest: Submission) -> Submission:
        """All else as it is."""
        half = (Decimal(honest.spend["epsilon"]) / 2).quantize(Decimal("0.0001"))
        return replace(honest, spend={**honest.spend, "epsilon": decimal_text(half)})


class DoubleCommit(OtherSubmission):
    """Signs two commitments, and opens the one that is not in the closed set."""

    def changed(self, honest: Submission) -> Submission:
        """In the set stands the hash of the same update under another salt."""
        return replace(honest, committed={"salt": sha256(honest.salt).digest()})


class NoReveal(Attack):
    """Commits, closes, and never opens its commitment."""

    def revealing(self) -> Collection[str]:
        """All but the cheat."""
        return [name for name in super().revealing() if name != self.cheat]


class LateReveal(NoReveal):
    """Opens its commitment when the reveals have been shown; the coordinator puts it into the
    block, and members are asked to co-sign.
    """

    def __init__(self, arena: Arena, cheat: str) -> None:
        super().__init__(arena, cheat)
        self.members = Members(arena)
        self.shown: dict[str, Submission] = {}

    def submissions(self) -> dict[str, Submission]:
        """Honest ones, kept until it is too late."""
        self.shown = super().submissions()
        return self.shown

    def trial(self, played: Played) -> Trial:
        """Absent from the reveal, and no block that holds the late one is co-signed."""
        late = self.shown[self.cheat].reveal(played.result.digest or "")
        proofs = (*played.records.proofs, late.proof)
        records = replace(played.records, proofs=tuple(sorted(proofs, key=_author)))
        reveals = {
            name: Reveal(proof, self.shown[name].update)
            for proof in proofs
            if (name := proof.record.author)
        }
        block = self.members.proposed(played.context, records, reveals)
        refused = self.members.refuse(block, reveals) is not None
        self.members.follow(played, reveals)
        found = super().trial(played)
        return found if refused else replace(found, code=ACCEPTED)


class LyingValidators(Attack):
    """So many validators, the cheat first, call their own proofs accepted and all others bad."""

    lie: Mapping[str, object] = {
        "code": "NearCopy", "score": 0, "harmful": True, "shapley": -10_000,
    }  # fmt: skip

    def __init__(self, arena: Arena, cheat: str) -> None:
        super().__init__(arena, cheat)
        names = sorted(arena.hospitals)
        first = names.index(cheat)
        count = self.count(faulty(len(names)))
        self.liars = [names[(first + i) % len(names)] for i in range(count)]
        self.twin = arena.twin()

    def count(self, may_lie: int) -> int:
        """How many lie: as many as a consortium of this size bears."""
        return max(1, may_lie)

    def judge(self, name: str, honest: Findings) -> Findings:
        """The lie."""
        if name not in self.liars:
            return honest
        return tuple(
            finding.model_copy(
                update={"code": ACCEPTED} if finding.institution in self.liars else self.lie
            )
            for finding in honest
        )

    def trial(self, played: Played) -> Trial:
        """The first code that differs from the same round without lies; else ``Accepted``."""
        true = self.twin.play(self.twin.honest_submissions()).codes
        changed = [code for name, code in sorted(played.codes.items()) if code != true[name]]
        return counted(changed[0] if changed else ACCEPTED, played, ())


class OneLiarMore(LyingValidators):
    """One more than a consortium of this size bears."""

    def count(self, may_lie: int) -> int:
        """f + 1."""
        return may_lie + 1


def _author(entry: Entry) -> str:
    return entry.record.author
