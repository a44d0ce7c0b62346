"""Check 8, what every member recomputes: who works against what the others learn."""

import numpy as np
import pytest
from rounds_examples import honest_step, make_context, make_example_job, moved, names, submissions

from consortium.rounds.checks import EarlierStep, examine
from consortium.rounds.checks.opposition import along_others, opposed
from consortium.rounds.checks.terms import noise_quantile, step_noise, unanimous_step
from ledger.records import Participant

JOB = make_example_job(5)
PARTICIPANTS = {p.institution: p for p in JOB.participants}
NOISE = step_noise(PARTICIPANTS["hospital-1"])
LONGEST = unanimous_step(PARTICIPANTS["hospital-1"])
SIZE, CHEAT = 31, "hospital-2"


def with_patients(name: str, declared: int) -> Participant:
    terms = PARTICIPANTS[name].terms
    return PARTICIPANTS[name].model_copy(
        update={
            "weight": declared, "terms": terms.model_copy(update={"normaliser": declared}),
        }
    )  # fmt: skip


def steps_of(seed: int, shared: float = 0.4, n: int = 5, size: int = SIZE) -> dict[str, np.ndarray]:
    """Honest steps: a part of the longest one together, and the contract's noise."""
    random = np.random.default_rng(seed)
    direction = np.ones(size) / np.sqrt(size)
    return {
        name: shared * LONGEST * direction + NOISE * random.normal(size=size) for name in names(n)
    }


def found(
    steps: dict[str, np.ndarray],
    earlier: list[EarlierStep] | None = None,
    limits=JOB.thresholds,
    doubted=frozenset(),
) -> frozenset[str]:
    return opposed(steps, earlier or [], PARTICIPANTS, limits, doubted)


def past(rounds: int, turned: float = -1.0, **options) -> list[EarlierStep]:
    return [
        EarlierStep(name, seed, turned * step if name == CHEAT else step)
        for seed in range(100, 100 + rounds)
        for name, step in steps_of(seed, **options).items()
    ]


@pytest.mark.parametrize("seed", range(5))
def test_honest_hospitals_go_together(seed: int) -> None:
    assert found(steps_of(seed)) == frozenset()
    assert found(steps_of(seed, shared=0.0)) == frozenset()
    assert found(steps_of(seed), past(9, turned=1.0)) == frozenset()


def test_who_goes_against_all_others_is_found_and_nobody_else() -> None:
    steps = steps_of(1, shared=1.0)
    steps[CHEAT] = -3 * steps[CHEAT]
    assert found(steps) == {CHEAT}


def test_what_one_round_does_not_tell_ten_do() -> None:
    steps = steps_of(1, shared=0.3)
    steps[CHEAT] = -steps[CHEAT]
    assert found(steps) == frozenset()
    assert found(steps, past(9, shared=0.3)) == {CHEAT}
    assert found(steps_of(1, shared=0.3), past(40, shared=0.3)) == {CHEAT}  # it is not forgotten


def test_of_two_sides_the_lighter_one_is_against() -> None:
    direction = np.ones(SIZE)
    pull = {"hospital-1": -1.5, "hospital-2": -1.5, "hospital-3": 1, "hospital-4": 1}
    steps = {name: 2 * factor * LONGEST * direction for name, factor in pull.items()}
    steps["hospital-5"] = 2 * LONGEST * direction
    assert found(steps) == {"hospital-1", "hospital-2"}


def test_of_two_who_go_against_each_other_the_others_tell() -> None:
    """The heavier of the two sides finds the lighter one furthest against; the rest know better."""
    direction = np.ones(SIZE)
    pull = {"hospital-1": 1.2, CHEAT: -1.0, "hospital-3": 0.1, "hospital-4": 0.1}
    steps = {name: factor * 8 * LONGEST * direction for name, factor in pull.items()}
    own = {n: with_patients(n, 120 if n == CHEAT else 100) for n in steps}
    noise = {name: step_noise(participant) for name, participant in own.items()}
    along = along_others(steps, noise)
    assert along["hospital-1"] < along[CHEAT] < 0
    assert opposed(steps, [], own, JOB.thresholds) == {CHEAT}


def test_nobody_is_named_while_the_rest_do_not_tell_of_two_who() -> None:
    direction = np.ones(SIZE)
    steps = {"hospital-1": LONGEST * direction, CHEAT: -LONGEST * direction}
    small = {n: NOISE * np.random.default_rng(1).normal(size=SIZE) for n in names(5)[2:]}
    small = {n: s - direction * s.mean() for n, s in small.items()}  # they speak for neither
    assert found({**steps, **small}) == frozenset()
    for sign, against in ((1, CHEAT), (-1, "hospital-1")):
        tell = {n: s + sign * NOISE * direction for n, s in small.items()}
        assert found({**steps, **tell}) == {against}


def test_the_larger_hospital_tells_more_of_two_who() -> None:
    direction = np.ones(SIZE)
    steps = {"hospital-1": LONGEST * direction, CHEAT: -LONGEST * direction}
    steps |= {"hospital-3": 0.5 * NOISE * direction, "hospital-4": -0.5 * NOISE * direction}
    for larger, against in (("hospital-3", CHEAT), ("hospital-4", "hospital-1")):
        own = {n: with_patients(n, 500 if n == larger else 100) for n in steps}
        assert opposed(steps, [], own, JOB.thresholds) == {against}


