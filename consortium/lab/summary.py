"""What all runs of an attack come to: one row of the lab's table."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from consortium.lab.catalogue import BY_NAME
from consortium.lab.runs import ABSENT, HONEST, Outcome

WITHIN = 0.01


@dataclass(frozen=True)
class Row:
    """An attack, over all seeds and hospitals.

    trials: rounds in which it was made; ``caught`` of them were answered with a code that is
    expected, and ``codes`` counts them all. honest: honest hospitals' proofs beside it;
    ``false_alarms`` of them were not accepted. lost_off, lost_on, lost_absent: how far the released
    model's AUROC on pooled test patients falls below the same seed's without the cheat: nothing
    defended, as it is, and where that hospital stays away instead; means over the runs.
    ``within`` counts the runs that lose at most .01, ``within_absent`` those that end at most .01
    below the one where that hospital stays away; ``lost_most`` is the most that one lost. earned:
    the cheat's learning credits over the honest hospitals' mean, by run. not_above: runs in which
    no honest hospital earned less; below_mean: those in which it earned less than the honest mean.
    None: does not apply.
    """

    attack: str
    private: bool
    runs: int
    trials: int
    caught: int
    codes: Mapping[str, int]
    honest: int
    false_alarms: int
    lost_off: float | None
    lost_on: float | None
    lost_absent: float | None
    lost_most: float | None
    within: int | None
    within_absent: int | None
    earned: tuple[float, ...]
    not_above: int | None
    below_mean: int | None

    @property
    def pay(self) -> float | None:
        """The median of what it earned."""
        return median(self.earned) if self.earned else None

    def to_json(self) -> dict[str, object]:
        """All of it, by name."""
        return asdict(self)


def summary(outcomes: Sequence[Outcome]) -> list[Row]:
    """A row for each attack and mode of which there is a whole run, in the catalogue's order."""
    found = {(o.run.private, o.run.attack) for o in outcomes if o.run.defended}
    order = [HONEST, *BY_NAME]
    return [
        _row(attack, private, outcomes)
        for private in (True, False)
        for attack in order
        if (private, attack) in found
    ]


def _row(attack: str, private: bool, outcomes: Sequence[Outcome]) -> Row:
    mode = [o for o in outcomes if o.run.private == private]
    honest = {o.run.seed: o.auroc for o in mode if o.run.attack == HONEST}
    away = {(o.run.seed, o.run.cheat): o.auroc for o in mode if o.run.attack == ABSENT}

    def lost(name: str, defended: bool) -> list[float]:
        return [
            honest[o.run.seed] - o.auroc
            for o in mode
            if o.run.attack == name and o.run.defended == defended and o.run.seed in honest
        ]

    mine = [o for o in mode if o.run.attack == attack and o.run.defended]
    codes: Counter[str] = Counter()
    for outcome in mine:
        codes.update(outcome.codes)
    cheat = BY_NAME.get(attack)
    expected = cheat.codes if cheat is not None else ()
    off, on, absent = lost(attack, False), lost(attack, True), lost(ABSENT, True)
    harmful = bool(off) and bool(on)
    below = [away[place] - o.auroc for o in mine if (place := (o.run.seed, o.run.cheat)) in away]
    paid = [_paid(outcome) for outcome in mine] if harmful else []
    return Row(
        attack=attack,
        private=private,
        runs=len(mine),
        trials=sum(codes.values()),
        caught=sum(codes[code] for code in expected),
        codes=dict(codes.most_common()),
        honest=sum(outcome.honest for outcome in mine),
        false_alarms=sum(outcome.false_alarms for outcome in mine),
        lost_off=fmean(off) if harmful else None,
        lost_on=fmean(on) if harmful else None,
        lost_absent=fmean(absent) if harmful and absent else None,
        lost_most=max(on) if harmful else None,
        within=sum(value <= WITHIN for value in on) if harmful else None,
        within_absent=sum(value <= WITHIN for value in below) if harmful and below else None,
        earned=tuple(round(own / mean, 3) if mean else 0.0 for own, _, mean in paid),
        not_above=sum(own <= least for own, least, _ in paid) if harmful else None,
        below_mean=sum(own < mean for own, _, mean in paid) if harmful else None,
    )


def _paid(outcome: Outcome) -> tuple[int, int, float]:
    """What the cheat learnt to earn; the least, and the mean, of the honest hospitals."""
    others = [paid for name, paid in outcome.learning.items() if name != outcome.cheat]
    return outcome.learning[outcome.cheat], min(others), fmean(others)
