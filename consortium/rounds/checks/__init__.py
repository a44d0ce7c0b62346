"""Checks 1 to 8 on a reveal, in this order, each with its own code.

They are deterministic: every validator reaches the same result from the same bytes, so sums that
meet a threshold are exactly rounded (`math.fsum`) and do not depend on the machine.

1. ``NotAMember``, ``SignatureInvalid``: the proof is signed by a member that takes part.
2. ``CommitmentMismatch``: it opens that member's commitment in the closed set.
3. ``VrfProofInvalid``: the mapping was drawn with this institution's key for this very round.
4. ``UpdateMalformed``, ``UpdateNotFinite``: names, shapes, types; no NaN, no infinity.
5. ``StepTooLarge``: it lies within reach of the current model (`step_cap`).
6. ``PrivacyClaimInvalid``: what it declares to have spent is what the contract's terms cost.
7. ``NearCopy``: it is no near-copy of another, of this round or an earlier one (`near_copy`).
8. ``Harmful``: its institution does not work against what the others learn (`opposition`). The
   other part of check 8 is what validators attest of their own patients (`harm`).

What passing means, and no more: this institution submitted this update for this round, it starts
from the current model, is bounded, goes not against the others' (or validators' patients would
miss what it taught: `harm`), and is nobody else's. Not that real patients were trained on, nor that
the declared noise was really added.
"""

from collections.abc import Mapping, Sequence

from consortium import weights as weight_forms
from consortium.rounds.checks.context import Examined, Failed, Reveal, RoundContext
from consortium.rounds.checks.form import check_form, unmapped_step
from consortium.rounds.checks.mapping import check_mapping, round_alpha
from consortium.rounds.checks.membership import check_membership
from consortium.rounds.checks.near_copy import EarlierStep, near_copies
from consortium.rounds.checks.opening import check_opening
from consortium.rounds.checks.opposition import opposed
from consortium.rounds.checks.privacy_claim import (
    check_privacy_claim,
    declared_spend,
)
from consortium.rounds.checks.step import check_step, step_cap
from consortium.rounds.checks.terms import privacy_terms
from consortium.rounds.codes import HARMFUL
from consortium.rounds.commitment import closed_set_digest
from ledger.entry import Entry
from ledger.records import ACCEPTED

__all__ = [
    "EarlierStep",
    "Examined",
    "Reveal",
    "RoundContext",
    "declared_spend",
    "examine",
    "privacy_terms",
    "round_alpha",
    "step_cap",
    "unmapped_step",
]


def examine(
    context: RoundContext, commitments: Sequence[Entry], reveals: Mapping[str, Reveal]
) -> dict[str, Examined]:
    """Checks 1 to 7, and of 8 what follows from the reveals, by institution."""
    set_digest = closed_set_digest(commitments)
    committed = {entry.record.author: entry for entry in commitments}
    examined: dict[str, Examined] = {}
    for name in sorted(reveals):
        try:
            examined[name] = _check_one(
                context, name, committed.get(name), set_digest, reveals[name]
            )
        except Failed as failed:
            examined[name] = Examined(str(failed))
    model = weight_forms.vector(context.model)
    steps = {
        name: weight_forms.vector(found.weights) - model
        for name, found in examined.items()
        if found.code == ACCEPTED and found.weights is not None
    }
    participants = {p.institution: p for p in context.job.participants}
    thresholds = context.job.thresholds
    for name in near_copies(steps, context.earlier, participants, thresholds):
        examined[name] = Examined("NearCopy", examined[name].weights)
        del steps[name]
    for name in opposed(steps, context.earlier, participants, thresholds, context.doubted):
        examined[name] = Examined(HARMFUL, examined[name].weights)
    return examined


def _check_one(
    context: RoundContext, name: str, committed: Entry | None, set_digest: str, reveal: Reveal
) -> Examined:
    participant, proof = check_membership(context, name, reveal.proof)
    check_opening(context, committed, set_digest, proof, reveal.update)
    mapping = check_mapping(context, name, proof)
    weights = check_form(context, mapping, reveal.update)
    try:
        check_step(context, participant, weights)
        check_privacy_claim(context, participant, proof)
    except Failed as failed:
        return Examined(str(failed), weights)
    return Examined(ACCEPTED, weights)
