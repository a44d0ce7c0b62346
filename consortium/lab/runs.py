"""Whole jobs under attack: which runs there are, what each comes to, and all of them in parallel.

A run is a job of an arena in which one hospital cheats in every round, by one attack. Beside it
stand the runs that it is compared with, on the same seed: nobody cheats; and that hospital stays
away. Where a cheat can harm the model, the same attack is run undefended too.
"""

import multiprocessing
import signal
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Final

from consortium.errors import RunsCutOff
from consortium.lab.catalogue import BY_NAME, By

HONEST: Final = "honest"
ABSENT: Final = "absent"


@dataclass(frozen=True)
class Setting:
    """The job that is attacked, and among how many hospitals."""

    task: str
    rounds: int
    hospitals: int
    epsilon: Decimal
    delta: Decimal
    data_dir: Path | None = None


@dataclass(frozen=True)
class Run:
    """One job.

    ``attack`` is a name of the catalogue, `HONEST` or `ABSENT`; ``cheat`` the place of the cheat
    (or of who stays away) among the hospitals' names.
    """

    attack: str
    cheat: int
    seed: int
    private: bool
    defended: bool = True


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    ``codes`` is how often the cheat was answered with what, in the rounds in which the attack can
    be made; ``auroc`` that of the released model on the pooled test patients; ``learning`` and
    ``credits`` what each hospital earned for its learning, and in all.
    """

    run: Run
    cheat: str
    codes: Mapping[str, int]
    honest: int
    false_alarms: int
    auroc: float
    learning: Mapping[str, int]
    credits: Mapping[str, int]


def planned(
    setting: Setting, attacks: Sequence[str], seeds: int, modes: Sequence[bool]
) -> list[Run]:
    """All runs: every hospital cheats in turn, with each seed and mode (with privacy or without).

    A coordinator's attack is played once a seed and hospital too: it is done to, or with, each.
    """
    runs = []
    for private in modes:
        for seed in range(seeds):
            runs.append(Run(HONEST, 0, seed, private))
            for cheat in range(setting.hospitals):
                harmful = [name for name in attacks if harms(name)]
                if harmful:
                    runs.append(Run(ABSENT, cheat, seed, private))
                for name in attacks:
                    runs.append(Run(name, cheat, seed, private))
                    if name in harmful:
                        runs.append(Run(name, cheat, seed, private, defended=False))
    return runs


def harms(attack: str) -> bool:
    """Whether an attack is one on the model, that another defence could let through."""
    return BY_NAME[attack].by in (By.HOSPITAL, By.PAIR) and "NoAnswer" not in BY_NAME[attack].codes


def carry_out(setting: Setting, run: Run) -> Outcome:
    """Plays one run to its end.

    Raises:
        TaskError, PrivacyError: if the task, its data or the order cannot be had.
    """
    from consortium.contract import JobOrder
    from consortium.lab.arena import Arena
    from consortium.lab.attacks import ATTACKS, COMPARED

    order = JobOrder(setting.task, setting.rounds, setting.epsilon, setting.delta, run.seed)
    arena = Arena.found(
        order, setting.hospitals, setting.data_dir, run.private,
        defended=run.defended, contributions=run.defended,
    )  # fmt: skip
    names = sorted(arena.hospitals)
    cheat = names[run.cheat]
    attack = {**COMPARED, **ATTACKS}[run.attack](arena, cheat)
    first = BY_NAME[run.attack].first if run.attack in BY_NAME else 1
    trials = [attack.play() for _ in range(setting.rounds)]
    learning = dict.fromkeys(names, 0)
    for result in arena.results:
        for outcome in result.proofs:
            learning[outcome.institution] += outcome.credits
    return Outcome(
        run, cheat, Counter(trial.code for trial in trials[first - 1 :]),
        sum(trial.honest for trial in trials), sum(trial.false_alarms for trial in trials),
        arena.pooled_auroc(), learning, arena.credits(),
    )  # fmt: skip


def carried_out(setting: Setting, runs: Sequence[Run], jobs: int) -> Iterator[Outcome]:
    """Plays all runs in so many processes, and gives each outcome as it comes.

    Whoever stops asking ends the rest.

    Raises:
        RunsCutOff: if one of the processes was killed.
    """
    if jobs == 1:
        for run in runs:
            yield carry_out(setting, run)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["consortium.lab.attacks"])
    pool = ProcessPoolExecutor(jobs, context, initializer=_begin_worker)
    try:
        for future in as_completed([pool.submit(carry_out, setting, run) for run in runs]):
            yield future.result()
    except BrokenProcessPool:
        raise RunsCutOff(
            "a process that plays runs was killed, by the machine for want of memory perhaps",
            "run the command again, with fewer --jobs",
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _begin_worker() -> None:
    import torch

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one who started it ends it
    torch.set_num_threads(1)
