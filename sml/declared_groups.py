"""Mapping groups that a model declares itself: checked by what they do to it.

Rules that hold here:

- each group is tried alone on a copy of the model in float64, with random weights in place of its
  own (which may be zero) and random inputs: the mapped model on mapped inputs must give the same
  outputs, to 1e-8;
- it is tried with maps that generate all others: one transposition and one cycle generate every
  permutation, one flipped sign every sign; of dense maps one that is drawn. A function of weights
  and inputs that stays the same under these stays the same under all;
- nothing is drawn from torch's own generator, and the model is not changed.

What this does not show: a model that treats units alike on the inputs tried and not on others, or
otherwise when it trains (dropout is off here).
"""

import copy
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn

from sml.errors import MappingInvalid
from sml.groups import INPUT_GROUP, Kind, MappingGroup, OrthogonalMap, check_apart
from sml.permutation import SignedPermutation

_TOLERANCE: Final = 1e-8
_PATIENTS: Final = 4


def check_declared(
    model: nn.Module, groups: tuple[MappingGroup, ...], example: Tensor | None
) -> None:
    """Check groups that a model declares against its shapes, and by trying them.

    Args:
        model: the model; not changed.
        groups: what it declares.
        example: inputs [n, ...], whose shape alone counts; without it they are [n, size of the
            input group].

    Raises:
        MappingInvalid: the groups are none, or in each other's way; none is called "input"; a
            tensor or the inputs do not fit; the model does not run, or computes something else when
            a group is mapped.
    """
    if not all(isinstance(group, MappingGroup) for group in groups):
        raise _refusal("it declares something else than mapping groups")
    inputs = {group.name: group for group in check_apart(groups)}.get(INPUT_GROUP)
    if inputs is None:
        raise _refusal(f'it declares no group "{INPUT_GROUP}"')
    if example is None and inputs.input_axis != -1:
        raise _refusal("its inputs are no table, and no example of them is given")
    generator = torch.Generator().manual_seed(0)
    shape = (_PATIENTS, inputs.size) if example is None else tuple(example.shape)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    tried = copy.deepcopy(model).double().eval()
    state = {name: _random(t, generator) for name, t in tried.state_dict().items()}
    outputs = _run(tried, state, x)
    if not bool(torch.isfinite(outputs).all()) or torch.equal(outputs, outputs.flip(0)):
        raise _refusal("its outputs on random inputs are not finite, or all the same")
    for group in groups:
        for q in _generators(group):
            mapped = dict(state)
            group.act(q, mapped)
            is_input = group.name == INPUT_GROUP
            found = _run(tried, mapped, q.apply(x, group.input_axis) if is_input else x)
            largest = float(outputs.abs().max())
            if not torch.allclose(found, outputs, rtol=0, atol=_TOLERANCE * largest):
                raise _refusal(f"it computes something else when group {group.name!r} is mapped")


def _generators(group: MappingGroup) -> Iterator[OrthogonalMap]:
    if group.kind is Kind.DENSE:
        yield group.draw(bytes(64))
        return
    size, ones = group.size, np.ones(group.size, dtype=np.int8)
    order = np.arange(size)
    if size > 1:
        yield SignedPermutation(np.roll(order, 1), ones)
        yield SignedPermutation(np.array([1, 0, *order[2:]]), ones)
    if group.kind is Kind.SIGNED:
        flipped = ones.copy()
        flipped[0] = -1
        yield SignedPermutation(order, flipped)


def _random(tensor: Tensor, generator: torch.Generator) -> Tensor:
    """Values of a tensor's shape, such that activations neither vanish nor saturate."""
    if not tensor.is_floating_point():
        return tensor
    if tensor.ndim < 2:  # biases, scales, and variances, which are above zero
        return 0.5 + torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
    drawn = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype)
    return drawn / math.sqrt(tensor[0].numel())


def _run(model: nn.Module, state: dict[str, Tensor], x: Tensor) -> Tensor:
    try:
        with torch.no_grad():
            outputs = torch.func.functional_call(model, state, (x,))
    except (RuntimeError, ValueError, TypeError, IndexError) as error:
        raise _refusal(f"it does not take such inputs: {type(error).__name__}") from error
    if not isinstance(outputs, Tensor):
        raise _refusal("its outputs are no tensor")
    return outputs


def _refusal(reason: str) -> MappingInvalid:
    return MappingInvalid(
        f"The model's own mapping groups do not hold: {reason}.",
        "Correct its `mapping_groups`: each axis with the units that it is indexed by, and for "
        "images an example of the inputs.",
    )
