"""What one hospital commits to and reveals in a round, made of values: change a field to cheat."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from consortium import weights as weight_forms
from consortium.rounds.checks import Reveal, RoundContext, privacy_terms, round_alpha
from consortium.rounds.commitment import commitment_hash
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry, sign_record
from ledger.keys import KeyRing, Role
from ledger.records import Commitment, Participant, Proof, Spend
from privacy.accounting import decimal_up
from privacy.budget_status import epsilon_up
from privacy.contract import decimal_text
from privacy.gaussian import mu_squared_of_round
from sml.mapping import SecureMapping
from sml.vrf import proof_to_hash, prove


@dataclass(frozen=True)
class Submission:
    """One hospital's commitment and reveal, before they are signed.

    Args:
        context: the round that it is for.
        author: the hospital.
        keys: what it signs with.
        update: the mapped update's bytes.
        vrf_proof: what its mapping was drawn with.
        salt: 32 bytes.
        spend: what its proof declares, as `ledger.records.Spend` has it.
        committed: changes to what `commitment_hash` is taken of.
        proved: changes to the proof record.
    """

    context: RoundContext
    author: str
    keys: KeyRing = field(repr=False)
    update: bytes = field(repr=False)
    vrf_proof: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    spend: Mapping[str, Any] = field(repr=False)
    committed: Mapping[str, Any] = field(default_factory=dict)
    proved: Mapping[str, Any] = field(default_factory=dict)

    def commitment(self) -> Entry:
        """The signed commitment."""
        opened = {
            "update": digest(self.update), "vrf_proof": self.vrf_proof, "salt": self.salt,
            "model": model_hash(self.context.model), "institution": self.author,
            "job": self.context.job.job, "round": self.context.round,
            "attempt": self.context.attempt,
        }  # fmt: skip
        body = self._of_round(
            "commitment", base=self.context.base, model=model_hash(self.context.model),
            commitment=commitment_hash(**{**opened, **self.committed}),
        )  # fmt: skip
        return sign_record(Commitment.model_validate(body), [self.keys[Role.RECORD]])

    def reveal(self, set_digest: str) -> Reveal:
        """The signed proof that opens the commitment in the closed set, and the update."""
        body = self._of_round(
            "proof", digest=set_digest, update=digest(self.update), salt=self.salt.hex(),
            vrf_proof=self.vrf_proof.hex(), spend=self.spend,
        )  # fmt: skip
        proof = Proof.model_validate({**body, **self.proved})
        return Reveal(sign_record(proof, [self.keys[Role.RECORD]]), self.update)

    def _of_round(self, type_: str, **more: Any) -> dict[str, Any]:
        context = self.context
        return {
            "v": 1, "type": type_, "ledger": context.ledger, "author": self.author,
            "job": context.job.job, "round": context.round, "attempt": context.attempt, **more,
        }  # fmt: skip


def submit(
    context: RoundContext, author: str, keys: KeyRing, weights: Weights, reveals_before: int
) -> Submission:
    """An honest submission of an un-mapped update: mapped under the hospital's own VRF proof.

    ``reveals_before``: the rounds that its cohort has paid for, all under this contract.
    """
    vrf_proof = prove(keys[Role.VRF].seed, round_alpha(context, author))
    mapping = SecureMapping.derive(proof_to_hash(vrf_proof), context.groups)
    mapped = weight_forms.from_torch(mapping.map_state(weight_forms.to_torch(weights)))
    participant = context.participant(author)
    assert participant is not None
    salt = sha256(f"{author} {context.base} {context.attempt}".encode()).digest()
    return Submission(
        context, author, keys, weight_forms.to_bytes(mapped), vrf_proof, salt,
        honest_spend(participant, reveals_before),
    )  # fmt: skip


def honest_spend(participant: Participant, reveals_before: int) -> dict[str, Any]:
    """What a cohort of full-batch steps declares after so many rounds under this contract."""
    terms = privacy_terms(participant)
    cost = mu_squared_of_round(terms)
    before, after = reveals_before * cost, (reveals_before + 1) * cost
    known = terms.to_record() | {
        "cohort": sha256(participant.institution.encode()).hexdigest()[:32],
        "mu2_before": decimal_up(before),
        "mu2_after": decimal_up(after),
        "epsilon": decimal_text(epsilon_up(after, terms.delta)),
        "delta": decimal_text(terms.delta),
    }
    return {name: known[name] for name in Spend.model_fields}
