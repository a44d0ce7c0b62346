"""A validator's verdict: checks 1 to 7 on every reveal, check 8 and the score on its own patients.

Its own proof is checked too (1 to 7) but neither scored nor called harmful by itself. Its numbers
pass the release gate in the mode that the job's contract names: in bands
(`consortium.rounds.score`), where a validator with too few patients of either class abstains and
its numbers are null; or with noise (`privacy.noised_release`), where nobody abstains, and whoever
asks has charged them before.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from consortium import weights as weight_forms
from consortium.rounds import score
from consortium.rounds.aggregation import Coalitions, coalition_models
from consortium.rounds.checks import Examined, RoundContext
from consortium.rounds.checks.harm import is_harmful, is_missed, tolerated_drop
from consortium.rounds.codes import HARMFUL
from consortium.rounds.shapley import Value, shapley_values
from consortium.rounds.unlearning import Taught, corrected
from consortium.weights import stack
from ledger.content import Weights
from ledger.records import ACCEPTED, Finding, Job, NoisedScores
from privacy.contract import PrivacyTerms
from privacy.noise import NoiseSource, SecureNoise
from privacy.noised_release import ReleaseNoise

_NUMBERS_AT_ONCE = 4_000_000


class Validator:
    """One hospital's validation patients, how a model predicts on them, and what may be said of it.

    Args:
        labels: 0 or 1 a patient, float64 [n].
        predict: logits of models, arrays with a leading axis of m, on these patients: float64
            [m, n].
        noised: how wide the noise on the numbers is; None: they leave in bands.
        noise: where it is taken from.
    """

    def __init__(
        self,
        labels: NDArray[np.float64],
        predict: Callable[[Weights], NDArray[np.float64]],
        noised: ReleaseNoise | None = None,
        noise: NoiseSource | None = None,
    ) -> None:
        self._labels = labels
        self._predict = predict
        self._noised = noised
        self._noise = noise or SecureNoise()
        self._positives = int((labels > 0.5).sum())
        self._negatives = len(labels) - self._positives
        self.scores = noised is not None or score.can_score(labels)

    @property
    def patients(self) -> int:
        """How many they are."""
        return len(self._labels)

    @property
    def noised(self) -> bool:
        """Whether its numbers leave with noise."""
        return self._noised is not None

    def auroc(self, weights: Weights) -> float:
        """AUROC of a model on these patients; in the noised mode the one that noise is for."""
        return float(self.aurocs(stack([weights]))[0])

    def aurocs(self, models: Weights) -> NDArray[np.float64]:
        """The same [m] of models, arrays with a leading axis of m."""
        if self._positives == 0 or self._negatives == 0:
            return np.full(len(next(iter(models.values()))), 0.5)
        exact = score.aurocs(self._labels, self._predict(models))
        if self._noised is None:
            return exact
        sizes = self._positives, self._negatives
        return np.array([self._noised.drawn(value, *sizes) for value in exact.tolist()])

    @property
    def deviation(self) -> float:
        """Standard deviation of the noise on an AUROC; 0 where they leave in bands."""
        return self._noised.deviation if self._noised else 0.0

    def with_noise(self, auroc: float) -> float:
        """An AUROC as findings are made of it."""
        return self._noised.score(auroc, self._noise) if self._noised else auroc

    def difference_with_noise(self, shapley: float) -> float:
        """A Shapley value as findings are made of it."""
        return self._noised.difference(shapley, self._noise) if self._noised else shapley


def release_noise(job: Job) -> ReleaseNoise | None:
    """How wide the noise on a job's scores is; None: they leave in bands."""
    if not isinstance(job.scores, NoisedScores):
        return None
    return ReleaseNoise(job.scores.fewest, Decimal(job.scores.noise_multiplier))


