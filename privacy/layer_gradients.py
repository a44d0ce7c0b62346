"""Each layer's gradients patient by patient, from one pass back to the layers' outputs.

A rule applies its layer, names what autograd is to differentiate, and from those derivatives gives
the squared norms of the patients' gradients and the sum of these times their factors.

* `OfMatrix`, Linear: patient i's gradient is the outer product of delta_i (the loss's gradient in
  the output) and the input a_i, so its squared norm is |delta_i|^2 |a_i|^2, and the sum over
  patients is one matrix product (Goodfellow 2015, "Efficient per-example gradient computations").
* `OfWindows`, convolutions: the layer is one matrix at L places. With the input's windows as
  columns, A_i of [d, L], and delta_i of [c, L], the gradient is delta_i A_i^T. It is formed where
  it is small; where 2 L^2 < c d its norm comes from two Gram matrices of [L, L] instead, and only
  the sum is formed (the rule of Bu et al. 2022, "Scalable and efficient training of large
  convolutional neural networks with differential privacy").
* `OfScale`, group and layer normalisation: every patient gets a copy of scale and shift, and
  autograd gives the gradient in each.

Trainable parameters alone count; sums come in the order of `layer.parameters()`.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerGradients(ABC):
    """One layer, applied to a batch.

    output: what the layer gives; watched: tensors whose derivatives `squared` is to be given.
    """

    output: Tensor
    watched: tuple[Tensor, ...]

    @classmethod
    def fits(cls, layer: Any, value: Tensor) -> bool:
        """Whether the rule holds for this layer on inputs like `value`, [1, ...]."""
        return True

    @abstractmethod
    def squared(self, deltas: Sequence[Tensor]) -> Tensor:
        """Squared norms of the patients' gradients, [n], from the derivatives in `watched`."""

    @abstractmethod
    def sums(self, factors: Tensor) -> list[Tensor]:
        """Sums over patients of factor, [n], times gradient; only once `squared` was asked for."""


class OfMatrix(LayerGradients):
    """Linear on [n, d]; or many layers at once, weight [runs, c, d], each on [n, d]."""

    def __init__(self, layer: nn.Linear, value: Tensor) -> None:
        self._layer, self._a = layer, value.detach()
        self.output = _affine(value, layer)
        self.watched = (self.output,)

    @classmethod
    def fits(cls, layer: nn.Linear, value: Tensor) -> bool:
        """Of one place only."""
        return value.dim() == 2

    def squared(self, deltas: Sequence[Tensor]) -> Tensor:
        """[n], or [runs, n]."""
        (self._delta,) = deltas
        of_delta = _dot(self._delta, self._delta)
        if not _trained(self._layer.weight):
            return of_delta
        of_inputs = _dot(self._a, self._a)
        return of_delta * (of_inputs + 1 if _trained(self._layer.bias) else of_inputs)

    def sums(self, factors: Tensor) -> list[Tensor]:
        """Of weight and bias."""
        clipped = self._delta * factors[..., None]
        found = [clipped.mT @ self._a] if _trained(self._layer.weight) else []
        return [*found, clipped.sum(dim=-2)] if _trained(self._layer.bias) else found


