"""The mapping groups of a model: found by its layers, or declared by the model and checked.

Rules that hold here:

- a model is read as a chain: a linear layer or convolution, or an `nn.Sequential` (nested or not)
  of them with layers between that treat each unit or channel alike. What is not known to be exact
  is refused, with the module's name and the reason;
- the first layer's input axis is the group "input": the features of tables, the channels of images.
  The axis between two layers is a group "hidden." and its place from 1, an unsigned permutation.
  Outputs are never mapped;
- convolutions of any stride, padding and dilation act on each place alike, so they are exact in
  their channels; grouped ones are not, since a permutation would leave the groups;
- after flattening, a linear layer's input axis holds a block of entries for each channel;
- of normalisations those are exact that treat each channel alike (GroupNorm of as many groups as
  channels) or all channels together (GroupNorm of one group, LayerNorm over the units): their
  weights are permuted too;
- any other model may say its groups itself, as `mapping_groups`, an attribute or a method without
  arguments. They are checked by what they do (`sml.declared_groups`).

Dropout draws its own numbers, so mapped and un-mapped training agree in distribution there, not
draw for draw. A dense map does not commute with it at all.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeGuard

from torch import Tensor, nn

from sml.declared_groups import check_declared
from sml.errors import MappingInvalid
from sml.groups import INPUT_GROUP, Axis, Kind, MappingGroup

ModuleTypes = frozenset[type[nn.Module]]

_DROPOUT: Final[ModuleTypes] = frozenset({nn.Identity, nn.Dropout})
# Each unit alike: permuting units before or after gives the same. PReLU with a weight per unit,
# batch normalisation and attention are not of this kind.
_ELEMENTWISE: Final[ModuleTypes] = _DROPOUT | {
    nn.CELU,
    nn.ELU,
    nn.GELU,
    nn.Hardsigmoid,
    nn.Hardswish,
    nn.Hardtanh,
    nn.LeakyReLU,
    nn.LogSigmoid,
    nn.Mish,
    nn.ReLU,
    nn.ReLU6,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Softsign,
    nn.Tanh,
}
# Each channel alike, for inputs of so many places' axes.
_OF_CHANNELS: Final[dict[type[nn.Module], int]] = {
    nn.AdaptiveAvgPool1d: 1,
    nn.AdaptiveAvgPool2d: 2,
    nn.AdaptiveMaxPool1d: 1,
    nn.AdaptiveMaxPool2d: 2,
    nn.AvgPool1d: 1,
    nn.AvgPool2d: 2,
    nn.Dropout1d: 1,
    nn.Dropout2d: 2,
    nn.MaxPool1d: 1,
    nn.MaxPool2d: 2,
}
_CONVOLUTIONS: Final = (nn.Conv1d, nn.Conv2d)
_OUTPUT_ONLY: Final[ModuleTypes] = frozenset({nn.LogSoftmax, nn.Softmax})


def groups_for(
    model: nn.Module, *, inputs: Kind | None = None, example: Tensor | None = None
) -> tuple[MappingGroup, ...]:
    """The mapping groups of a model.

    Args:
        model: a linear layer, a multilayer perceptron, a convolutional network, or a model with
            `mapping_groups`.
        inputs: what Q of the group "input" shall be; a signed permutation, or what the model
            declares, by default. A dense one serves comparisons, never a round.
        example: inputs [n, ...] on which declared groups are tried; needed where the model takes
            images.

    Raises:
        MappingInvalid: for anything else, with the module's name and the reason; or declared groups
            do not fit the model, or change what it computes.
    """
    declared: Any = getattr(model, "mapping_groups", None)
    if declared is None:
        return _Chain(model, inputs or Kind.SIGNED).groups()
    groups = tuple(declared() if callable(declared) else declared)
    if inputs is not None:
        groups = tuple(replace(g, kind=inputs) if g.name == INPUT_GROUP else g for g in groups)
    check_declared(model, groups, example)
    return groups


@dataclass
class _Space:
    """The axis that the chain has come to.

    depth: its place in the activations, from the back: 1 for features, more for channels. block:
    entries for each coordinate along it, None after flattening until a layer says how many.
    """

    name: str
    size: int
    kind: Kind
    depth: int
    block: int | None = 1
    axes: list[Axis] = field(default_factory=list)

    def take(self, module: str, length: int) -> int:
        """The block of an axis of `length` entries that a module indexes by this space."""
        if self.block is None and length % self.size == 0:
            self.block = length // self.size
        if self.block is None:
            raise _refusal(module, f"takes {length} units, no multiple of {self.size} channels")
        if length != self.size * self.block:
            raise _refusal(module, f"takes {length} units, not {self.size * self.block}")
        return self.block

    def group(self) -> MappingGroup:
        axis = -self.depth if self.name == INPUT_GROUP else -1
        return MappingGroup(self.name, self.size, self.kind, tuple(self.axes), axis)


class _Chain:
    """A walk along the layers in the order of the forward pass."""

    def __init__(self, model: nn.Module, inputs: Kind) -> None:
        self._model, self._inputs = model, inputs
        self._space: _Space | None = None
        self._found: list[MappingGroup] = []
        self._dropout: str | None = None
        self._closed_by: str | None = None

    def groups(self) -> tuple[MappingGroup, ...]:
        for name, module in self._model.named_modules(remove_duplicate=False):
            if type(module).forward is not nn.Sequential.forward:
                self._visit(name, module)
        if self._space is None:
            raise _refusal("", "has no linear layer and no convolution")
        parameters = [id(p) for _, p in self._model.named_parameters(remove_duplicate=False)]
        if len(set(parameters)) < len(parameters):
            raise _refusal("", "shares a parameter between layers")
        return tuple(self._found)

    def _visit(self, name: str, module: nn.Module) -> None:
        kind, space = type(module), self._space
        if kind.forward is nn.Linear.forward and isinstance(module, nn.Linear):
            self._layer(name, module, module.in_features, module.out_features, 1)
        elif _convolves(module):
            if module.groups != 1:
                raise _refusal(name, f"convolves {module.groups} groups of channels apart")
            depth = 1 + len(module.kernel_size)
            self._layer(name, module, module.in_channels, module.out_channels, depth)
        elif space is None:
            self._before_the_first(name, kind)
        elif kind in _OUTPUT_ONLY or (
            isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) != (1, -1)
        ):
            self._closed_by = self._closed_by or name
        elif kind in _OF_CHANNELS:
            if space.depth != 1 + _OF_CHANNELS[kind] or getattr(module, "return_indices", False):
                raise _refusal(name, f"is a {kind.__name__} where no channels of its kind are")
        elif kind in _VISITS:
            _VISITS[kind](name, module, space)
        elif kind not in _ELEMENTWISE:
            raise _refusal(name, f"is a {kind.__name__}")

    def _before_the_first(self, name: str, kind: type[nn.Module]) -> None:
        if kind is nn.Flatten:
            raise _refusal(
                name, "flattens the inputs, so nothing tells how many channels they have"
            )
        if kind not in _DROPOUT:
            raise _refusal(name, f"is a {kind.__name__} before the first layer")
        if kind is nn.Dropout:
            self._dropout = name

    def _layer(self, name: str, module: nn.Module, takes: int, gives: int, depth: int) -> None:
        """A layer with weights: it ends the space before it and begins another."""
        if self._closed_by is not None:
            raise _refusal(self._closed_by, "stands before a layer with weights and mixes units")
        if {key for key, _ in module.named_parameters()} - {"weight", "bias"}:
            raise _refusal(name, "has a re-parametrised weight")
        space = self._space
        if space is None:
            space = _Space(INPUT_GROUP, takes, self._inputs, depth)
            if self._dropout is not None and self._inputs is Kind.DENSE:
                raise _refusal(self._dropout, "is dropout, which no dense map commutes with")
        elif space.depth != depth:
            raise _refusal(name, "acts along another axis than that of the units before it")
        weight = _tensor(name, "weight")
        space.axes.append(Axis(weight, 1, space.take(name, takes)))
        self._found.append(space.group())
        self._space = _Space(f"hidden.{len(self._found)}", gives, Kind.PERMUTATION, depth)
        self._space.axes.append(Axis(weight, 0))
        if module.bias is not None:
            self._space.axes.append(Axis(_tensor(name, "bias"), 0))


def _flatten(name: str, module: Any, space: _Space) -> None:
    if space.depth > 1:
        space.depth, space.block = 1, None


def _group_norm(name: str, module: Any, space: _Space) -> None:
    if space.depth == 1:
        raise _refusal(name, "normalises groups of units; LayerNorm normalises them all")
    block = space.take(name, module.num_channels)
    if module.num_groups not in (1, space.size):
        raise _refusal(name, f"normalises {module.num_groups} groups of channels apart")
    _weights(name, module, space, block)


def _layer_norm(name: str, module: Any, space: _Space) -> None:
    axes = len(module.normalized_shape)
    if axes > space.depth:
        raise _refusal(name, "normalises over more than one patient's units")
    if axes == space.depth:
        _weights(name, module, space, space.take(name, module.normalized_shape[0]))


def _weights(name: str, module: Any, space: _Space, block: int) -> None:
    for key, _ in module.named_parameters():
        space.axes.append(Axis(_tensor(name, key), 0, block))


_VISITS: Final[dict[type[nn.Module], Callable[[str, Any, _Space], None]]] = {
    nn.Flatten: _flatten,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
}


def _convolves(module: nn.Module) -> TypeGuard[nn.Conv1d | nn.Conv2d]:
    return any(
        isinstance(module, kind) and type(module).forward is kind.forward for kind in _CONVOLUTIONS
    )


def _tensor(module: str, key: str) -> str:
    return f"{module}.{key}" if module else key


def _refusal(name: str, reason: str) -> MappingInvalid:
    return MappingInvalid(
        f"The model cannot be mapped: {f'module {name!r}' if name else 'it'} {reason}.",
        "Use linear layers and convolutions with layers between that treat each unit or channel "
        "alike, or declare the model's groups as `mapping_groups`.",
    )
