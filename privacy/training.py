"""Differentially private training of one round: full-batch noisy gradient steps.

    w <- w - learning_rate * (sum_i clip(g_i) + N(0, (sigma * clip)^2 I)) / normaliser

(Abadi et al. 2016, with sample rate 1.) The normaliser is the declared public constant, so the
number of patients shows only as one patient's clipped gradient, which the noise covers. Gradients
come in closed form for linear models and MLPs, through Opacus for every other module; sums and
steps are in float64, the trained model keeps its own dtype.

For orthogonal maps of the inputs (a signed permutation, for one) everything here commutes: norms
do not change, and isotropic noise stays isotropic.

What is not covered: the time a step takes grows with the number of patients, and a refusal over
values that are not finite is itself seen.
"""

import copy
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from privacy import closed_form, opacus_training
from privacy.closed_form import PerPatientLoss
from privacy.contract import PrivacyTerms
from privacy.errors import CohortTooSmall, NonFiniteUpdate, UnsupportedLayer
from privacy.gaussian import check_claim
from privacy.noise import NoiseSource

ClippedSum = Callable[[], list[Tensor]]


def train(
    model: nn.Module,
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    terms: PrivacyTerms,
    noise: NoiseSource,
) -> None:
    """Train `model` in place for one round: `terms.steps` noisy full-batch steps.

    model: logits = model(x); parameters are replaced by the trained ones, in their own dtype.
    loss: (logits, y) -> [n], one loss per patient, of that patient alone.
    x: [n, ...]; y: [n, ...]. Any n gives the same kind of update: n is not in the result.
    noise: asked once per step and trainable parameter, in the order of `model.parameters()`,
    for the parameter's shape with standard deviation noise_multiplier * clip; not asked when the
    terms have no noise.

    Raises what `check_claim` raises on the terms; CohortTooSmall without a patient;
    UnsupportedLayer for a model or loss that mixes patients; NonFiniteUpdate for NaN or infinity
    in parameters, data, gradients or result. The model is unchanged when an error is raised.
    """
    check_claim(terms)
    if len(x) < 1 or len(x) != len(y):
        raise CohortTooSmall(
            "the training part holds no patient, or not one label for each",
            "check the cohort's split before joining a job",
        )
    opacus_training.check_layers(model)
    _check_finite("a parameter of the global model", model.parameters())
    _check_finite("the training data", (x, y))
    working = copy.deepcopy(model).double().train()
    features, labels = _wide(x), _wide(y)
    _check_loss(working, loss, features[:2], labels[:2])
    parameters = [p for p in working.parameters() if p.requires_grad]
    gradient = _gradient(working, loss, features, labels, terms)
    std = float(terms.noise_multiplier * terms.clip)
    rate = float(terms.learning_rate / terms.normaliser)
    for _ in range(terms.steps):
        for parameter, total in zip(parameters, gradient(), strict=True):
            noised = total + noise.normal(tuple(total.shape), std) if terms.private else total
            parameter.data.sub_(noised, alpha=rate)
    _store(working, model)


def _gradient(
    model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor, terms: PrivacyTerms
) -> ClippedSum:
    clip = float(terms.clip)
    if closed_form.supports(model, x):
        return lambda: closed_form.clipped_sum(model, loss, x, y, clip, terms.clipping)
    wrapped = opacus_training.wrap(model)
    return lambda: opacus_training.clipped_sum(wrapped, loss, x, y, clip, terms.clipping)


def _wide(values: Tensor) -> Tensor:
    return values.detach().double() if values.is_floating_point() else values.detach()


def _check_finite(what: str, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        if not bool(torch.isfinite(tensor).all()):
            raise NonFiniteUpdate(
                f"{what} is not finite",
                "encode missing values before training, and start from a finite global model",
            )


def _check_loss(model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor) -> None:
    """Refuse a loss that is averaged over patients, or in which one patient meets another."""
    with torch.no_grad():
        logits = model(x)
    logits = logits.detach().requires_grad_()
    losses = loss(logits, y)
    mixed = losses.shape != (len(x),)
    if not mixed and len(x) > 1:
        (of_first,) = torch.autograd.grad(losses[0], logits)
        mixed = bool((of_first[1:] != 0).any())
    if mixed:
        raise UnsupportedLayer(
            f"the loss has shape {list(losses.shape)} for {len(x)} patients, or mixes them",
            'return one loss per patient, as with reduction="none"',
        )


def _store(trained: nn.Module, model: nn.Module) -> None:
    pairs = list(zip(trained.parameters(), model.parameters(), strict=True))
    results = [new.detach().to(old.dtype) for new, old in pairs]
    _check_finite("the trained model", results)
    with torch.no_grad():
        for (_, old), result in zip(pairs, results, strict=True):
            old.copy_(result)