class OfWindows(LayerGradients):
    """Convolution without groups, padded by zeros, on [n, channels, ...]."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, value: Tensor) -> None:
        self._layer, self._a = layer, value.detach()
        self.output = layer(value)
        self.watched = (self.output,)

    @classmethod
    def fits(cls, layer: nn.Conv2d, value: Tensor) -> bool:
        """Not where torch would take the patients for channels."""
        plain = layer.groups == 1 and layer.padding_mode == "zeros"
        return plain and value.dim() == 2 + len(layer.kernel_size)

    def squared(self, deltas: Sequence[Tensor]) -> Tensor:
        """[n]."""
        self._delta = deltas[0].flatten(2)
        channels, places = self._delta.shape[1:]
        self._columns: Tensor | None = None
        self._gradient: Tensor | None = None
        self._of_bias: Tensor | None = None
        squared = torch.zeros_like(self._delta[:, 0, 0])
        if _trained(self._layer.weight):
            columns = windows(self._layer, self._a, self.output.shape[2:])
            if 2 * places**2 < channels * columns.shape[1]:
                self._columns = columns
                grams = (columns.mT @ columns) * (self._delta.mT @ self._delta)
                squared += grams.sum(dim=(1, 2))
            else:
                self._gradient = self._delta @ columns.mT
                squared += _squared(self._gradient)
        if _trained(self._layer.bias):
            self._of_bias = self._delta.sum(dim=2)
            squared += _squared(self._of_bias)
        return squared

    def sums(self, factors: Tensor) -> list[Tensor]:
        """Of weight and bias."""
        found = []
        if self._gradient is not None:
            found.append(_weighted(factors, self._gradient).view(self._layer.weight.shape))
        elif self._columns is not None:
            clipped = self._delta * factors[:, None, None]
            total = torch.tensordot(clipped, self._columns, dims=([0, 2], [0, 2]))
            found.append(total.view(self._layer.weight.shape))
        if self._of_bias is not None:
            found.append(_weighted(factors, self._of_bias))
        return found


class OfScale(LayerGradients):
    """GroupNorm or LayerNorm with scale and shift, on [n, ...]."""

    def __init__(self, layer: nn.GroupNorm | nn.LayerNorm, value: Tensor) -> None:
        copies = [_copies(parameter, len(value)) for parameter in (layer.weight, layer.bias)]
        if isinstance(layer, nn.GroupNorm):
            self.output = _group_normed(layer, value, *copies)
        else:
            self.output = _layer_normed(layer, value, *copies)
        self.watched = tuple(copy for copy in copies if copy is not None and copy.requires_grad)

    @classmethod
    def fits(cls, layer: nn.GroupNorm | nn.LayerNorm, value: Tensor) -> bool:
        """Not where patients would be normalised together."""
        return isinstance(layer, nn.GroupNorm) or value.dim() > len(layer.normalized_shape)

    def squared(self, deltas: Sequence[Tensor]) -> Tensor:
        """[n]."""
        self._gradients = deltas
        return torch.stack([_squared(gradient) for gradient in deltas]).sum(dim=0)

    def sums(self, factors: Tensor) -> list[Tensor]:
        """Of scale and shift."""
        return [_weighted(factors, gradient) for gradient in self._gradients]


RULES: Final[dict[type[nn.Module], type[Any]]] = {
    nn.Linear: OfMatrix,
    nn.Conv1d: OfWindows,
    nn.Conv2d: OfWindows,
    nn.Conv3d: OfWindows,
    nn.GroupNorm: OfScale,
    nn.LayerNorm: OfScale,
}
"""A `LayerGradients` for each kind of layer with parameters; not for its subclasses."""


def windows(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, a: Tensor, places: Sequence[int]) -> Tensor:
    """What the layer's matrix meets at each place: [n, d, L] of inputs [n, channels, ...].

    d = channels x kernel, L = the product of `places`, the output's extents. In any layout.
    """
    pads = [side for pair in reversed(_pads(layer)) for side in pair]
    if any(pads):
        a = functional.pad(a, pads)
    of_patient, of_channel, *of_extents = a.stride()
    kernel = [s * apart for s, apart in zip(of_extents, layer.dilation, strict=True)]
    moves = [s * step for s, step in zip(of_extents, layer.stride, strict=True)]
    view = a.as_strided(
        (*a.shape[:2], *layer.kernel_size, *places), (of_patient, of_channel, *kernel, *moves)
    )
    return view.reshape(len(a), -1, math.prod(places))


def _pads(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> list[tuple[int, int]]:
    """Zeros before and behind, a pair for each extent; of "same" the odd one stands behind."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        missing = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in missing]
    return [(int(zeros), int(zeros)) for zeros in layer.padding]


def _affine(value: Tensor, layer: nn.Linear) -> Tensor:
    if layer.weight.dim() == 2:
        return layer(value)  # type: ignore[no-any-return]
    product = value @ layer.weight.mT
    return product if layer.bias is None else product + layer.bias[:, None, :]


def _group_normed(
    layer: nn.GroupNorm, value: Tensor, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    """All patients' channels side by side, each with scale and shift [n, channels] of its own."""
    n, channels, *extents = value.shape
    beside = value.reshape(1, n * channels, *extents)
    scales, shifts = (None if each is None else each.reshape(-1) for each in (scale, shift))
    groups = n * layer.num_groups
    return torch.group_norm(beside, groups, scales, shifts, layer.eps).view(value.shape)


def _layer_normed(
    layer: nn.LayerNorm, value: Tensor, scale: Tensor | None, shift: Tensor | None
) -> Tensor:
    """Scale and shift: [n, *normalized_shape]."""
    between = (1,) * (value.dim() - len(layer.normalized_shape) - 1)
    normed = torch.layer_norm(value, layer.normalized_shape, None, None, layer.eps)
    if scale is not None:
        normed = normed * scale.view(len(value), *between, *layer.normalized_shape)
    if shift is not None:
        normed = normed + shift.view(len(value), *between, *layer.normalized_shape)
    return normed


def _copies(parameter: Tensor | None, n: int) -> Tensor | None:
    if parameter is None:
        return None
    copies = parameter.detach().expand(n, *parameter.shape)
    return copies.requires_grad_(parameter.requires_grad)


def _trained(parameter: Tensor | None) -> bool:
    return parameter is not None and parameter.requires_grad


def _squared(gradients: Tensor) -> Tensor:
    flat = gradients.flatten(1)
    return _dot(flat, flat)


def _dot(one: Tensor, other: Tensor) -> Tensor:
    return torch.linalg.vecdot(one, other)  # type: ignore[no-any-return]


def _weighted(factors: Tensor, gradients: Tensor) -> Tensor:
    return (factors @ gradients.flatten(1)).view(gradients.shape[1:])
