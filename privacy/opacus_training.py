"""Clipped gradient sums of every other module, by Opacus's hooks.

* Ghost clipping (Li et al. 2022; Bu et al. 2022): a first pass back leaves the norm of each
  patient's gradient, a second one, of the losses times their factors, the clipped sum. No layer's
  gradients per patient outlive the layer. For modules made of the layers in `_GHOST`.
* Gradients per patient, for all else that Opacus knows: these are clipped and summed themselves.

Opacus's `make_private` is not used: it takes sample rate, number of steps and normaliser from the
private n, which the norm of an update then gives away.

Layers that mix patients are refused, never rewritten: `ModuleValidator.fix` would turn BatchNorm on
tabular input into a layer that is constant. In ghost clipping the norm and what is summed come from
different passes, so a norm that is wrong would bound nothing: before a model is trained, the sum
over two patients is held against what autograd gives for each.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import Tensor, nn

from privacy.clipping import clip_factors
from privacy.closed_form import PerPatientLoss
from privacy.errors import UnsupportedLayer

if TYPE_CHECKING:
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

Wrapped = TypeVar("Wrapped", bound=nn.Module)

Summed = Callable[[Tensor, Tensor, float, str], list[Tensor]]
"""(x [n, ...], y [n, ...], clip, clipping) -> one sum for each trainable parameter."""

_AWAY: Final = 0.1
_CHUNK: Final = 64
"""Patients whose gradients are held in memory at once; sums do not depend on it."""

_GHOST: Final = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.Embedding,
    nn.GroupNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
)
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
            parameter.add_(moves, alpha=_AWAY)
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(parameters, kept, strict=True):
                parameter.copy_(value)


def prepare(model: nn.Module, loss: PerPatientLoss, x: Tensor, y: Tensor) -> Summed:
    """How clipped gradients of `model`, in training mode, are summed: by ghost clipping if it can.

    x: [n, ...], y: [n, ...], patients to check the sum on: two, if there are two, since the strides
    of one alone tell no layout, and Opacus knows only one layout of images. Raises
    UnsupportedLayer.
    """
    if supports_ghost(model):
        ghost = wrap_ghost(model)

        def summed(x: Tensor, y: Tensor, clip: float, clipping: str) -> list[Tensor]:
            return ghost_sum(ghost, loss, x, y, clip, clipping)
    else:
        hooked = wrap(model)

        def summed(x: Tensor, y: Tensor, clip: float, clipping: str) -> list[Tensor]:
            return clipped_sum(hooked, loss, x, y, clip, clipping)

    with away_from_start(model):
        _check_sum(model, summed, loss, x, y)
    return summed


def supports_ghost(model: nn.Module) -> bool:
    """Whether every trainable parameter belongs to a layer of `_GHOST`, and none to a subclass."""
    return all(
        type(layer) in _GHOST
        for layer in model.modules()
        if any(parameter.requires_grad for parameter in layer.parameters(recurse=False))
    )


def wrap(model: nn.Module) -> "GradSampleModule":
    """`model`, in training mode, with hooks that keep gradients per patient.

    Raises UnsupportedLayer.
    """
    # Only here: 50 MB and a second that a model with a closed form does without.
    from opacus import GradSampleModule

    return _wrapped(model, GradSampleModule)


def wrap_ghost(model: nn.Module) -> "GradSampleModuleFastGradientClipping":
    """`model`, in training mode, with hooks that keep each patient's norms. UnsupportedLayer."""
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

    return _wrapped(model, GradSampleModuleFastGradientClipping)


def _wrapped(model: nn.Module, wrapper: Callable[..., Wrapped]) -> Wrapped:
    from opacus.validators import ModuleValidator

    if errors := ModuleValidator.validate(model, strict=False):
        raise UnsupportedLayer(
            f"Opacus refuses the model: {errors[0]}",
            "replace the layer by one that treats every patient alone",
        )
    try:
        return wrapper(model, batch_first=True, loss_reduction="sum", strict=True)
    except (NotImplementedError, ValueError) as error:
        raise UnsupportedLayer(
            f"Opacus has no per-patient gradient for the model: {type(error).__name__}",
            "use layers that Opacus supports, or a linear model or MLP",
        ) from error


