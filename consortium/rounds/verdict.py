"""A validator's verdict: checks 1 to 7 on every reveal, check 8 and the score on its own patients.

Its own proof is checked too (1 to 7) but neither scored nor called harmful by itself. A validator
with too few patients of either class abstains from scoring: its numbers are null.
"""

from collections.abc import Callable, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from consortium.rounds import score
from consortium.rounds.aggregation import weighted_mean
from consortium.rounds.checks import Examined, RoundContext
from consortium.rounds.shapley import EXACT_LIMIT, shapley_values
from ledger.content import Weights
from ledger.records import ACCEPTED, Finding


class Validator:
    """One hospital's validation patients and how a model predicts on them.

    Args:
        labels: 0 or 1 a patient, float64 [n].
        predict: logits of a model on these patients, float64 [n].
    """

    def __init__(
        self,
        labels: NDArray[np.float64],
        predict: Callable[[Weights], NDArray[np.float64]],
    ) -> None:
        self._labels = labels
        self._predict = predict
        self.scores = score.can_score(labels)

    def auroc(self, weights: Weights) -> float:
        """AUROC of a model on these patients."""
        return score.auroc(self._labels, self._predict(weights))


def findings(
    context: RoundContext, examined: Mapping[str, Examined], validator: Validator, own: str
) -> tuple[Finding, ...]:
    """This validator's findings on all examined reveals, by institution."""
    passed = {
        name: e.weights
        for name, e in examined.items()
        if e.code == ACCEPTED and e.weights is not None
    }
    if not validator.scores:
        return tuple(
            Finding(institution=name, code=examined[name].code, score=None, harmful=None,
                    shapley=None)
            for name in sorted(examined)
        )  # fmt: skip
    current = validator.auroc(context.model)
    contributions = _contributions(context, passed, validator, current)
    found = []
    for name in sorted(examined):
        weights = passed.get(name)
        judged = weights is not None and name != own
        auroc = validator.auroc(weights) if judged and weights is not None else None
        drop = context.job.thresholds.drop
        found.append(
            Finding(
                institution=name,
                code=examined[name].code,
                score=None if auroc is None else score.banded_score(auroc),
                harmful=None if auroc is None else score.is_harmful(auroc, current, drop),
                shapley=(
                    score.banded_shapley(contributions[name])
                    if judged and contributions is not None
                    else None
                ),
            )
        )
    return tuple(found)


def _contributions(
    context: RoundContext, passed: Mapping[str, Weights], validator: Validator, current: float
) -> dict[str, float] | None:
    if len(passed) > EXACT_LIMIT:
        return None  # nothing was measured, so nothing is reported
    public = {p.institution: p.weight for p in context.job.participants}

    @cache
    def value(coalition: frozenset[str]) -> float:
        if not coalition:
            return current
        return validator.auroc(weighted_mean({n: passed[n] for n in coalition}, public))

    return shapley_values(sorted(passed), value)
