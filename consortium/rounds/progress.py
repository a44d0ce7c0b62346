"""How far a job is, by the results that stand on the ledger."""

from collections.abc import Sequence

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


def doubted(results: Sequence[Result]) -> frozenset[str]:
    """Whose last proof in a job was called harmful, of those that were accepted or called so."""
    last = {
        outcome.institution: outcome.code
        for result in results
        for outcome in result.proofs
        if outcome.code in (ACCEPTED, HARMFUL)
    }
    return frozenset(name for name, code in last.items() if code == HARMFUL)
