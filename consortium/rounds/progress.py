"""How far a job is, by the results that stand on the ledger."""

from collections.abc import Mapping, Sequence, Set

from consortium.rounds.codes import HARMFUL
from ledger.records import ACCEPTED, Result


def next_place(results: Sequence[Result]) -> tuple[int, int]:
    """The round and the attempt that come after a job's results, oldest first."""
    if not results:
        return 1, 1
    last = results[-1]
    return (last.round, last.attempt + 1) if last.again else (last.round + 1, 1)


def rounds_done(results: Sequence[Result]) -> int:
    """How many rounds counted: attempts that were repeated are none."""
    return sum(not result.again for result in results)


def doubted(results: Sequence[Result], codes: Mapping[str, str] | None = None) -> frozenset[str]:
    """Whose last proof in a job was called harmful, of those that were accepted or called so.

    ``codes``: of the proofs of one round more, by institution.
    """
    rounds = [{o.institution: o.code for o in result.proofs} for result in results]
    found: frozenset[str] = frozenset()
    for one in (*rounds, codes or {}):
        found = doubted_after(found, one)
    return found


def doubted_after(before: Set[str], codes: Mapping[str, str]) -> frozenset[str]:
    """Who is doubted after a round with these codes by institution; others change nothing."""
    accepted = {name for name, code in codes.items() if code == ACCEPTED}
    harmful = {name for name, code in codes.items() if code == HARMFUL}
    return frozenset(before - accepted | harmful)


def left_out(results: Sequence[Result]) -> frozenset[str]:
    """Whom a job's newest model leaves out: who was doubted when it was made.

    A void round makes none.
    """
    made = [place for place, result in enumerate(results, start=1) if not result.void]
    return doubted(results[: made[-1]]) if made else frozenset()
