"""What a validator finds that each proof contributed, on its own patients."""

from dataclasses import replace
from decimal import Decimal
from itertools import chain, combinations
from math import comb
from typing import get_args

import numpy as np
import pytest
from rounds_examples import honest_step, make_context, make_example_job, moved, names

from consortium.rounds import score
from consortium.rounds.aggregation import new_model
from consortium.rounds.checks import Examined, RoundContext
from consortium.rounds.verdict import Validator, findings
from ledger.content import Weights
from ledger.records import Aggregation
from privacy.noised_release import ReleaseNoise

RANDOM = np.random.default_rng(0)
INPUTS, LABELS = RANDOM.normal(size=(60, 30)), np.array([0.0, 1.0] * 30)
OWN = "hospital-1"


class Patients:
    """Counts the models that are looked at."""

    def __init__(self) -> None:
        self.models = 0

    def predict(self, models: Weights) -> np.ndarray:
        self.models += len(models["bias"])
        return models["weight"][:, 0].astype(np.float64) @ INPUTS.T + models["bias"]


def examined(context: RoundContext) -> dict[str, Examined]:
    return {
        p.institution: Examined("Accepted", moved(context, 4 * honest_step(p.institution)))
        for p in context.job.participants
    }


def values(
    context: RoundContext, patients: Patients | None = None, noised: ReleaseNoise | None = None
) -> dict[str, int | None]:
    validator = Validator(LABELS, (patients or Patients()).predict, noised)
    return {f.institution: f.shapley for f in findings(context, examined(context), validator, OWN)}


@pytest.mark.parametrize("rule", get_args(Aggregation))
def test_they_are_the_shapley_values_of_what_the_jobs_rule_makes(rule: Aggregation) -> None:
    """Of six hospitals, by the definition: coalition by coalition, each by the round's own rule."""
    job = make_example_job(6).model_copy(update={"aggregation": rule})
    context = make_context(6, job)
    updates = {n: e.weights for n, e in examined(context).items() if e.weights is not None}
    patients = Patients()

    def worth(coalition: tuple[str, ...]) -> float:
        model = new_model(job, {n: updates[n] for n in coalition}) if coalition else context.model
        stacked = {name: array[None] for name, array in model.items()}
        return score.auroc(LABELS, patients.predict(stacked)[0])

    found = values(context)
    assert found.pop(OWN) is None
    assert len(set(found.values())) > 2
    for name, shapley in found.items():
        others = [n for n in updates if n != name]
        coalitions = chain.from_iterable(combinations(others, size) for size in range(6))
        exact = sum(
            (worth(tuple(sorted((*c, name)))) - worth(c)) / (6 * comb(5, len(c)))
            for c in coalitions
        )
        assert shapley == score.banded_shapley(exact)


def test_beyond_twelve_proofs_they_are_sampled_by_public_values() -> None:
    context, patients = make_context(14), Patients()
    found = values(context, patients)
    assert found.pop(OWN) is None
    assert len(found) == 13
    assert len(set(found.values())) > 3
    assert None not in found.values()
    assert found == {n: v for n, v in values(context).items() if n != OWN}  # whoever repeats it
    sampled = patients.models
    other = Patients()
    values(replace(context, round=2), other)
    assert other.models != sampled
    assert max(other.models, sampled) < 2**13


def test_with_noise_no_value_decides_which_coalitions_are_looked_at() -> None:
    context, looked_at = make_context(13), set()
    for labels in (LABELS, LABELS[::-1], np.roll(np.sort(LABELS), 7)):
        patients = Patients()
        noised = ReleaseNoise(20, Decimal(1))
        validator = Validator(labels, patients.predict, noised)
        said = findings(context, examined(context), validator, OWN)
        assert all(f.shapley is not None for f in said if f.institution != OWN)
        looked_at.add(patients.models)
    turns = 50
    assert looked_at == {1 + 1 + turns * 13 * 12 + 12}  # current, all, sampled, scores
    assert names(13)[0] == OWN
