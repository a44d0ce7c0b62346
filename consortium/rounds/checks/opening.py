"""Check 2: the reveal opens the commitment that the institution has in the closed set."""

from consortium.rounds.checks.context import Failed, RoundContext
from consortium.rounds.commitment import commitment_hash
from ledger.content import digest
from ledger.entry import Entry
from ledger.records import Commitment, Proof


def check_opening(
    context: RoundContext, committed: Entry | None, set_digest: str, proof: Proof, update: bytes
) -> None:
    """The committed hash is that of what is shown, for this very attempt.

    Raises:
        Failed: ``CommitmentMismatch``.
    """
    commitment = committed.record if committed is not None else None
    opened = commitment_hash(
        update=digest(update),
        vrf_proof=bytes.fromhex(proof.vrf_proof),
        salt=bytes.fromhex(proof.salt),
        model=context.model_hash,
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
        raise Failed("CommitmentMismatch")
