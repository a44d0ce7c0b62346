"""Who gives verdicts: everybody among few, beyond that a committee drawn by lot in each round.

The lot is the VRF output that each hospital's mapping was drawn from: bound to its key, the block,
the job, the round and the model, and unknown to everybody else until it reveals. Who reveals with a
proof that verifies takes part in the draw, and the lowest draws are the committee. So nobody can
choose a place on it; a hospital can only give its own away, by not revealing. A coordinator that
leaves out reveals moves others up, and the result names them as absent.

What a committee decides (scores, Shapley values, check 8) rests on more than half of it being
honest. With as many liars among all as a ledger bears (`ledger.quorum.faulty`), chance alone gives
them half of a committee at most once in `1 / RISK` rounds (hypergeometric tail). Such a committee
can pay whom it likes, and leave updates, earlier ones too, out of the model by calling them harmful
or accepting nobody, or spare whoever goes against the others. Nothing else can it let in: checks 1
to 7 and the new model every member derives itself before it co-signs.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from hashlib import sha256
from math import comb
from typing import Final

from consortium.rounds.checks.context import Failed, RoundContext
from consortium.rounds.checks.mapping import mapping_draw
from ledger.quorum import faulty, quorum
from ledger.records import Proof
from sml.errors import SmlError
from sml.vrf import proof_to_hash

ALL_UP_TO: Final = 20
"""Participants up to which everybody gives verdicts."""

RISK: Final = Fraction(1, 100)
"""The largest chance that a round's committee has no honest majority."""

_DOMAIN: Final = b"medpole/committee/v1\n"


@lru_cache(maxsize=1024)
def committee_size(participants: int) -> int:
    """How many give verdicts: all up to `ALL_UP_TO`, beyond the least odd number keeping `RISK`."""
    if participants <= ALL_UP_TO:
        return participants
    return next(
        size
        for size in range(ALL_UP_TO + 1, participants + 2, 2)
        if size >= participants or corruption(participants, faulty(participants), size) <= RISK
    )


def corruption(participants: int, liars: int, size: int) -> Fraction:
    """The chance that at least half of a committee drawn by lot are liars."""
    all_draws = comb(participants, size)
    return Fraction(
        sum(
            comb(liars, bad) * comb(participants - liars, size - bad)
            for bad in range((size + 1) // 2, min(liars, size) + 1)
        ),
        all_draws,
    )


def committee(context: RoundContext, proofs: Sequence[Proof]) -> frozenset[str]:
    """The institutions whose verdicts count in this attempt at a round, given all its reveals."""
    if _everybody_judges(context):
        return frozenset(p.institution for p in context.job.participants)
    return frozenset(_lowest(context, proofs, context.job.committee))


def _lowest(context: RoundContext, proofs: Sequence[Proof], size: int) -> Iterator[str]:
    """In the order of what they claim to have drawn, each claim verified until enough are."""
    claims = {}
    for proof in proofs:
        with suppress(SmlError):
            claims[sha256(_DOMAIN + proof_to_hash(bytes.fromhex(proof.vrf_proof))).digest()] = proof
    for draw in sorted(claims):
        if size == 0:
            return
        with suppress(Failed):
            mapping_draw(context, claims[draw].author, claims[draw])
            yield claims[draw].author
            size -= 1


def votes_needed(context: RoundContext) -> int:
    """Verdicts that must accept a proof: the members' quorum, or more than half of a committee."""
    if _everybody_judges(context):
        return quorum(len(context.members))
    return context.job.committee // 2 + 1


def liars_borne(context: RoundContext) -> int:
    """Verdicts that may all be lies, so that what only so many say is held against nobody."""
    if _everybody_judges(context):
        return faulty(len(context.members))
    return context.job.committee // 2


def _everybody_judges(context: RoundContext) -> bool:
    return context.job.committee >= len(context.job.participants)
