"""Checks 1 to 7 on a reveal, in this order, each with its own code.

They are deterministic: every validator reaches the same result from the same bytes, so sums that
meet a threshold are exactly rounded (`math.fsum`) and do not depend on the machine.

1. ``NotAMember``, ``SignatureInvalid``: the proof is signed by a member that takes part.
2. ``CommitmentMismatch``: it opens that member's commitment in the closed set.
3. ``VrfProofInvalid``: the mapping was drawn with this institution's key for this very round.
4. ``UpdateMalformed``, ``UpdateNotFinite``: names, shapes, types; no NaN, no infinity.
5. ``StepTooLarge``: it lies within reach of the current model (`step_cap`).
6. ``PrivacyClaimInvalid``: what it declares to have spent is what the contract's terms cost.
7. ``NearCopy``: it is no near-copy of another, of this round or an earlier one (`near_copy`).

What passing means, and no more: this institution submitted this update for this round, it starts
from the current model, is bounded, and is nobody else's. Not that real patients were trained on,
nor that the declared noise was really added.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from math import fsum, sqrt

import numpy as np

from consortium import weights as weight_forms
from consortium.errors import RoundInvalid
from consortium.rounds.commitment import closed_set_digest, commitment_hash
from consortium.rounds.near_copy import EarlierStep, near_copies
from ledger.content import Weights, digest, model_hash
from ledger.entry import Entry
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import (
    ACCEPTED,
    Commitment,
    Job,
    MemberForm,
    Participant,
    Proof,
    SampledSpend,
    Spend,
)
from privacy.accounting import Accountant, Cost, GaussianAccountant, RenyiAccountant, cost_of_round
from privacy.contract import PrivacyTerms
from privacy.errors import PrivacyError
from sml.alpha import alpha
from sml.errors import SmlError
from sml.mapping import MappingGroup, SecureMapping
from sml.vrf import verify as verify_vrf

_ROUNDED = Fraction(1, 10**18)


@dataclass(frozen=True)
class RoundContext:
    """What every member knows before a round's reveals: values, nothing to fetch.

    ``base`` is the hash of the final block that the round starts from; ``model`` the current
    global model W_t (float32 arrays by name); ``groups`` the axes that the secure mapping
    permutes; ``earlier`` the steps of the earlier reveals of this job; ``spent`` what each
    institution declared in its last proof for this task.
    """

    ledger: str
    base: str
    job: Job
    round: int
    attempt: int
    members: Mapping[str, MemberForm]
    model: Weights
    groups: tuple[MappingGroup, ...]
    earlier: Sequence[EarlierStep] = field(default=(), repr=False)
    spent: Mapping[str, Spend] = field(default_factory=dict)

    def participant(self, institution: str) -> Participant | None:
        """The institution's part in the job, if it has one."""
        return next((p for p in self.job.participants if p.institution == institution), None)


@dataclass(frozen=True)
class Reveal:
    """What a hospital shows: its signed proof, and its mapped update (safetensors bytes)."""

    proof: Entry
    update: bytes = field(repr=False)


@dataclass(frozen=True)
class Examined:
    """The outcome of checks 1 to 7 on one reveal.

    ``weights`` is the un-mapped update, None where checks 1 to 4 left none; only ``code`` says
    whether it passed.
    """

    code: str
    weights: Weights | None = field(default=None, repr=False)


class _Failed(Exception):
    """A check failed; the argument is its code."""


def examine(
    context: RoundContext, commitments: Sequence[Entry], reveals: Mapping[str, Reveal]
) -> dict[str, Examined]:
    """Checks 1 to 7 on all reveals of a round, by institution."""
    set_digest = closed_set_digest(commitments)
    committed = {entry.record.author: entry for entry in commitments}
    examined: dict[str, Examined] = {}
    for name in sorted(reveals):
        try:
            examined[name] = _check_one(
                context, name, committed.get(name), set_digest, reveals[name]
            )
        except _Failed as failed:
            examined[name] = Examined(str(failed))
    model = weight_forms.vector(context.model)
    steps = {
        name: weight_forms.vector(found.weights) - model
        for name, found in examined.items()
        if found.code == ACCEPTED and found.weights is not None
    }
    participants = {p.institution: p for p in context.job.participants}
    false_alarm = float(context.job.thresholds.false_alarm)
    for name in near_copies(steps, context.earlier, participants, false_alarm):
        examined[name] = Examined("NearCopy", examined[name].weights)
    return examined


