"""Clipped gradient sums of models that are one layer after the other, without hooks.

One pass forward and one back, to the layers' outputs: `layer_gradients` has what follows from that
for each kind of layer. For Linear, convolutions, group and layer normalisation, with activations
and pooling between them; agrees with Opacus's per-sample hooks to rounding. What a step costs
stands in docs/privacy.md.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterator
from typing import Final

import torch
from torch import Tensor, nn

from privacy.clipping import clip_factors
from privacy.layer_gradients import RULES, LayerGradients, OfMatrix

PerPatientLoss = Callable[[Tensor, Tensor], Tensor]
"""(logits [n, ...], labels [n, ...]) -> losses [n], each of its own patient only."""

ELEMENTWISE: Final = (
    nn.Identity,
    nn.ReLU,
    nn.LeakyReLU,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Tanh,
    nn.Softplus,
)

ONE_PATIENT: Final = (
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AvgPool3d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
    nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
    nn.Flatten,
    nn.Unflatten,
)
"""Layers without parameters that are not elementwise; `supports` looks at how they are set."""

_VALUES_AT_ONCE: Final = 2**20
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NAMES: Final = frozenset({"weight", "bias"})


def stackable(model: nn.Module, x: Tensor) -> bool:
    """Whether `model` is Linear layers with elementwise activations, on inputs of [n, d]."""
    layers = _layers(model)
    kinds = {type(layer) for layer in layers}
    return (
        x.dim() == 2
        and kinds <= {nn.Linear, *ELEMENTWISE}
        and _each_once(layers)
        and not any(map(_in_place, layers))
    )


def supports(model: nn.Module, x: Tensor) -> bool:
    """Whether `clipped_sum` has a rule for every layer of `model`, on inputs like `x`, [n, ...]."""
    layers = _layers(model)
    known = all(type(layer) in RULES or _passes_on(layer) for layer in layers)
    if not known or not _each_once(layers) or not x.is_floating_point():
        return False
    return stackable(model, x) or all(
        RULES[type(layer)].fits(layer, value)
        for layer, value, _ in _of_one(model, x)
        if type(layer) in RULES
    )


def at_once(model: nn.Module, x: Tensor) -> int:
    """How many patients go through `model` together, so that no tensor holds over 8 MB of them.

    From shapes alone. Sums do not depend on it, but for rounding.
    """
    widest = max(_widest(layer, value, output) for layer, value, output in _of_one(model, x))
    return max(1, _VALUES_AT_ONCE // widest)


def _widest(layer: nn.Module, value: Tensor, output: Tensor) -> int:
    """Of a layer's tensors for one patient, the values of the largest."""
    sizes = [value.numel(), output.numel()]
    if isinstance(layer, _CONVOLUTIONS):
        places, weights = math.prod(output.shape[2:]), layer.weight.numel()
        sizes += [weights // layer.out_channels * places, min(weights, 2 * places**2)]
    return max(sizes)


def stacked(model: nn.Module, runs: int) -> nn.Module:
    """`model` so many times over: each parameter gets a leading dimension [runs], all alike.

    Only `clipped_sum` can apply it: each of the `runs` models is then trained on its own, and a
    mechanism is run thousands of times at once to see what it gives away.
    """
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        parameter.data = parameter.data.expand(runs, *parameter.shape).clone()
    return copied


def clipped_sum(
    model: nn.Module,
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    clip: float,
    clipping: str,
    chosen: Tensor | None = None,
    at_once: int | None = None,
) -> list[Tensor]:
    """Sum over patients of their clipped gradients, one tensor per trainable parameter.

    x: [n, ...], y: [n] or [n, k]; chosen: the batch, as bool [n] or, for a stacked model,
    [runs, n]; all patients when None. at_once: how many of them go through the model together; all
    when None. The tensors come in the order of `model.parameters()` and in its shapes and dtype.
    Raises NonFiniteUpdate.
    """
    if chosen is not None and chosen.dim() == 1:
        x, y, chosen = x[chosen], y[chosen], None
    sums: list[Tensor] | None = None
    for start in range(0, len(x), at_once or len(x) or 1):
        part = slice(start, start + (at_once or len(x)))
        factor = None if chosen is None else chosen[:, part]
        of_part = _sum_of(model, loss, x[part], y[part], clip, clipping, factor)
        sums = of_part if sums is None else [a.add_(b) for a, b in zip(sums, of_part, strict=True)]
    if sums is None:
        return [torch.zeros_like(p) for p in model.parameters() if p.requires_grad]
    return sums


def _sum_of(
    model: nn.Module,
    loss: PerPatientLoss,
    x: Tensor,
    y: Tensor,
    clip: float,
    clipping: str,
    chosen: Tensor | None,
) -> list[Tensor]:
    rules: list[LayerGradients] = []
    value = x
    for layer in _layers(model):
        if any(parameter.requires_grad for parameter in layer.parameters()):
            rules.append(RULES[type(layer)](layer, value))
            value = rules[-1].output
        else:
            value = layer(value)
    watched = [tensor for rule in rules for tensor in rule.watched]
    if any(isinstance(rule, OfMatrix) and rule.output.dim() == 3 for rule in rules):
        # A stacked model: each run meets the same patients.
        y = y.expand(len(value), *y.shape).flatten(0, 1)
        value = value.flatten(0, 1)
    deltas = iter(torch.autograd.grad(loss(value, y).sum(), watched))
    squared = [rule.squared([next(deltas) for _ in rule.watched]) for rule in rules]
    factors = clip_factors(functools.reduce(torch.add, squared), clip, clipping)
    if chosen is not None:
        factors = factors * chosen
    return [total for rule in rules for total in rule.sums(factors)]


def _layers(model: nn.Module) -> list[nn.Module]:
    """Layers in the order that they are applied; a module of another kind is one layer."""
    if type(model) is nn.Sequential:
        return [layer for part in model for layer in _layers(part)]
    return [model]


def _passes_on(layer: nn.Module) -> bool:
    """Whether a layer without parameters leaves each patient's values apart, and in place."""
    if isinstance(layer, nn.Flatten):
        return type(layer) is nn.Flatten and layer.start_dim >= 1
    if isinstance(layer, nn.Unflatten):
        return type(layer) is nn.Unflatten and isinstance(layer.dim, int) and layer.dim >= 1
    if type(layer) in ONE_PATIENT:
        return not getattr(layer, "return_indices", False)
    return type(layer) in ELEMENTWISE and not _in_place(layer)


def _in_place(layer: nn.Module) -> bool:
    """Whether a layer overwrites its input: autograd then differentiates in what it made of it."""
    return bool(getattr(layer, "inplace", False))


def _each_once(layers: list[nn.Module]) -> bool:
    """Whether there are layers with a rule, each used once, with the parameters that it knows."""
    own = [layer for layer in layers if type(layer) in RULES]
    names = {name for layer in own for name, _ in layer.named_parameters()}
    return bool(own) and len({id(layer) for layer in own}) == len(own) and names <= _NAMES


def _of_one(model: nn.Module, x: Tensor) -> Iterator[tuple[nn.Module, Tensor, Tensor]]:
    """Each layer with its input and output for the first patient, [1, ...]."""
    value = x[:1].detach()
    for layer in _layers(model):
        with torch.no_grad():
            output = layer(value)
        yield layer, value, output
        value = output
