"""Where the members' verdicts on a proof divide: counted from the signed records, for people.

Checks 1 to 7, and what the steps show of check 8 (`checks.opposition`), are deterministic, so
honest members never divide on them: who finds another code than was decided lied, or runs other
software, and is named (`derive_result` does not pay that verdict). On whether a proof does harm on
patients honest members may divide, for each judges on patients of its own; so there the votes are
counted, and nobody is named.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from consortium.rounds.codes import HARMFUL, NO_QUORUM
from ledger.records import ACCEPTED, Finding, Outcome, Record, Result, Verdict


@dataclass(frozen=True)
class Split:
    """One proof on which the verdicts divide.

    ``code`` is what was decided; ``harmful`` of ``judged`` other members found harm, or of one that
    goes against the others', that its steps would not be missed; ``others`` are the members who
    found another code, with that code.
    """

    round: int
    attempt: int
    institution: str
    code: str
    harmful: int
    judged: int
    others: dict[str, str]

    def text(self) -> str:
        """One line, for people."""
        found = [f"{by} found {code}" for by, code in self.others.items()]
        if 0 < self.harmful < self.judged:
            found.insert(0, f"harmful to {self.harmful} of {self.judged}")
        return f"round {self.round}, {self.institution}: {self.code}; {', '.join(found)}"


def splits(records: Iterable[Record]) -> Iterator[Split]:
    """The splits in a job's verdicts and results, given in the order of the ledger."""
    verdicts: list[Verdict] = []
    for record in records:
        if isinstance(record, Verdict):
            verdicts.append(record)
        elif isinstance(record, Result):
            for outcome in record.proofs:
                split = _split(record, outcome, verdicts)
                if split.others or 0 < split.harmful < split.judged:
                    yield split
            verdicts = []


def _split(result: Result, outcome: Outcome, verdicts: Iterable[Verdict]) -> Split:
    name = outcome.institution
    found = {v.author: f for v in verdicts for f in v.findings if f.institution == name}
    votes = [f.harmful for by, f in found.items() if by != name and f.harmful is not None]
    return Split(
        result.round, result.attempt, name, outcome.code, sum(votes), len(votes),
        _others(outcome.code, found),
    )  # fmt: skip


def _others(decided: str, found: dict[str, Finding]) -> dict[str, str]:
    if decided == NO_QUORUM:
        # Which code is right is not known from the records alone; that they divide is.
        codes = {by: finding.code for by, finding in sorted(found.items())}
        return codes if len(set(codes.values())) > 1 else {}
    said = [finding.code for finding in found.values()]
    # Of check 8 the code says what the steps show; what validators attest may turn it either way.
    right = decided
    if decided in (ACCEPTED, HARMFUL):
        right = HARMFUL if 2 * said.count(HARMFUL) >= len(said) else ACCEPTED
    return {by: f.code for by, f in sorted(found.items()) if f.code != right}
