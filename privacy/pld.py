"""Epsilon by privacy loss distributions: tighter than what is enforced, and for information only.

The numerical composition of `dp-accounting` (Doroshenko et al. 2022, "Connect the dots"), rounded
outward. It is exact for steps that were fixed beforehand. Jobs are not: they are chosen in view of
earlier results, and then "stop once the composed distribution reaches the limit" is no valid rule
(arXiv 2602.06756). So no budget reads it; people see how much the valid rules leave unused.

Full-batch steps alone have the same epsilon here as under Gaussian DP, which is exact.
"""

import contextlib
import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Final

from privacy import gaussian
from privacy.accounting import shown_up
from privacy.contract import PrivacyTerms, decimal_text

SAYS: Final = (
    "By PLD: tighter, for steps fixed beforehand; jobs are chosen in view of results, so this is "
    "information and no stopping rule."
)
_INTERVALS: Final = ((3, 1e-4), (12, 5e-4))  # of losses, by kinds of steps: each costs its time
_COARSEST: Final = 2e-3


@dataclass(frozen=True)
class Steps:
    """So many steps of one kind."""

    sample_rate: Decimal
    noise_multiplier: Decimal
    count: int

    @staticmethod
    def of(terms: PrivacyTerms, rounds: int) -> "Steps":
        """The steps of some rounds of a job."""
        return Steps(terms.sample_rate, terms.noise_multiplier, rounds * terms.steps)


def epsilon(steps: Iterable[Steps], delta: Decimal) -> float:
    """Epsilon of all steps together at `delta`, under add-or-remove-one neighbours."""
    mu2, sampled = Fraction(0), Counter[tuple[Decimal, Decimal]]()
    for kind in steps:
        if kind.sample_rate == 1:
            mu2 += kind.count / Fraction(kind.noise_multiplier) ** 2
        elif kind.count:
            sampled[kind.sample_rate, kind.noise_multiplier] += kind.count
    if not sampled:
        return gaussian.epsilon_of(mu2, delta)
    from dp_accounting import dp_event  # half a second that full-batch jobs do without
    from dp_accounting.pld import PLDAccountant

    interval = next((fine for most, fine in _INTERVALS if len(sampled) <= most), _COARSEST)
    accountant = PLDAccountant(value_discretization_interval=interval)
    if mu2:
        accountant.compose(dp_event.GaussianDpEvent(float(mu2) ** -0.5))
    for (rate, noise), count in sampled.items():
        step = dp_event.PoissonSampledDpEvent(float(rate), dp_event.GaussianDpEvent(float(noise)))
        accountant.compose(step, count)
    return float(accountant.get_epsilon(float(delta)))


def shown(steps: Iterable[Steps], delta: Decimal, cache: Path | None = None) -> Decimal:
    """`epsilon` rounded up to four decimals.

    cache: a file that remembers it for sampled steps, which take seconds where jobs are many; it
    holds public constants' digests and epsilons, and may be deleted.
    """
    kinds = sorted((k.sample_rate, k.noise_multiplier, k.count) for k in steps if k.count)
    if cache is None or all(rate == 1 for rate, _, _ in kinds):
        return shown_up(epsilon((Steps(*kind) for kind in kinds), delta))
    text = json.dumps([[*map(str, kind)] for kind in kinds] + [str(delta)])
    key, known = hashlib.sha256(text.encode()).hexdigest(), _read(cache)
    if key not in known:
        known[key] = decimal_text(shown_up(epsilon((Steps(*kind) for kind in kinds), delta)))
        _write(cache, known)
    return Decimal(known[key])


def _read(cache: Path) -> dict[str, str]:
    try:
        return {str(key): decimal_text(Decimal(text)) for key, text in
                json.loads(cache.read_text()).items()}  # fmt: skip
    except (OSError, ValueError, ArithmeticError, AttributeError):
        return {}


def _write(cache: Path, known: dict[str, str]) -> None:
    partial = cache.with_name(f".{cache.name}.{os.getpid()}")
    with contextlib.suppress(OSError):  # it is computed again next time
        partial.touch(0o600)
        partial.write_text(json.dumps(known))
        partial.replace(cache)
