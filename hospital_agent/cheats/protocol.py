"""Cheats that break a step of the protocol around an update that may be honest."""

from collections.abc import Mapping
from decimal import Decimal
from hashlib import sha256

from consortium import weights as weight_forms
from consortium.phases import Phase, Reply, Request
from consortium.rounds.checks import Examined, RoundContext
from hospital_agent.cohort import Cohort
from hospital_agent.participant import Participant
from hospital_agent.rounds import Trained
from ledger.content import Weights
from ledger.records import Finding, Job, Proof, Spend
from privacy.budget_status import Spend as Charged
from privacy.contract import PrivacyTerms, decimal_text
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash


class Replayer(Participant):
    """Sends what was revealed in the round before once more, byte for byte."""

    def draw(self, context: RoundContext) -> tuple[bytes, bytes]:
        """That of an earlier round's mapping; this one's, where there was none."""
        old = self._revealed(context)
        if old is None:
            return super().draw(context)
        vrf_proof = bytes.fromhex(old.vrf_proof)
        return proof_to_hash(vrf_proof), vrf_proof

    def mapped_update(
        self, cohort: Cohort, job: Job, context: RoundContext, terms: PrivacyTerms,
        mapping: SecureMapping,
    ) -> Weights:  # fmt: skip
        """The update that goes with it."""
        old = self._revealed(context)
        if old is None:
            return super().mapped_update(cohort, job, context, terms, mapping)
        return weight_forms.from_bytes(self.folder.content.get(old.update))

    def _revealed(self, context: RoundContext) -> Proof | None:
        """Its own newest reveal of the job in even rounds, another's in odd ones."""
        for entry in reversed(self.view.replica.entries("proof", context.job.job)):
            own = entry.record.author == self.folder.institution
            if isinstance(entry.record, Proof) and own == (context.round % 2 == 0):
                return entry.record
        return None


class FalseEpsilon(Participant):
    """Declares less than it has spent."""

    def declared(self, terms: PrivacyTerms, spend: Charged) -> Spend:
        """Half of the epsilon, all else as it is."""
        honest = super().declared(terms, spend)
        return honest.model_copy(update={"epsilon": _half(honest.epsilon)})


class NoReveal(Participant):
    """Commits, closes, and shows nothing."""

    def answer(self, request: Request) -> Reply:
        """No answer to the reveal, an honest one to all else."""
        if request.phase is Phase.REVEAL:
            return Reply(self.folder.institution, error="NoAnswer")
        return super().answer(request)


class DoubleCommitter(Participant):
    """Commits to its update, and to the current model, and opens the second commitment.

    What it keeps is the choice what to show. The second salt is drawn from the first.
    """

    def answer(self, request: Request) -> Reply:
        """The second commitment goes out beside the first."""
        reply = super().answer(request)
        place = request.job, request.round, request.attempt
        trained = self.memory.trained(place)
        if request.phase is not Phase.TRAIN or reply.error or trained is None:
            return reply
        _, _, context = self._context(request)
        second = self.opening(context, trained)
        return Reply(reply.institution, (*reply.entries, second.commitment))

    def opening(self, context: RoundContext, trained: Trained) -> Trained:
        """What opens the second commitment."""
        mapping = SecureMapping.derive(proof_to_hash(trained.vrf_proof), context.groups)
        state = mapping.map_state(weight_forms.to_torch(context.model))
        update = self.folder.content.put(weight_forms.to_bytes(weight_forms.from_torch(state)))
        salt = sha256(trained.salt).digest()
        return self.committed(context, update, trained.vrf_proof, salt)


class LyingValidator(Participant):
    """Finds its own proof good and all others bad."""

    def judged(
        self, job: Job, context: RoundContext, examined: Mapping[str, Examined]
    ) -> tuple[Finding, ...]:
        """All others are copies, harmful, and worth nothing."""
        lie = {"code": "NearCopy", "score": 0, "harmful": True, "shapley": -10_000}
        praise = {"code": "Accepted"}
        return tuple(
            finding.model_copy(
                update=praise if finding.institution == self.folder.institution else lie
            )
            for finding in super().judged(job, context, examined)
        )


def _half(epsilon: str) -> str:
    return decimal_text((Decimal(epsilon) / 2).quantize(Decimal("0.0001")))
