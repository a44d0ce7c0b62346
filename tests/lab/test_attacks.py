"""Every attack of the catalogue is played, and answered as the catalogue says."""

from collections import Counter
from decimal import Decimal
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from consortium import weights as weight_forms
from consortium.contract import JobOrder
from consortium.lab.arena import Arena
from consortium.lab.attacks import ATTACKS, COMPARED, Attack
from consortium.lab.attacks.coordinator import CoordinatorAttack, SwappedModel
from consortium.lab.attacks.updates import OtherUpdate
from consortium.lab.catalogue import BY_NAME, CATALOGUE
from consortium.lab.members import Members
from consortium.rounds.checks.step import step_cap
from ledger.content import Weights

TRIALS = 10  # `make bench AREA=lab` plays hundreds
HEART = Path(__file__).parents[3] / "shared" / "data" / "heart"
ALWAYS = [cheat.name for cheat in CATALOGUE if cheat.codes and cheat.always]


@cache
def founded() -> Arena:
    order = JobOrder("breast-cancer", TRIALS + 1, Decimal(1), Decimal("0.00001"), 0)
    return Arena.found(order, contributions=False)


def attack(kind: type[Attack], place: int = 0) -> Attack:
    arena = founded().twin()
    return kind(arena, sorted(arena.hospitals)[place % 4])


def test_each_cheat_of_the_catalogue_has_its_attack() -> None:
    assert list(ATTACKS) == list(BY_NAME)


@pytest.mark.parametrize("name", ALWAYS)
def test_what_is_always_answered_is_answered_each_time(name: str) -> None:
    cheat = BY_NAME[name]
    played = attack(ATTACKS[name], ALWAYS.index(name))
    trials = [played.play() for _ in range(cheat.first - 1 + TRIALS)]
    codes = Counter(trial.code for trial in trials[cheat.first - 1 :])
    assert codes.total() == TRIALS
    assert set(codes) <= set(cheat.codes)
    assert sum(trial.false_alarms for trial in trials) == 0
    assert all(trial.honest >= 2 for trial in trials)


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in ALWAYS])
def test_the_others_are_played_too(name: str) -> None:
    trial = attack(ATTACKS[name]).play()
    assert trial.code in ("Accepted", "NearCopy", *BY_NAME[name].codes)


def test_f_liars_change_nothing_and_one_more_does() -> None:
    assert {attack(ATTACKS["lying-validator"], i).play().code for i in (0, 3)} == {"Accepted"}
    assert {attack(ATTACKS["one-liar-more"], i).play().code for i in (0, 3)} == {"NearCopy"}


@pytest.mark.skipif(not HEART.is_dir(), reason="no heart data here")
def test_who_is_framed_stays_in_the_model_where_it_would_be_missed() -> None:
    order = JobOrder("heart-disease", 10, Decimal(1), Decimal("0.001"), 2)
    arena = Arena.found(order, data_dir=HEART, contributions=False)
    played, victim, framed = ATTACKS["frame"](arena, "cleveland"), "budapest", 0
    for _ in range(10):
        played.play()
        assert played.last is not None
        framed += played.last.examined[victim].code == "Harmful"
        assert played.last.codes[victim] == "Accepted"
    assert framed
    assert arena.pooled_auroc() > 0.8  # .46 where it is taken out


class Betrayal(OtherUpdate):
    """Honest until the last round, then as far back as the cap lets it."""

    def update(self) -> Weights:
        """All that the model has learned, undone."""
        if len(self.arena.results) + 1 < self.arena.job.rounds:
            return super().update()
        first, now = (weight_forms.vector(self.arena.models[place]) for place in (0, -1))
        part = self.arena.participant(self.cheat)
        cap = step_cap(part, len(now), float(self.arena.job.thresholds.reach))
        return self.moved(-0.999 * cap * (now - first) / float(np.linalg.norm(now - first)))


@pytest.mark.skipif(not HEART.is_dir(), reason="no heart data here")
@pytest.mark.parametrize(("rounds", "seed"), [(2, 3), (3, 2), (3, 3)])
def test_nobody_is_spared_for_what_it_taught_before(rounds: int, seed: int) -> None:
    order = JobOrder("heart-disease", rounds, Decimal(3), Decimal("0.001"), seed)
    arena = Arena.found(order, data_dir=HEART, contributions=False)
    played = Betrayal(arena, "budapest")
    codes = [played.play().code for _ in range(rounds)]
    assert codes == [*["Accepted"] * (rounds - 1), "Harmful"]
    assert arena.pooled_auroc() > 0.8  # .14 with that step in two rounds


def test_members_take_the_block_that_follows_and_none_that_does_not() -> None:
    coordinator = attack(SwappedModel)
    assert isinstance(coordinator, CoordinatorAttack)
    played = coordinator.arena.play(coordinator.submissions())
    reveals = coordinator.reveals(played, coordinator.submitted)
    members: Members = coordinator.members
    block = members.proposed(played.context, played.records, reveals)
    assert members.refuse(block, reveals) is None
    assert members.refuse(block[:-1], reveals) == "RoundInvalid"
    assert members.refuse((*block[1:-1], block[-1]), reveals) == "RoundInvalid"
    names = sorted(coordinator.arena.hospitals)
    assert members.not_final(*members.cosigned(block, names[:3])) is None
    assert members.not_final(*members.cosigned(block, names[:2])) == "QuorumMissing"
    members.follow(played, reveals)
    following = coordinator.arena.play(coordinator.submissions())
    later = coordinator.reveals(following, coordinator.submitted)
    assert members.refuse(
        members.proposed(following.context, following.records, later), later
    ) is None  # fmt: skip
    assert members.refuse(block, reveals) == "RoundInvalid"


def test_nobody_is_missed_where_nobody_cheats_and_who_stays_away_submits_nothing() -> None:
    honest, absent = attack(COMPARED["honest"]), attack(COMPARED["absent"])
    assert honest.play().honest == 4
    assert absent.play().honest == 3
