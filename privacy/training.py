"""Differentially private training of one round: noisy gradient steps on sampled batches, or on all.

    w <- w - learning_rate * (sum_i clip(g_i) + N(0, (sigma * clip)^2 I)) / divisor

(Abadi et al. 2016.) The sum runs over each step's batch: every patient at sample rate 1, otherwise
a Poisson sample, from the same source as the noise. The divisor is a public constant of the
contract, so the number of patients shows only as one patient's clipped gradient, which the noise
covers; a batch without anybody is a step of noise alone. Gradients come in closed form for models
that are one layer after the other, of kinds that `closed_form` knows, through Opacus for every
other module; sums and steps are in float64, the trained model keeps its own dtype.

On a GPU (`device`) the model, the patients and the sums are there; noise and batches are still
drawn on the CPU, from the same source, and moved.

For orthogonal maps of the inputs (a signed permutation, for one) everything here commutes: norms
do not change, and isotropic noise stays isotropic.

What is not covered: the time a step takes grows with the number of patients in it, and a refusal
over values that are not finite is itself seen.
"""

import copy
import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

import torch
from torch import Tensor, nn

from privacy import closed_form, model_checks, opacus_training
from privacy.accounting import check_claim
from privacy.closed_form import PerPatientLoss
from privacy.contract import PrivacyTerms
from privacy.devices import CPU, device_of
from privacy.errors import CohortTooSmall, NonFiniteUpdate
from privacy.model_checks import Summed
from privacy.noise import NoiseSource, normal_draws

_LOOKED_AT: Final = 4
"""Patients on whom it is looked whether they meet."""

ClippedSum = Callable[[Tensor | None], list[Tensor]]
"""(bool [n], the batch; None for all) -> one sum for each trainable parameter, of its shape."""


def train(
    model: nn.Module,
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    terms: PrivacyTerms,
    noise: NoiseSource,
    device: str = CPU,
) -> None:
    """Train `model` in place for one round of `terms.steps` noisy steps.

    model: logits = model(x); parameters are replaced by the trained ones, in their own dtype.
    loss: (logits, y) -> [n], one loss per patient, of that patient alone.
    x: [n, ...]; y: [n, ...]. Any n gives the same kind of update: n is not in the result.
    noise: see `descend`; not asked for noise when the terms have none.
    device: where the steps are taken: "cpu", "cuda" or "cuda:N". Model and result stay where they
    are.

    Raises what `check_claim` raises on the terms; DeviceMissing without the device; CohortTooSmall
    without a patient; UnsupportedLayer for a model or loss that mixes patients; NonFiniteUpdate for
    NaN or infinity in parameters, data, gradients or result. The model is unchanged when an error
    is raised.
    """
    check_claim(terms)
    place = device_of(device)
    if len(x) < 1 or len(x) != len(y):
        raise CohortTooSmall(
            "the training part holds no patient, or not one label for each",
            "check the cohort's split before joining a job",
        )
    model_checks.check_layers(model)
    _check_finite("a parameter of the global model", model.parameters())
    _check_finite("the training data", (x, y))
    working = _working_copy(model, place)
    features, labels = _wide(x, place), _wide(y, place)
    with model_checks.away_from_start(working):
        some = model_checks.unlike(labels, _LOOKED_AT)
        model_checks.check_apart(working, loss, features[some], labels[some])
    gradient = clipped_gradient(working, loss, features, labels, terms)
    descend(trainable(working), gradient, terms, noise, (len(x),))
    _store(working, model)


