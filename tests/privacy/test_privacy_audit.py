"""The audit finds the bugs that it is for, and none where there is none."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
import torch

from consortium import tasks
from hospital_agent.audit import made_up
from privacy import accounting, audit, closed_form, mechanism_tests, opacus_training, training
from privacy.accounting import claiming, cost_of_round
from privacy.audit import Bound
from privacy.clipping import clip_factors
from privacy.contract import PrivacyTerms
from privacy.errors import NoiseInvalid, UnsupportedLayer
from privacy.noise import SecureNoise

HEART = tasks.get("heart-disease")
DELTA = Decimal("0.00001")


def terms_at(epsilon: str, rate: str = "1") -> PrivacyTerms:
    return HEART.terms(10, Decimal(epsilon), DELTA, 100, sample_rate=Decimal(rate))


TERMS = terms_at("3")


def failed(terms: PrivacyTerms = TERMS) -> set[str]:
    return {
        " ".join(check.name.split()[:5])
        for check in mechanism_tests.mechanism_tests(terms)
        if not check.passed
    }


def attacked(terms: PrivacyTerms = TERMS, jobs: int = 8000) -> Bound:
    return audit.two_worlds(HEART.model(), HEART.loss, *made_up(HEART.name), terms, jobs)


@pytest.mark.parametrize("rate", ["1", "0.2"])
def test_nothing_is_found_where_nothing_is_wrong(rate: str) -> None:
    assert failed(terms_at("3", rate)) == set()


def test_two_worlds_find_most_of_what_a_job_gives_away() -> None:
    told: list[int] = []
    bound = audit.two_worlds(
        HEART.model(), HEART.loss, *made_up(HEART.name), TERMS, 8000, told.append
    )
    assert bound.passed
    assert bound.epsilon_claimed == 3
    assert 0.7 < bound.epsilon_at_least / 3 < 1.15  # a bound at 95 % may be above
    assert sum(told) == bound.jobs == 8000
    sampled = attacked(terms_at("3", "0.1"))
    assert sampled.passed
    assert 0 < sampled.epsilon_at_least < 3
    assert sampled.right_at_least > 0.5


def clip_doubled(patch: pytest.MonkeyPatch) -> None:
    def doubled(squared: torch.Tensor, clip: float, clipping: str) -> torch.Tensor:
        return 2 * clip_factors(squared, clip, clipping)

    patch.setattr(closed_form, "clip_factors", doubled)


def clip_doubled_in_opacus(patch: pytest.MonkeyPatch) -> None:
    def doubled(squared: torch.Tensor, clip: float, clipping: str) -> torch.Tensor:
        return 2 * clip_factors(squared, clip, clipping)

    patch.setattr(opacus_training, "clip_factors", doubled)


def noise_too_narrow(patch: pytest.MonkeyPatch) -> None:
    normal = SecureNoise.normal
    patch.setattr(SecureNoise, "normal", lambda self, shape, std: normal(self, shape, 0.7 * std))


def noise_reused(patch: pytest.MonkeyPatch) -> None:
    normal = SecureNoise.normal
    kept: dict[Any, torch.Tensor] = {}

    def reused(self: SecureNoise, shape: tuple[int, ...], std: float) -> torch.Tensor:
        if (shape, std) not in kept:
            kept[shape, std] = normal(self, shape, std)
        return kept[shape, std]

    patch.setattr(SecureNoise, "normal", reused)


def noise_reused_within_a_round(patch: pytest.MonkeyPatch) -> None:
    descend = training.descend

    class Repeating(SecureNoise):
        def __init__(self) -> None:
            self.kept: torch.Tensor | None = None

        def normal(self, shape: tuple[int, ...], std: float) -> torch.Tensor:
            if self.kept is None:
                self.kept = super().normal(shape, std)
            return self.kept

    patch.setattr(
        training, "descend",
        lambda parameters, gradient, terms, noise, patients: descend(
            parameters, gradient, terms, Repeating(), patients
        ),
    )  # fmt: skip


def noise_seeded(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        SecureNoise, "normal",
        lambda self, shape, std: std * torch.randn(shape, dtype=torch.float64),
    )  # fmt: skip


def divided_by_the_private_number(patch: pytest.MonkeyPatch) -> None:
    descend = training.descend
    patch.setattr(
        training, "descend",
        lambda parameters, gradient, terms, noise, patients: descend(
            parameters, gradient, replace(terms, normaliser=patients[-1]), noise, patients
        ),
    )  # fmt: skip


def everybody_drawn(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        SecureNoise, "chosen", lambda self, shape, chance: torch.ones(shape, dtype=torch.bool)
    )


WIDTH = "the noise of 4 steps"
CLIP = "one patient moves a step"


@pytest.mark.parametrize(
    ("plant", "finds"),
    [
        (clip_doubled, {CLIP}),
        (clip_doubled_in_opacus, {CLIP}),
        (noise_too_narrow, {WIDTH}),
        (noise_reused, {"no noise is used twice", "no seed repeats the noise", WIDTH}),
        (noise_reused_within_a_round, {WIDTH}),
        (noise_seeded, {"no seed repeats the noise"}),
        (divided_by_the_private_number, {CLIP, WIDTH}),
        (everybody_drawn, {"a batch draws each patient"}),
    ],
)
def test_a_planted_bug_fails_its_test(
    monkeypatch: pytest.MonkeyPatch,
    plant: Callable[[pytest.MonkeyPatch], None],
    finds: set[str],
) -> None:
    plant(monkeypatch)
    terms = terms_at("3", "0.2") if plant is everybody_drawn else TERMS
    assert finds <= failed(terms)


def accountant_reset(patch: pytest.MonkeyPatch) -> None:
    """Each round is counted by an accountant that knows of no other."""
    patch.setattr(accounting, "cost_of_job", cost_of_round)


@pytest.mark.parametrize("rate", ["1", "0.2"])
def test_an_accountant_that_forgets_rounds_fails_its_test(
    monkeypatch: pytest.MonkeyPatch, rate: str
) -> None:
    honest = terms_at("3", rate)
    accountant_reset(monkeypatch)
    flattering = claiming(honest)
    assert flattering.epsilon is not None
    assert flattering.epsilon < 2
    accounting.check_claim(flattering)  # nobody else would notice
    assert "the claim covers all 20" in failed(flattering)
    assert rate != "1" or not attacked(flattering).passed


@pytest.mark.parametrize("plant", [clip_doubled, noise_too_narrow])
def test_the_two_worlds_show_a_planted_bug(
    monkeypatch: pytest.MonkeyPatch, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    plant(monkeypatch)
    assert not attacked().passed


def test_a_job_without_noise_and_a_model_without_closed_form_are_refused() -> None:
    silent = HEART.terms(10, None, DELTA, 100)
    with pytest.raises(NoiseInvalid):
        attacked(silent)
    with pytest.raises(NoiseInvalid):
        failed(silent)
    with pytest.raises(UnsupportedLayer):
        audit.two_worlds(
            torch.nn.Sequential(torch.nn.Flatten(), HEART.model()), HEART.loss,
            *made_up(HEART.name), TERMS, 100,
        )  # fmt: skip
