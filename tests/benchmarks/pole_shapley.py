"""Shapley values of the heart task: how long they take, and how near the sampled ones come.

The four real hospitals' patients are divided among more, who train with the noise of epsilon 1. One
thread.
"""

import sys
import time
from decimal import Decimal
from statistics import fmean, median

import numpy as np
import torch
from scipy.stats import spearmanr

from consortium.contract import JobOrder
from consortium.lab.arena import Arena, Played
from consortium.lab.hospitals import Hospital
from consortium.rounds.shapley import EXACT_LIMIT, exact_shapley, gtg_shapley
from consortium.rounds.verdict import coalition_worth, findings
from ledger.records import ACCEPTED
from tests.benchmarks.models import HEART
from tests.benchmarks.run import Figure

SEEDS, ROUNDS, LOOKED_AT = range(3), 10, (1, 4, 7, 10)


def figures() -> dict[str, Figure]:
    """Seconds of one validator's verdict in a round, and the rank correlation at 12 hospitals."""
    torch.set_num_threads(1)
    exact, sampled = _verdict_seconds(10), _verdict_seconds(50)
    whole, divided = _correlations()
    for name, found in (("whole", whole), ("divided", divided)):
        print(
            f"rank correlation at 12, {len(found)} rounds of {name} hospitals' validators: mean "
            f"{fmean(found):.3f}, median {median(found):.3f}, least {min(found):.3f}, below .95 "
            f"in {fmean(one < 0.95 for one in found):.1%}",
            file=sys.stderr,
        )
    return {
        "shapley.exact10_s": Figure(exact, "s a verdict"),
        "shapley.gtg50_s": Figure(sampled, "s a verdict"),
        "shapley.gtg12_rank_correlation": Figure(fmean(whole), "of 1"),
    }


def _arena(hospitals: int, seed: int) -> Arena:
    order = JobOrder("heart-disease", ROUNDS, Decimal(1), Decimal("0.001"), seed)
    return Arena.found(order, hospitals, HEART, contributions=False)


def _judges(arena: Arena) -> list[Hospital]:
    return [hospital for hospital in arena.hospitals.values() if hospital.validator().scores]


def _verdict_seconds(hospitals: int) -> float:
    """The slowest of the validators in the job's first round: all that they find.

    They are the real hospitals, whole: divided among 50 no part has five patients of either class.
    """
    arena = _arena(hospitals, 0)
    played = arena.play(arena.honest_submissions())
    seconds = []
    for judge in _judges(_arena(4, 0)):
        validator = judge.validator()
        started = time.perf_counter()
        found = findings(played.context, played.examined, validator, judge.name)
        seconds.append(time.perf_counter() - started)
        judged = sum(finding.shapley is not None for finding in found)
        assert judged > hospitals / 2, "too few passed the checks to say anything"
    return max(seconds)


def _correlations() -> tuple[list[float], list[float]]:
    """Of validators that are real hospitals, whole, and of the twelve that they are divided into.

    The twelve have about ten validation patients each, so values are few and often equal; where all
    are, there is no correlation.
    """
    whole, divided = [], []
    for seed in SEEDS:
        arena, judges = _arena(EXACT_LIMIT, seed), _judges(_arena(4, seed))
        for round in range(1, ROUNDS + 1):
            played = arena.play(arena.honest_submissions())
            if round in LOOKED_AT:
                whole += [_correlation(played, judge) for judge in judges]
                divided += [_correlation(played, judge) for judge in _judges(arena)]
    return whole, [found for found in divided if not np.isnan(found)]


def _correlation(played: Played, judge: Hospital) -> float:
    """Spearman's, of sampled and exact values of the proofs that passed checks 1 to 7."""
    passed = {
        name: found.weights
        for name, found in played.examined.items()
        if found.code == ACCEPTED and found.weights is not None
    }
    context, validator = played.context, judge.validator()
    worth = coalition_worth(context.job, passed, validator, validator.auroc(context.model))
    sampled = gtg_shapley(len(passed), worth, context.base.encode(), fixed=False)
    exact = exact_shapley(len(passed), worth)
    return float(np.asarray(spearmanr(sampled, exact).statistic))
