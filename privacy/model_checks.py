"""What is refused before a model is trained: whatever nothing bounds patient by patient.

Layers that mix patients are refused, never rewritten: Opacus's `ModuleValidator.fix` would turn
BatchNorm on tabular input into a layer that is constant. What no layer's kind tells is looked at on
two patients, away from the model's start: whether they meet, and whether the clipped sum that is to
be trained on is that of the gradients that autograd gives for each. These checks find mistakes, and
no model that is written to deceive them.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import torch
from torch import Tensor, nn

from privacy.clipping import clip_factors
from privacy.closed_form import PerPatientLoss
from privacy.errors import UnsupportedLayer

Summed = Callable[[Tensor, Tensor, float, str], list[Tensor]]
"""(x [n, ...], y [n, ...], clip, clipping) -> one sum for each trainable parameter."""

_AWAY: Final = 0.1
_MIXES_PATIENTS: Final = (nn.modules.batchnorm._BatchNorm, nn.modules.batchnorm._LazyNormBase)


def check_layers(model: nn.Module) -> None:
    """Raise UnsupportedLayer for the first layer whose gradient is not one patient's own."""
    for name, layer in model.named_modules():
        if isinstance(layer, _MIXES_PATIENTS):
            raise UnsupportedLayer(
                f"layer {name or 'model'} is {type(layer).__name__}: it normalises each patient by "
                "the others of the batch, so no patient's influence can be bounded",
                "use GroupNorm or LayerNorm, or fixed scaling of the inputs",
            )
        if isinstance(layer, nn.modules.instancenorm._InstanceNorm) and layer.track_running_stats:
            raise UnsupportedLayer(
                f"layer {name or 'model'} keeps running statistics of patients outside the noise",
                "set track_running_stats=False",
            )
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag) and (
            layer.max_norm is not None or layer.scale_grad_by_freq or layer.padding_idx is not None
        ):
            raise UnsupportedLayer(
                f"layer {name or 'model'} has max_norm, scale_grad_by_freq or padding_idx: it "
                "changes rows or gradients by which patients are there, outside clip and noise",
                "leave all three at their defaults",
            )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UnsupportedLayer(
            "the model has no trainable parameter", "leave at least one layer unfrozen"
        )
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            raise UnsupportedLayer(
                f"parameter {name} is shared between layers; its gradient per patient is not "
                "the sum of the layers' own",
                "give each layer parameters of its own",
            )
        seen.add(id(parameter))


@contextmanager
def away_from_start(model: nn.Module) -> Iterator[None]:
    """Moves the parameters by fixed random numbers, and puts them back.

    Models often start with a layer of zeros, which hides from a check all that lies before it.
    """
    parameters = list(model.parameters())
    kept = [parameter.detach().clone() for parameter in parameters]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in parameters:
            moves = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(moves.to(parameter.device), alpha=_AWAY)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def check_apart(model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor) -> None:
    """Refuse a loss that is averaged over patients, and a model or loss in which they meet.

    x: [n, ...], a few patients, of unlike labels where there are some (`unlike`): a loss weighted
    by how many are of a class looks right on one class. Patients meet where the loss of one has a
    gradient in another, is another one beside others, or leaves something in the model.
    """
    buffers = [buffer.clone() for buffer in model.buffers()]
    x = x.clone().requires_grad_(x.is_floating_point())
    logits = model(x)
    losses = loss(logits, y)
    mixed = losses.shape != (len(x),)
    if not mixed and len(x) > 1:
        watched = [value for value in (logits, x) if value.requires_grad]
        for patient in range(len(x)):  # not of the first only: each might see those before it
            found = torch.autograd.grad(
                losses[patient], watched, retain_graph=True, allow_unused=True
            )
            others = torch.arange(len(x), device=x.device) != patient
            mixed = mixed or any(bool((g[others] != 0).any()) for g in found if g is not None)
        mixed = mixed or not _alike_alone(model, loss, x.detach(), y)
    pairs = zip(buffers, model.buffers(), strict=True)
    if mixed or not all(torch.equal(before, after) for before, after in pairs):
        raise UnsupportedLayer(
            f"the loss has shape {list(losses.shape)} for {len(x)} patients, or it or the model "
            "mixes them",
            'return one loss per patient, as with reduction="none", of that patient alone',
        )


def _alike_alone(model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor) -> bool:
    """Whether each patient's loss is the same without the others, dropout aside."""
    model.eval()
    with torch.no_grad():
        together = loss(model(x), y)
        alone = torch.cat([loss(model(a[None]), b[None]) for a, b in zip(x, y, strict=True)])
    model.train()
    return torch.allclose(together, alone, rtol=1e-9, atol=1e-9, equal_nan=True)


def unlike(y: Tensor, patients: int) -> Tensor:
    """Places of so many patients, the first two of unlike labels if there are such; y: [n, ...]."""
    differs = (y != y[0]).reshape(len(y), -1).any(dim=1).nonzero()[:1, 0].tolist()
    order = list(dict.fromkeys([0, *differs, *range(min(len(y), patients))]))
    return torch.tensor(order[:patients], device=y.device)


def check_sum(model: nn.Module, summed: Summed, loss: PerPatientLoss, x: Tensor, y: Tensor) -> None:
    """Refuse a model whose clipped sum is not that of the gradients that autograd gives.

    By automatic clipping, whose factor shows a wrong norm whatever the norm is. Where the model
    draws at random itself (dropout), both are given the same draws.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []), warnings.catch_warnings():
        # torch remarks on Opacus's hooks that patients' data need no gradient.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        torch.manual_seed(0)
        found = summed(x, y, 1.0, "automatic")
        expected = [torch.zeros_like(parameter) for parameter in parameters]
        for patient in range(len(x)):
            torch.manual_seed(0)
            gradient = torch.autograd.grad(loss(model(x), y)[patient], parameters)
            squared = torch.stack([part.square().sum() for part in gradient]).sum()
            factor = clip_factors(squared[None], 1.0, "automatic")[0]
            for total, part in zip(expected, gradient, strict=True):
                total += factor * part
    if not all(
        torch.allclose(one, other, rtol=1e-6, atol=1e-8)
        for one, other in zip(found, expected, strict=True)
    ):
        raise UnsupportedLayer(
            "a patient's gradient, as it is bounded, is not that of the loss: a layer's "
            "parameters are used outside the layer, or Opacus does not know the layer well",
            "use the layers' own forward passes only, or a linear model or MLP",
        )