def _check_one(
    context: RoundContext, name: str, committed: Entry | None, set_digest: str, reveal: Reveal
) -> Examined:
    participant, proof = _membership(context, name, reveal.proof)
    _opening(context, committed, set_digest, proof, reveal.update)
    mapping = _mapping(context, name, proof)
    weights = _unmapped(context, mapping, reveal.update)
    try:
        _step(context, participant, weights)
        _privacy(context, participant, proof)
    except _Failed as failed:
        return Examined(str(failed), weights)
    return Examined(ACCEPTED, weights)


def _membership(context: RoundContext, name: str, entry: Entry) -> tuple[Participant, Proof]:
    member, participant = context.members.get(name), context.participant(name)
    if member is None or participant is None:
        raise _Failed("NotAMember")
    try:
        proof = entry.record
        entry.verify([member.key(Role.RECORD)])
    except LedgerError:
        raise _Failed("SignatureInvalid") from None
    if not isinstance(proof, Proof) or proof.author != name or proof.ledger != context.ledger:
        raise _Failed("SignatureInvalid")
    return participant, proof


def _opening(
    context: RoundContext, committed: Entry | None, set_digest: str, proof: Proof, update: bytes
) -> None:
    commitment = committed.record if committed is not None else None
    opened = commitment_hash(
        update=digest(update),
        vrf_proof=bytes.fromhex(proof.vrf_proof),
        salt=bytes.fromhex(proof.salt),
        model=model_hash(context.model),
        institution=proof.author,
        job=context.job.job,
        round=context.round,
        attempt=context.attempt,
    )
    holds = (
        isinstance(commitment, Commitment)
        and opened == commitment.commitment
        and proof.update == digest(update)
        and proof.digest == set_digest
        and (proof.job, proof.round, proof.attempt)
        == (context.job.job, context.round, context.attempt)
    )
    if not holds:
        raise _Failed("CommitmentMismatch")


def round_alpha(context: RoundContext, institution: str) -> bytes:
    """What the institution's mapping is drawn from in this round."""
    return alpha(
        context.ledger, context.base, context.job.job, context.round, institution,
        model_hash(context.model),
    )  # fmt: skip


def _mapping(context: RoundContext, name: str, proof: Proof) -> SecureMapping:
    public = context.members[name].key(Role.VRF).public
    try:
        beta = verify_vrf(public, round_alpha(context, name), bytes.fromhex(proof.vrf_proof))
    except SmlError:
        raise _Failed("VrfProofInvalid") from None
    return SecureMapping.derive(beta, context.groups)


def _unmapped(context: RoundContext, mapping: SecureMapping, update: bytes) -> Weights:
    try:
        mapped = weight_forms.from_bytes(update)
    except RoundInvalid:
        raise _Failed("UpdateMalformed") from None
    if {n: (a.dtype, a.shape) for n, a in mapped.items()} != {
        n: (a.dtype, a.shape) for n, a in context.model.items()
    }:
        raise _Failed("UpdateMalformed")
    if not all(np.isfinite(array).all() for array in mapped.values()):
        raise _Failed("UpdateNotFinite")
    return weight_forms.from_torch(mapping.unmap_state(weight_forms.to_torch(mapped)))


def unmapped_step(context: RoundContext, proof: Proof, update: bytes) -> np.ndarray | None:
    """The step of an update that was revealed, un-mapped; None where checks 3 or 4 fail."""
    try:
        weights = _unmapped(context, _mapping(context, proof.author, proof), update)
    except _Failed:
        return None
    return weight_forms.vector(weights) - weight_forms.vector(context.model)


