"""Clipped gradient sums of every other module, by Opacus's hooks.

* Ghost clipping (Li et al. 2022; Bu et al. 2022): a first pass back leaves the norm of each
  patient's gradient, a second one, of the losses times their factors, the clipped sum. No layer's
  gradients per patient outlive the layer. For modules made of the layers in `_GHOST`.
* Gradients per patient, for all else that Opacus knows: these are clipped and summed themselves.

Opacus's `make_private` is not used: it takes sample rate, number of steps and normaliser from the
private n, which the norm of an update then gives away.

In ghost clipping the norm and what is summed come from different passes, so a norm that is wrong
would bound nothing: before a model is trained, the sum over two patients is held against what
autograd gives for each.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

import torch
from torch import Tensor, nn

from privacy.clipping import clip_factors
from privacy.closed_form import PerPatientLoss
from privacy.errors import UnsupportedLayer
from privacy.model_checks import Summed, away_from_start, check_sum

if TYPE_CHECKING:
    from opacus import GradSampleModule
    from opacus.grad_sample import GradSampleModuleFastGradientClipping

Wrapped = TypeVar("Wrapped", bound=nn.Module)

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
        check_sum(model, summed, loss, x, y)
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
