"""Check 1: the proof is signed by a member that takes part in the job."""

from consortium.rounds.checks.context import Failed, RoundContext
from ledger.entry import Entry
from ledger.errors import LedgerError
from ledger.keys import Role
from ledger.records import Participant, Proof


def check_membership(context: RoundContext, name: str, entry: Entry) -> tuple[Participant, Proof]:
    """The institution's part in the job, and its proof.

    Raises:
        Failed: ``NotAMember``, ``SignatureInvalid``.
    """
    member, participant = context.members.get(name), context.participant(name)
    if member is None or participant is None:
        raise Failed("NotAMember")
    try:
        proof = entry.record
        entry.verify([member.key(Role.RECORD)])
    except LedgerError:
        raise Failed("SignatureInvalid") from None
    if not isinstance(proof, Proof) or proof.author != name or proof.ledger != context.ledger:
        raise Failed("SignatureInvalid")
    return participant, proof