def trainable(model: nn.Module) -> list[nn.Parameter]:
    """The parameters that training changes, in the order of `model.parameters()`."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def clipped_gradient(
    model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor, terms: PrivacyTerms
) -> ClippedSum:
    """The sum of clipped gradients at the parameters that `model` has whenever it is asked.

    Raises UnsupportedLayer.
    """
    clip, clipping = float(terms.clip), terms.clipping
    if closed_form.stackable(model, x):
        return lambda chosen: closed_form.clipped_sum(model, loss, x, y, clip, clipping, chosen)
    two = model_checks.unlike(y, 2)
    if closed_form.supports(model, x):
        clipped_sum: Summed = partial(
            closed_form.clipped_sum, model, loss, at_once=closed_form.at_once(model, x)
        )
        with model_checks.away_from_start(model):
            model_checks.check_sum(model, clipped_sum, loss, x[two], y[two])
    else:
        clipped_sum = opacus_training.prepare(model, loss, x[two], y[two])

    def of_batch(chosen: Tensor | None) -> list[Tensor]:
        batch = (x, y) if chosen is None else (x[chosen], y[chosen])
        return clipped_sum(*batch, clip, clipping)

    return of_batch


def descend(
    parameters: Sequence[Tensor],
    gradient: ClippedSum,
    terms: PrivacyTerms,
    noise: NoiseSource,
    patients: tuple[int, ...],
) -> None:
    """The mechanism: `terms.steps` noisy steps on `parameters`, in place.

    noise: asked for all parameters of each step, flat in their order, with standard deviation
    noise_multiplier * clip; and for the step's batch, below sample rate 1.
    patients: (n,). The audit runs the mechanism many times at once: parameters then have a leading
    dimension [runs], each run goes its own way, and patients is (runs, n).
    """
    std = float(terms.noise_multiplier * terms.clip)
    rate = float(terms.learning_rate / terms.divisor)
    runs = patients[:-1]
    flat = _flattened(parameters, len(runs))
    draws = normal_draws(noise, terms.steps, tuple(flat.shape), std) if terms.private else None
    for _ in range(terms.steps):
        chosen = None
        if not terms.full_batch:
            chosen = noise.chosen(patients, terms.sample_rate).to(flat.device)
        total = torch.cat([part.flatten(len(runs)) for part in gradient(chosen)], dim=-1)
        if draws is not None:
            total += next(draws).to(flat.device)
        flat.sub_(total, alpha=rate)


def _flattened(parameters: Sequence[Tensor], runs: int) -> Tensor:
    """One tensor of all values, of which the parameters become views: one operation steps all.

    [total], behind as many leading dimensions as there are of ``runs``.
    """
    flat = torch.cat([parameter.detach().flatten(runs) for parameter in parameters], dim=-1)
    sizes = [math.prod(parameter.shape[runs:]) for parameter in parameters]
    for parameter, values in zip(parameters, flat.split_with_sizes(sizes, -1), strict=True):
        parameter.data = values.view(parameter.shape)
    return flat


def _working_copy(model: nn.Module, device: torch.device) -> nn.Module:
    """In float64, in training mode, and so that no layer overwrites what another one needs."""
    working = copy.deepcopy(model).to(device).double().train()
    for layer in working.modules():
        if getattr(layer, "inplace", False):
            layer.inplace = False  # type: ignore[assignment]
    for parameter in working.parameters():
        parameter.data = parameter.data.contiguous()
    return working


def _wide(values: Tensor, device: torch.device) -> Tensor:
    """In float64, and in the one layout that Opacus knows: of others it finds wrong norms."""
    values = values.detach().to(device).contiguous()
    return values.double() if values.is_floating_point() else values


def _check_finite(what: str, tensors: Iterable[Tensor]) -> None:
    for tensor in tensors:
        if not bool(torch.isfinite(tensor).all()):
            raise NonFiniteUpdate(
                f"{what} is not finite",
                "encode missing values before training, and start from a finite global model",
            )


def _store(trained: nn.Module, model: nn.Module) -> None:
    pairs = list(zip(trained.parameters(), model.parameters(), strict=True))
    results = [new.detach().to(old) for new, old in pairs]
    _check_finite("the trained model", results)
    with torch.no_grad():
        for (_, old), result in zip(pairs, results, strict=True):
            old.copy_(result)
