"""Check 3: the mapping was drawn with the institution's own key, for this very round."""

from consortium.rounds.checks.context import Failed, RoundContext
from ledger.keys import Role
from ledger.records import Proof
from sml.alpha import alpha
from sml.errors import SmlError
from sml.mapping import SecureMapping
from sml.vrf import verify as verify_vrf


def round_alpha(context: RoundContext, institution: str) -> bytes:
    """What the institution's mapping is drawn from in this round."""
    return alpha(
        context.ledger, context.base, context.job.job, context.round, institution,
        context.model_hash,
    )  # fmt: skip


def check_mapping(context: RoundContext, name: str, proof: Proof) -> SecureMapping:
    """The mapping that the institution trained under.

    Raises:
        Failed: ``VrfProofInvalid``.
    """
    return SecureMapping.derive(mapping_draw(context, name, proof), context.groups)


def mapping_draw(context: RoundContext, name: str, proof: Proof) -> bytes:
    """The VRF output that the institution's mapping is drawn from, 64 bytes.

    Raises:
        Failed: ``VrfProofInvalid``.
    """
    member = context.members.get(name)
    if member is None:
        raise Failed("VrfProofInvalid")
    try:
        return verify_vrf(
            member.key(Role.VRF).public, round_alpha(context, name), bytes.fromhex(proof.vrf_proof)
        )
    except SmlError:
        raise Failed("VrfProofInvalid") from None
