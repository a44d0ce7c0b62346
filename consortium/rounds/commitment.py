"""Commit, close, reveal: what binds a hospital to an update before anybody sees it.

Nothing but a hash leaves a hospital until the set of commitments is closed: the current model is
public, so that a mapped update shown early could be un-mapped by comparing it with that model.
The digest of the closed set is signed by the hospitals, so that a coordinator cannot show
different sets to different hospitals without leaving two signatures behind.
"""

from collections.abc import Sequence
from hashlib import sha256

from ledger import canonical
from ledger.entry import Entry


def commitment_hash(
    *, update: str, vrf_proof: bytes, salt: bytes, model: str, institution: str,
    job: str, round: int, attempt: int,
) -> str:  # fmt: skip
    """What a hospital commits to.

    Args:
        update: SHA-256 of the mapped update's bytes, hex.
        vrf_proof: 80 bytes.
        salt: 32 random bytes; they keep a guess at the update from being confirmed.
        model: hash of the model that training started from.
        institution: who commits.
        job: for which job.
        round: for which round of it.
        attempt: for which attempt at that round.
    """
    content = {
        "update": update,
        "vrf_proof": vrf_proof.hex(),
        "salt": salt.hex(),
        "model": model,
        "institution": institution,
        "job": job,
        "round": round,
        "attempt": attempt,
    }
    return sha256(b"medpole/commitment/v1\n" + canonical.dumps(content)).hexdigest()


def closed_set_digest(commitments: Sequence[Entry]) -> str:
    """Digest of the set of commitment entries, whatever their order."""
    return _set_digest(b"medpole/closed-set/v1\n", commitments)


def revealed_set_digest(proofs: Sequence[Entry]) -> str:
    """Digest of the set of proofs that a validator was shown: all must have seen the same."""
    return _set_digest(b"medpole/revealed-set/v1\n", proofs)


def _set_digest(domain: bytes, entries: Sequence[Entry]) -> str:
    leaves = {entry.record.author: entry.leaf.hex() for entry in entries}
    return sha256(domain + canonical.dumps(leaves)).hexdigest()