def test_who_was_called_harmful_is_back_when_its_push_goes_along() -> None:
    steps = steps_of(1, shared=0.3)
    against = {**steps, CHEAT: -0.2 * steps[CHEAT]}
    assert found(against) == frozenset()
    assert found(against, doubted={CHEAT}) == {CHEAT}
    assert found(steps, doubted={CHEAT}) == frozenset()
    absent = {name: step for name, step in steps.items() if name != CHEAT}
    assert found(absent, doubted={CHEAT}) == frozenset()


def test_with_fewer_than_two_to_judge_by_nobody_is_doubted() -> None:
    steps = steps_of(1, shared=0.3)
    assert found(steps, doubted=set(names(4))) == found(steps) == frozenset()


def test_nobody_sets_the_direction_by_going_far() -> None:
    steps = steps_of(2, shared=1.0)
    steps[CHEAT] = -1000 * steps[CHEAT]
    assert found(steps) == {CHEAT}
    along = along_others(steps, dict.fromkeys(steps, NOISE))
    assert all(value > 0 for name, value in along.items() if name != CHEAT)


def test_an_earlier_step_counts_up_to_its_cap() -> None:
    """Check 5 rejects it, but everybody has its bytes: it must not weigh for ever."""
    giant = EarlierStep("hospital-3", 1, -1e30 * np.ones(SIZE))
    assert found(steps_of(3, shared=1.0), [giant, *past(9, turned=1.0, shared=1.0)]) == frozenset()


def test_two_hospitals_cannot_be_told_apart() -> None:
    steps = {"hospital-1": LONGEST * np.ones(SIZE), "hospital-2": -LONGEST * np.ones(SIZE)}
    assert found(steps) == frozenset()
    assert found({}) == frozenset()


def test_steps_of_nothing_divide_nothing() -> None:
    assert found({name: np.zeros(SIZE) for name in names(5)}) == frozenset()


def test_other_jobs_and_the_order_of_steps_say_nothing() -> None:
    steps = steps_of(1, shared=0.3)
    steps[CHEAT] = -steps[CHEAT]
    earlier = past(9, shared=0.3)
    assert found(steps, earlier[::-1]) == {CHEAT}
    others = [EarlierStep(p.institution, p.round, p.step, other_job=True) for p in earlier]
    assert found(steps, others) == frozenset()


def test_false_alarms_of_pure_noise_are_as_rare_as_agreed() -> None:
    often = JOB.thresholds.model_copy(update={"false_alarm": "0.002", "opposition": "0"})
    beyond = alarms = 0
    for seed in range(1000):
        steps = steps_of(seed, 0.0)
        along = along_others(steps, dict.fromkeys(steps, NOISE))
        beyond += sum(value < -noise_quantile(0.02) * NOISE for value in along.values())
        alarms += len(found(steps, limits=often))
    assert 60 < beyond < 110  # of 5,000: 2 % less what the wider tail leaves
    assert 5 < alarms < 0.5 * beyond  # who goes against whom does not stand out in noise
    assert noise_quantile(0.02) > 2.05


def test_8_a_step_against_the_others_is_called_harmful_by_every_member() -> None:
    context = make_context(size=0.05)
    shared = 0.5 * unanimous_step(context.job.participants[0]) * np.ones(SIZE) / np.sqrt(SIZE)
    everything = submissions(context)
    from rounds_examples import reveal_all, submit

    for name in everything:
        turned = -2.5 if name == CHEAT else 1
        step = honest_step(name) + turned * shared
        everything[name] = submit(context, name, moved(context, step))
    revealed = reveal_all(everything)
    examined = examine(context, revealed.commitments, revealed.reveals)
    assert {n: e.code for n, e in examined.items() if e.code != "Accepted"} == {CHEAT: "Harmful"}
    assert examined[CHEAT].weights is not None


@pytest.mark.parametrize("seed", range(4))
def test_two_cheats_do_not_hide_each_other(seed: int) -> None:
    """Their noise differs, so that neither stands out from the other."""
    rounds = [steps_of(100 * seed + place, shared=0.8) for place in range(12)]
    for steps in rounds:
        for cheat in (CHEAT, "hospital-3"):
            steps[cheat] = -steps[cheat]
    earlier = [
        EarlierStep(name, place, step)
        for place, steps in enumerate(rounds[:-1])
        for name, step in steps.items()
    ]
    assert found(rounds[-1], earlier) == {CHEAT, "hospital-3"}


def test_steps_that_another_check_rejected_are_no_credit() -> None:
    steps = steps_of(1, shared=0.3)
    steps[CHEAT] = -steps[CHEAT]
    direction = np.ones(SIZE) / np.sqrt(SIZE)
    bank = [EarlierStep(CHEAT, r, 3 * LONGEST * direction, "StepTooLarge") for r in range(1, 9)]
    earlier = past(9, shared=0.3)
    assert found(steps, [*bank, *earlier]) == {CHEAT}
    counted = [EarlierStep(s.institution, s.round, s.step, "Harmful") for s in bank]
    assert found(steps, [*counted, *earlier]) == frozenset()  # or this would show nothing


def test_who_comes_back_brings_no_accepted_steps_that_go_against() -> None:
    """The model takes back what was accepted, not what was called harmful."""
    steps = steps_of(1, shared=1.0)
    direction = np.ones(SIZE) / np.sqrt(SIZE)
    against = [EarlierStep(CHEAT, r, -LONGEST * direction) for r in (1, 2, 3)]
    along = [EarlierStep(CHEAT, r, LONGEST * direction, "Harmful") for r in (4, 5, 6, 7)]
    assert found(steps, [*against, *along], doubted={CHEAT}) == {CHEAT}
    accepted = [EarlierStep(s.institution, s.round, -s.step) for s in against]
    assert found(steps, [*accepted, *along], doubted={CHEAT}) == frozenset()
