"""A demo's cheat: who plays it, and what came of it by the ledger."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from consortium.coordinator.strategy import ProofOfLearning
from consortium.lab.catalogue import BY_NAME, By
from consortium.rounds.splits import Split
from consortium.simulation.split_commitments import SplitCommitments
from consortium.standing import credits_of
from ledger.records import COORDINATOR, Result


@dataclass(frozen=True)
class CheatOutcome:
    """What a cheat came to.

    ``codes``: for each code that met it, the rounds; ``happened``: the same in words. ``credits``
    is what it earned, None for the coordinator, who earns none; ``honest_mean`` what a hospital
    that took no part in it earned on average.
    """

    name: str
    institution: str
    does: str
    expected: str
    happened: str
    codes: Mapping[str, tuple[int, ...]]
    credits: int | None
    honest_mean: float


def strategy_of(cheat: str | None) -> type[ProofOfLearning]:
    """The coordinator's strategy: the honest one, unless it is the coordinator that cheats."""
    return SplitCommitments if cheat == "split-commitments" else ProofOfLearning


def cheater_of(cheat: str | None, hospitals: Sequence[str]) -> str | None:
    """Who cheats: the first hospital, or the coordinator."""
    if cheat is None:
        return None
    return COORDINATOR if BY_NAME[cheat].by is By.COORDINATOR else hospitals[0]


def cheat_outcome(
    name: str,
    cheater: str,
    hospitals: Sequence[str],
    results: Sequence[Result],
    divided: Sequence[Split],
    refused: Mapping[str, Iterable[int]],
) -> CheatOutcome:
    """What came of a cheat.

    Args:
        name: of the cheat.
        cheater: who played it; the next hospital helped, where help is needed.
        hospitals: all of them.
        results: of the job.
        divided: where the job's verdicts divide.
        refused: codes with which hospitals refused a phase, with the rounds.
    """
    cheat = BY_NAME[name]
    guilty = {cheater} | ({hospitals[1]} if cheat.by is By.PAIR else set())
    earned = {h: sum(credits_of(result, h) for result in results) for h in hospitals}
    counted = [result for result in results if not result.again]
    if cheat.by is By.COORDINATOR:
        codes = {code: tuple(sorted(set(rounds))) for code, rounds in sorted(refused.items())}
        again = [result for result in results if result.again]
        happened = [
            f"{_rounds(r.round for r in again)} repeated: no quorum closed one set, and "
            f"{sum(len(r.proofs) for r in again)} updates were revealed"
        ]
        happened += [f"{code} from hospitals in {_rounds(at)}" for code, at in codes.items()]
    else:
        codes = _codes(counted, cheater)
        happened = [f"{code} in {_rounds(rounds)}" for code, rounds in codes.items()]
    if cheat.by is By.VALIDATOR:
        happened.append(_of_a_validator(cheater, counted, divided))
    return CheatOutcome(
        name, cheater, cheat.does, cheat.expected, "; ".join(happened), codes,
        earned.get(cheater), fmean(earned[h] for h in hospitals if h not in guilty),
    )  # fmt: skip


def _codes(results: Sequence[Result], institution: str) -> dict[str, tuple[int, ...]]:
    """What each round says of its proof, or of its absence."""
    codes: dict[str, tuple[int, ...]] = defaultdict(tuple)
    for result in results:
        judged = [(proof.institution, proof.code) for proof in result.proofs]
        absent = [(gone.institution, gone.code) for gone in result.absent]
        for name, code in judged + absent:
            if name == institution:
                codes[code] += (result.round,)
    return dict(codes)


def _of_a_validator(liar: str, results: Sequence[Result], divided: Sequence[Split]) -> str:
    accused = [split for split in divided if liar in split.others]
    others = [o for result in results for o in result.proofs if o.institution != liar]
    believed = sum(split.code == split.others[liar] for split in accused)
    unpaid = [r.round for r in results if liar not in {fee.institution for fee in r.fees}]
    return (
        f"its false code stood on {len(accused)} of {len(others)} proofs of the others and was "
        f"taken over on {believed}; no fee in {_rounds(unpaid)}"
    )


def _rounds(numbers: Iterable[int]) -> str:
    """Round numbers in words: "rounds 1, 3 to 10"."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown = [f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs]
    several = len(runs) > 1 or len(runs[0:1] and runs[0]) > 1
    return f"round{'s' if several else ''} {', '.join(shown)}" if shown else "no round"
