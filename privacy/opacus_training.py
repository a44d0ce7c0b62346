"""Clipped gradient sums of every other module, through Opacus's per-sample hooks.

Only `GradSampleModule` is used. Opacus's `make_private` is not: it takes sample rate, number of
steps and normaliser from the private n, which the norm of an update then gives away.

Layers that mix patients are refused, never rewritten: `ModuleValidator.fix` would turn BatchNorm on
tabular input into a layer that is constant.
"""

import warnings
from typing import TYPE_CHECKING, Final

import torch
from torch import Tensor, nn

from privacy.clipping import clip_factors
from privacy.closed_form import PerPatientLoss
from privacy.errors import UnsupportedLayer

if TYPE_CHECKING:
    from opacus import GradSampleModule

_CHUNK: Final = 64
"""Patients whose gradients are held in memory at once; sums do not depend on it."""

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
    seen: set[int] = set()
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if id(parameter) in seen:
            raise UnsupportedLayer(
                f"parameter {name} is shared between layers; its gradient per patient is not "
                "the sum of the layers' own",
                "give each layer parameters of its own",
            )
        seen.add(id(parameter))


def wrap(model: nn.Module) -> "GradSampleModule":
    """`model`, in training mode, with hooks that keep gradients per patient.

    Raises UnsupportedLayer.
    """
    # Only here: 50 MB and a second that a model with a closed form does without.
    from opacus import GradSampleModule
    from opacus.validators import ModuleValidator

    if errors := ModuleValidator.validate(model, strict=False):
        raise UnsupportedLayer(
            f"Opacus refuses the model: {errors[0]}",
            "replace the layer by one that treats every patient alone",
        )
    try:
        return GradSampleModule(model, batch_first=True, loss_reduction="sum", strict=True)
    except (NotImplementedError, ValueError) as error:
        raise UnsupportedLayer(
            f"Opacus has no per-patient gradient for the model: {type(error).__name__}",
            "use layers that Opacus supports, or a linear model or MLP",
        ) from error


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
        with warnings.catch_warnings():
            # torch remarks that patients' data need no gradient; nothing is wrong with that.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            torch.autograd.backward(loss(wrapped(part), labels).sum())
        gradients = [_per_patient(p, len(part)) for p in parameters]
        squared = torch.stack([g.flatten(1).square().sum(dim=1) for g in gradients]).sum(dim=0)
        factors = clip_factors(squared, clip, clipping)
        for total, gradient in zip(sums, gradients, strict=True):
            total += torch.einsum("n,n...->...", factors, gradient)
    wrapped.zero_grad(set_to_none=True)
    return sums


def _per_patient(parameter: nn.Parameter, patients: int) -> Tensor:
    gradient = getattr(parameter, "grad_sample", None)
    if not isinstance(gradient, Tensor) or len(gradient) != patients:
        raise UnsupportedLayer(
            "a parameter has no gradient per patient: it is unused, or used more than once",
            "use every trainable parameter exactly once in the forward pass, or freeze it",
        )
    return gradient.detach()