def score_terms(job: Job, institution: str) -> PrivacyTerms | None:
    """What a job's verdicts cost a participant's validation patients; None: they leave in bands.

    In each round at most a score and a Shapley value for each of the others, and the current
    model's AUROC, which ``harmful`` is told by; for one that goes against the others, in their
    place, the AUROC of the model with what it taught and without.

    Raises:
        PrivacyError: if the constants cannot be those of a job.
    """
    noised = release_noise(job)
    if noised is None:
        return None
    delta = next(p.terms.delta for p in job.participants if p.institution == institution)
    numbers = 2 * (len(job.participants) - 1) + 1
    return noised.counted_as(job.rounds, numbers, Decimal(delta))


def findings(
    context: RoundContext, examined: Mapping[str, Examined], validator: Validator, own: str,
    *, contributions: bool = True,
) -> tuple[Finding, ...]:  # fmt: skip
    """This validator's findings on all examined reveals, by institution.

    Without ``contributions`` they hold no Shapley values, which take nearly all of the time.
    """
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
    exact = validator.auroc(context.model)
    shares = _contributions(context, passed, validator, exact) if contributions else None
    current = validator.with_noise(exact)
    found = []
    for name in sorted(examined):
        weights = passed.get(name)
        judged = weights is not None and name != own
        auroc = (
            validator.with_noise(validator.auroc(weights))
            if judged and weights is not None
            else None
        )
        harmful: bool | None = None
        if auroc is not None:
            harmful = is_harmful(auroc, current, tolerated_drop(context, name))
        elif examined[name].code == HARMFUL and name != own:
            harmful = not _missed(context, name, examined[name].weights, validator)
        found.append(
            Finding(
                institution=name,
                code=examined[name].code,
                score=None if auroc is None else score.banded_score(auroc),
                harmful=harmful,
                shapley=(
                    score.banded_shapley(validator.difference_with_noise(shares[name]))
                    if judged and shares is not None
                    else None
                ),
            )
        )
    return tuple(found)


def _missed(context: RoundContext, name: str, update: Weights | None, validator: Validator) -> bool:
    """Whether the model is much worse on these patients without what a hospital taught in it.

    With it: its earlier steps, and its share by weight of its step of this round. The others' of
    this round are in neither model.
    """
    moves = Taught(context.job, context.earlier).with_and_without(name, context.left_out)
    if update is None or moves[0] is moves[1] is None:
        return False  # nothing of it was ever accepted
    weights = {p.institution: p.weight for p in context.job.participants}
    step = weight_forms.vector(update) - weight_forms.vector(context.model)
    share = weights[name] / sum(weights.values())
    with_ = corrected(corrected(context.model, moves[0]), share * step)
    without = corrected(context.model, moves[1])
    better, worse = (validator.with_noise(validator.auroc(each)) for each in (with_, without))
    return is_missed(better, worse, validator.deviation)


def _contributions(
    context: RoundContext, passed: Mapping[str, Weights], validator: Validator, current: float
) -> dict[str, float]:
    """Shapley values of the proofs that passed; orders, if any are drawn, by public values only."""
    if not passed:
        return {}
    names = sorted(passed)
    place = (context.ledger, context.base, context.job.job, context.round, context.attempt)
    seed = "\n".join(["medpole/shapley/v1", *map(str, place), *names]).encode()
    worth = coalition_worth(context.job, passed, validator, current)
    found = shapley_values(len(names), worth, seed, fixed=validator.noised)
    return dict(zip(names, found.tolist(), strict=True))


def coalition_worth(
    job: Job, updates: Mapping[str, Weights], validator: Validator, current: float
) -> Value:
    """The AUROC of what the job's rule makes of each coalition's updates; ``current`` of nobody's.

    Players are the updates in the order of their institutions' names.
    """
    # Memory: the updates of a coalition side by side, and one prediction a patient.
    each = sum(array.size for update in updates.values() for array in update.values())
    at_once = max(1, _NUMBERS_AT_ONCE // (each + validator.patients))

    def worth(coalitions: Coalitions) -> NDArray[np.float64]:
        values = np.full(len(coalitions), current)
        some = np.flatnonzero(coalitions.any(axis=1))
        for first in range(0, len(some), at_once):
            part = some[first : first + at_once]
            values[part] = validator.aurocs(coalition_models(job, updates, coalitions[part]))
        return values

    return worth