def ghost_sum(
    wrapped: "GradSampleModuleFastGradientClipping",
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    clip: float,
    clipping: str,
) -> list[Tensor]:
    """`clipped_sum` in two passes back, without gradients per patient."""
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in parameters]
    for start in range(0, len(x), _CHUNK):
        part, labels = x[start : start + _CHUNK], y[start : start + _CHUNK]
        for parameter in parameters:
            parameter._norm_sample = None
        wrapped.enable_hooks()
        # Towards the inputs if they are numbers: the second pass alone needs the parameters'.
        part = part.detach().requires_grad_(part.is_floating_point())
        losses = loss(_forward(wrapped, part), labels)
        _gradients(losses.sum(), [part] if part.requires_grad else parameters, last=False)
        norms = [_of_patients(p, "_norm_sample", len(part)) for p in parameters]
        squared = torch.stack([norm.square() for norm in norms]).sum(dim=0)
        wrapped.disable_hooks()
        factors = clip_factors(squared, clip, clipping)
        clipped = _gradients((factors * losses).sum(), parameters)
        for total, of_chunk in zip(sums, clipped, strict=True):
            total += of_chunk
    return sums


def clipped_sum(
    wrapped: "GradSampleModule",
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    clip: float,
    clipping: str,
) -> list[Tensor]:
    """Sum over patients of their clipped gradients, one tensor per trainable parameter.

    x: [n, ...], y: [n, ...]; shapes, order and dtype are those of the parameters. Raises
    NonFiniteUpdate, or UnsupportedLayer when a parameter got no gradient per patient.
    """
    parameters = [p for p in wrapped.parameters() if p.requires_grad]
    sums = [torch.zeros_like(p) for p in parameters]
    for start in range(0, len(x), _CHUNK):
        part, labels = x[start : start + _CHUNK], y[start : start + _CHUNK]
        wrapped.zero_grad(set_to_none=True)
        _gradients(loss(_forward(wrapped, part), labels).sum(), parameters, last=False)
        gradients = [_of_patients(p, "grad_sample", len(part)) for p in parameters]
        squared = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0)
        factors = clip_factors(squared, clip, clipping)
        for total, gradient in zip(sums, gradients, strict=True):
            total += torch.einsum("n,n...->...", factors, gradient)
    wrapped.zero_grad(set_to_none=True)
    return sums


def _forward(wrapped: nn.Module, x: Tensor) -> Tensor:
    try:
        return wrapped(x)  # type: ignore[no-any-return]
    except NotImplementedError as error:
        raise _not_once() from error


def _gradients(total: Tensor, leaves: Sequence[Tensor], last: bool = True) -> tuple[Tensor, ...]:
    """Gradients in the leaves; unless `last`, for the hooks' sake, and the graph stays."""
    with warnings.catch_warnings():
        # torch remarks that patients' data need no gradient; nothing is wrong with that.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        return torch.autograd.grad(total, leaves, retain_graph=not last, allow_unused=not last)


def _of_patients(parameter: nn.Parameter, name: str, patients: int) -> Tensor:
    values = getattr(parameter, name, None)
    if not isinstance(values, Tensor) or len(values) != patients:
        raise _not_once()
    return values.detach()


def _not_once() -> UnsupportedLayer:
    return UnsupportedLayer(
        "a parameter has no gradient per patient: it is unused, or used more than once",
        "use every trainable parameter exactly once in the forward pass, or freeze it",
    )


def _check_sum(
    model: nn.Module, summed: Summed, loss: PerPatientLoss, x: Tensor, y: Tensor
) -> None:
    """Refuse a model whose clipped sum is not that of the gradients that autograd gives.

    By automatic clipping, whose factor shows a wrong norm whatever the norm is. Where the model
    draws at random itself (dropout), both are given the same draws.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    with torch.random.fork_rng(devices=[]):
        state = torch.random.get_rng_state()
        found = summed(x, y, 1.0, "automatic")
        expected = [torch.zeros_like(parameter) for parameter in parameters]
        for patient in range(len(x)):
            torch.random.set_rng_state(state)
            gradient = _gradients(loss(model(x), y)[patient], parameters)
            squared = torch.stack([part.square().sum() for part in gradient]).sum()
            factor = clip_factors(squared[None], 1.0, "automatic")[0]
            for total, part in zip(expected, gradient, strict=True):
                total += factor * part
    if not all(
        torch.allclose(one, other, rtol=1e-6, atol=1e-8)
        for one, other in zip(found, expected, strict=True)
    ):
        raise UnsupportedLayer(
            "a patient's gradient, as Opacus bounds it, is not that of the loss: a layer's "
            "parameters are used outside the layer, or Opacus does not know the layer well",
            "use the layers' own forward passes only, or a linear model or MLP",
        )