def step_cap(participant: Participant, parameters: int) -> float:
    """The longest step that the contract's terms allow, but for one honest round in 200,000.

    Each of T steps moves by the learning rate times the sum of at most 1.5 * normaliser clipped
    gradients, and by Gaussian noise. The norm of all noise together, in p dimensions, stays below
    sqrt(T) (sqrt(p) + 5) standard deviations (Laurent and Massart, 2000). On sampled batches the
    patients drawn in all T steps are binomial, of mean m: below m + x where x^2 = 25 (m + x / 3)
    (Bernstein).

    The relative distance of a wrongly un-mapped update, sqrt(2) |W_t|, fails here once it is
    longer than the cap; under strong noise that is late in a job, or never. What holds there is
    the commitment, the proof of the mapping and the score.
    """
    terms = privacy_terms(participant)
    signal = 1.5 * terms.steps
    if not terms.full_batch:
        drawn = signal * float(terms.divisor)
        signal = (drawn + 25 / 6 + sqrt((25 / 6) ** 2 + 25 * drawn)) / float(terms.divisor)
    noise = float(terms.noise_multiplier / terms.divisor)
    reach = signal + noise * sqrt(terms.steps) * (sqrt(parameters) + 5)
    return float(terms.learning_rate * terms.clip) * reach


def _step(context: RoundContext, participant: Participant, weights: Weights) -> None:
    step = weight_forms.vector(weights) - weight_forms.vector(context.model)
    if sqrt(fsum((step * step).tolist())) > step_cap(participant, len(step)):
        raise _Failed("StepTooLarge")


def _privacy(context: RoundContext, participant: Participant, proof: Proof) -> None:
    terms, spend = participant.terms, proof.spend
    declared = spend.model_dump(
        include={"steps", "sample_rate", "noise_multiplier", "clip", "normaliser", "delta"}
    )
    agreed = {name: getattr(terms, name) for name in declared}
    try:
        accountant, before, after = declared_spend(spend)
        cost = cost_of_round(privacy_terms(participant))
        accountant.counted(cost)  # a cohort that counts full-batch steps serves no others
        flattered = accountant.epsilon(after, Decimal(terms.delta)) - float(spend.epsilon) > 2e-4
    except (PrivacyError, ValueError):
        raise _Failed("PrivacyClaimInvalid") from None
    if declared != agreed or flattered or not _adds_up(before, cost, after):
        raise _Failed("PrivacyClaimInvalid")
    # Within one cohort, what was spent before is at least what its last proof declared; and how it
    # counts was fixed before its first release.
    last = context.spent.get(proof.author)
    if last is not None and last.cohort == spend.cohort:
        counted_as, _, spent = declared_spend(last)
        if counted_as != accountant or not _at_least(before, spent):
            raise _Failed("PrivacyClaimInvalid")


def declared_spend(spend: Spend) -> tuple[Accountant, Cost, Cost]:
    """How a proof's cohort counts, and what it had spent before and after, as the proof declares.

    Raises:
        ValueError: if the order, or a curve's length, is none that there is.
    """
    mu2 = Fraction(spend.mu2_before), Fraction(spend.mu2_after)
    if not isinstance(spend, SampledSpend):
        return GaussianAccountant(), Cost(mu2[0]), Cost(mu2[1])
    before, after = (
        tuple(map(Fraction, curve)) for curve in (spend.sampled_before, spend.sampled_after)
    )
    return RenyiAccountant(spend.order), Cost(mu2[0], before), Cost(mu2[1], after)


def _adds_up(before: Cost, cost: Cost, after: Cost) -> bool:
    """Whether one round's cost lies between two declared ones.

    What is declared is rounded up: to 18 places, and a sampled step's divergence by more than
    members' own sums may differ. Epsilon's tolerance is wider, so that members whose last digits
    differ judge an honest claim alike.
    """
    expected = before + cost
    if len(expected.sampled) != len(after.sampled):
        return False
    if abs(after.mu2 - expected.mu2) > max(cost.mu2 / 10**12, _ROUNDED):
        return False
    if not cost.sampled:
        return after.sampled == before.sampled
    curves = zip(after.sampled, expected.sampled, cost.sampled, strict=True)
    return all(abs(a - b) <= max(rho / 10**6, _ROUNDED) for a, b, rho in curves)


def _at_least(cost: Cost, other: Cost) -> bool:
    if cost.mu2 < other.mu2 or not other.sampled:
        return cost.mu2 >= other.mu2
    same_length = len(cost.sampled) == len(other.sampled)
    return same_length and all(a >= b for a, b in zip(cost.sampled, other.sampled, strict=True))


def privacy_terms(participant: Participant) -> PrivacyTerms:
    """The contract's terms for one institution, as the accountant takes them."""
    return PrivacyTerms.from_record(participant.terms.model_dump())
