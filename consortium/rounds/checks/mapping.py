"""Check 3: the mapping was drawn with the institution's own key, for this very round."""

from consortium.rounds.checks.context import Failed, RoundContext
from ledger.content import model_hash
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
        model_hash(context.model),
    )  # fmt: skip


def check_mapping(context: RoundContext, name: str, proof: Proof) -> SecureMapping:
    """The mapping that the institution trained under.

    Raises:
        Failed: ``VrfProofInvalid``.
    """
    public = context.members[name].key(Role.VRF).public
    try:
        beta = verify_vrf(public, round_alpha(context, name), bytes.fromhex(proof.vrf_proof))
    except SmlError:
        raise Failed("VrfProofInvalid") from None
    return SecureMapping.derive(beta, context.groups)
