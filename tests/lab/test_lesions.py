"""Rounds of a task of images: what is checked on tables is checked on them, with the same codes."""

from decimal import Decimal
from functools import cache

import pytest

from consortium import tasks
from consortium.contract import JobOrder, check_job
from consortium.lab.arena import Arena
from consortium.lab.attacks import ATTACKS
from consortium.lab.catalogue import BY_NAME, CATALOGUE

ALWAYS = [cheat.name for cheat in CATALOGUE if cheat.codes and cheat.always]


@cache
def founded() -> Arena:
    task = tasks.get("lesion-image")
    order = JobOrder(task.name, 10, Decimal(8), task.delta, seed=0)
    return Arena.found(order, contributions=False)


def test_honest_rounds_on_images_are_accepted() -> None:
    arena = founded().twin()
    check_job(arena.job, arena.context.members)
    for _ in range(2):
        assert set(arena.play(arena.honest_submissions()).codes.values()) == {"Accepted"}


@pytest.mark.parametrize("name", ALWAYS)
def test_what_is_always_answered_on_tables_is_on_images(name: str) -> None:
    arena, cheat = founded().twin(), BY_NAME[name]
    played = ATTACKS[name](arena, sorted(arena.hospitals)[1])
    trials = [played.play() for _ in range(cheat.first)]
    assert trials[-1].code in cheat.codes
    assert not any(trial.false_alarms for trial in trials)


def test_a_copy_of_images_learning_is_found() -> None:
    arena = founded().twin()
    submissions = arena.honest_submissions()
    submissions["hospital-2"] = arena.submit("hospital-2", arena.trained("hospital-1"))
    assert arena.play(submissions).codes["hospital-2"] == "NearCopy"
