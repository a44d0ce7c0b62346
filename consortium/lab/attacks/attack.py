"""One round under attack, and what became of it. The arena's loop knows nothing of attacks."""

from collections.abc import Collection
from dataclasses import dataclass

from consortium.lab.arena import Arena, Findings, Played
from consortium.lab.submission import Submission
from ledger.records import ACCEPTED


@dataclass(frozen=True)
class Trial:
    """One round of an attack.

    ``code`` is what the cheat was answered with, by the ledger or by whoever refuses; ``honest``
    counts the honest hospitals' proofs, ``false_alarms`` those of them that were not accepted.
    """

    code: str
    honest: int = 0
    false_alarms: int = 0


class Attack:
    """An honest round. A subclass replaces one step of it.

    Args:
        arena: where it is played, round after round.
        cheat: who cheats; where the coordinator does, who it is done to, or who helps.
    """

    def __init__(self, arena: Arena, cheat: str) -> None:
        self.arena = arena
        self.cheat = cheat
        names = sorted(arena.hospitals)
        self.other = names[(names.index(cheat) + 1) % len(names)]
        self.last: Played | None = None

    @property
    def guilty(self) -> Collection[str]:
        """The hospitals whose rejection is no false alarm."""
        return (self.cheat,)

    def submissions(self) -> dict[str, Submission]:
        """What each hospital submits."""
        return self.arena.honest_submissions()

    def revealing(self) -> Collection[str]:
        """Who opens a commitment."""
        return sorted(self.arena.hospitals)

    def judge(self, name: str, honest: Findings) -> Findings | None:
        """What a validator signs."""
        return honest

    def play(self) -> Trial:
        """Plays the next round."""
        self.last = self.arena.play(
            self.submissions(), revealing=self.revealing(), judge=self.judge
        )
        return self.trial(self.last)

    def trial(self, played: Played) -> Trial:
        """What the round was, by the cheat's own code, or its absence's."""
        absent = {absence.institution: absence.code for absence in played.result.absent}
        code = played.codes.get(self.cheat) or absent.get(self.cheat, ACCEPTED)
        return counted(code, played, self.guilty)


class Honest(Attack):
    """Nobody cheats."""

    @property
    def guilty(self) -> Collection[str]:
        """Nobody."""
        return ()


class Absent(Honest):
    """Nobody cheats, and the one who could have stays away."""

    def submissions(self) -> dict[str, Submission]:
        """All but its own."""
        present = [name for name in self.arena.hospitals if name != self.cheat]
        return self.arena.honest_submissions(present)


def counted(code: str, played: Played, guilty: Collection[str]) -> Trial:
    """A trial with this code, and the honest hospitals' proofs counted."""
    honest = [found for name, found in played.codes.items() if name not in guilty]
    return Trial(code, len(honest), sum(found != ACCEPTED for found in honest))
