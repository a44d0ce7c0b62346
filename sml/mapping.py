"""The Secure Mapping Layer of Proof of Learning: y = Q x in front of the model.

Q is orthogonal, fixed for a round, and drawn from the institution's VRF output. The hospital
trains the mapped model W' = W Qᵀ on mapped inputs x' = Q x, so that W' x' = W x; whoever holds the
VRF proof derives Q and un-maps: W = W' Q. An update of another institution or another round
un-maps to garbage.

Rules that hold here:

- a mapping names groups: the coordinates of one space (the model's inputs, the units of one hidden
  layer) and every tensor axis that is indexed by them. Q acts on all axes of a group by the same
  rule, new[i] = sum over j of Q[i, j] old[j]; that is W Qᵀ on an input axis and Q W on an output
  axis, so an axis needs no direction;
- the input group is signed. A hidden group is an unsigned permutation: it commutes with every
  activation that treats each unit alike, a sign with almost none;
- map and un-map are inverse to the bit, signed zeros included (see `sml.permutation`), so every
  validator gets the same un-mapped model and the same hash. The forward pass of a mapped model
  sums in another order, so it agrees to rounding, not to the bit;
- tensors outside every group (the last layer's bias) pass unchanged.

Signed permutations are the only kind so far. A dense orthogonal kind (a product of Householder
reflections in float64, compared with a tolerance and never hashed) belongs in a module beside
`sml.permutation` with the same `draw`, `apply`, `inverse` and `matrix`; `MappingGroup` would name
the kind and `SecureMapping.derive` choose by it.

    >>> groups = groups_for(model)
    >>> mapping = SecureMapping.derive(vrf.verify(public, alpha(...), proof), groups)
    >>> model.load_state_dict(mapping.unmap_state(update))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor, nn

from sml.alpha import alpha
from sml.errors import MappingInvalid
from sml.permutation import GROUP_NAME, SignedPermutation

__all__ = [
    "INPUT_GROUP",
    "MappingGroup",
    "SecureMapping",
    "SecureMappingLayer",
    "SignedPermutation",
    "alpha",
    "groups_for",
]

INPUT_GROUP: Final = "input"

# Each unit alike: permuting units before or after gives the same. PReLU with a weight per unit,
# normalisation and attention are not of this kind.
_DROPOUT: Final[frozenset[type[nn.Module]]] = frozenset({nn.Identity, nn.Dropout})
_ELEMENTWISE: Final[frozenset[type[nn.Module]]] = _DROPOUT | {
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
_OUTPUT_ONLY: Final[frozenset[type[nn.Module]]] = frozenset({nn.Flatten, nn.LogSoftmax, nn.Softmax})


@dataclass(frozen=True)
class MappingGroup:
    """One space of coordinates and the tensor axes that are indexed by them.

    Args:
        name: letters, digits, dot, dash, underscore; it separates the groups' random draws.
        size: number of coordinates, at least 1.
        signed: whether Q may also flip signs.
        axes: pairs of a tensor's name in the state and an axis of it, counted from 0.

    Raises:
        MappingInvalid: one of these does not hold.
    """

    name: str
    size: int
    signed: bool
    axes: tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        if (
            GROUP_NAME.fullmatch(self.name) is None
            or self.size < 1
            or not self.axes
            or any(axis < 0 for _, axis in self.axes)
        ):
            raise MappingInvalid(
                f"The mapping group {self.name!r} of size {self.size} over {self.axes} is not "
                "well-formed.",
                "Give a plain name, a size of at least 1 and at least one axis, counted from 0.",
            )


@dataclass(frozen=True, eq=False)
class SecureMapping:
    """The mapping of one institution in one round: a signed permutation for each group.

    Args:
        groups: what is mapped.
        permutations: Q of each group, by the group's name.
    """

    groups: tuple[MappingGroup, ...]
    permutations: Mapping[str, SignedPermutation] = field(repr=False)

    @classmethod
    def derive(cls, beta: bytes, groups: Iterable[MappingGroup]) -> "SecureMapping":
        """Draw the mapping from a VRF output.

        Args:
            beta: the VRF output over the round's alpha, 64 bytes.
            groups: what to map, usually `groups_for(model)`.

        Raises:
            MappingInvalid: `beta` is not 64 bytes, there is no group, two groups share a name, or
                an axis is in two groups or twice in one.
        """
        groups = tuple(groups)
        names = [group.name for group in groups]
        axes = [axis for group in groups for axis in group.axes]
        if not groups or len(set(names)) < len(names) or len(set(axes)) < len(axes):
            raise MappingInvalid(
                "There are no mapping groups, or they share a name or a tensor axis.",
                "Name each group differently and put each tensor axis into one group at most.",
            )
        return cls(
            groups,
            {g.name: SignedPermutation.draw(beta, g.name, g.size, signed=g.signed) for g in groups},
        )

    def map_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The mapped model W' = W Qᵀ.

        Args:
            state: tensors by name, as of `state_dict`; not changed.

        Returns:
            New tensors under the same names, in the same order, detached from any graph.

        Raises:
            MappingInvalid: a tensor of a group is missing, or its shape or dtype does not fit.
        """
        return self._act(state, self.permutations)

    def unmap_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The model W = W' Q of a mapped one: the inverse of `map_state`, to the bit.

        Raises:
            MappingInvalid: a tensor of a group is missing, or its shape or dtype does not fit.
        """
        return self._act(state, {name: q.inverse for name, q in self.permutations.items()})

    def map_inputs(self, x: Tensor, axis: int = -1) -> Tensor:
        """The mapped inputs x' = Q x.

        Args:
            x: inputs with the model's features along `axis`.
            axis: the features' axis; the last one by default.

        Returns:
            A new tensor of the same shape; gradients pass through.

        Raises:
            MappingInvalid: no group is called "input", or shape or dtype does not fit.
        """
        return self._input().apply(x, axis)

    def layer(self) -> "SecureMappingLayer":
        """The layer y = Q x that stands in front of the mapped model.

        Raises:
            MappingInvalid: no group is called "input".
        """
        return SecureMappingLayer(self._input())

    def _input(self) -> SignedPermutation:
        if INPUT_GROUP not in self.permutations:
            raise MappingInvalid(
                f'No mapping group is called "{INPUT_GROUP}".',
                "Add the group of the model's inputs, or do not map inputs.",
            )
        return self.permutations[INPUT_GROUP]

    def _act(
        self, state: Mapping[str, Tensor], maps: Mapping[str, SignedPermutation]
    ) -> dict[str, Tensor]:
        acted = {name: tensor.detach().clone() for name, tensor in state.items()}
        for group in self.groups:
            for name, axis in group.axes:
                if name not in acted:
                    raise MappingInvalid(
                        f"The state has no tensor {name!r} of the mapping group {group.name!r}.",
                        "Pass the whole state of the model that the groups were made for.",
                    )
                acted[name] = maps[group.name].apply(acted[name], axis)
        return acted


class SecureMappingLayer(nn.Module):
    """The paper's layer y = Q x: fixed, not trained, and no part of the saved state.

    Args:
        permutation: Q.
    """

    def __init__(self, permutation: SignedPermutation) -> None:
        super().__init__()
        self.permutation = permutation

    @property
    def matrix(self) -> Tensor:
        """Q as a float64 tensor, shape (size, size)."""
        return torch.from_numpy(self.permutation.matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Q x along the last axis: shape (..., size) to the same."""
        return self.permutation.apply(x, -1)

    def extra_repr(self) -> str:
        """What `print` shows of the layer: its size, never Q."""
        return f"size={self.permutation.size}"


def groups_for(model: nn.Module) -> tuple[MappingGroup, ...]:
    """The mapping groups of a multilayer perceptron.

    The first group, "input", is signed and acts on the input axis of the first layer's weight. For
    each further layer there is an unsigned group, called "hidden." and its place from 1, that acts
    on the output axis and the bias of the layer before and on the input axis of this one. Outputs
    are never mapped.

    Args:
        model: an `nn.Linear`, or an `nn.Sequential` (nested or not) of `nn.Linear` and activations
            that treat each unit alike. Dropout may come first; softmax and flattening last.

    Raises:
        MappingInvalid: anything else, with the module's name; write the groups by hand for it.
    """
    layers = _linear_layers(model)
    groups = [MappingGroup(INPUT_GROUP, layers[0][1].in_features, True, ((layers[0][0], 1),))]
    for place, ((before, lower), (after, upper)) in enumerate(pairwise(layers), start=1):
        if lower.out_features != upper.in_features:
            name = after.removesuffix(".weight")
            raise _unmappable(name, f"takes {upper.in_features} units, not {lower.out_features}")
        axes = [(before, 0), (after, 1)]
        if lower.bias is not None:
            axes.insert(1, (before.removesuffix("weight") + "bias", 0))
        groups.append(MappingGroup(f"hidden.{place}", lower.out_features, False, tuple(axes)))
    return tuple(groups)


def _linear_layers(model: nn.Module) -> list[tuple[str, nn.Linear]]:
    """The linear layers in the order of the forward pass, each with its weight's name."""
    layers: list[tuple[str, nn.Linear]] = []
    closed_by: str | None = None
    for name, module in model.named_modules(remove_duplicate=False):
        if type(module).forward is nn.Sequential.forward:
            continue
        if type(module).forward is nn.Linear.forward and isinstance(module, nn.Linear):
            if closed_by is not None:
                raise _unmappable(closed_by, "stands before a linear layer and mixes units")
            if {key for key, _ in module.named_parameters()} - {"weight", "bias"}:
                raise _unmappable(name, "has a re-parametrised weight")
            layers.append((f"{name}.weight" if name else "weight", module))
        elif type(module) in _OUTPUT_ONLY and layers:
            closed_by = name
        elif type(module) not in (_ELEMENTWISE if layers else _DROPOUT):
            raise _unmappable(name, f"is a {type(module).__name__}")
    if not layers:
        raise _unmappable("", "has no linear layer")
    parameters = [id(p) for _, p in model.named_parameters(remove_duplicate=False)]
    if len(set(parameters)) < len(parameters):
        raise _unmappable("", "shares a parameter between layers")
    return layers


def _unmappable(name: str, reason: str) -> MappingInvalid:
    return MappingInvalid(
        f"The model cannot be mapped: {f'module {name!r}' if name else 'it'} {reason}.",
        "Use linear layers with activations on each unit alone, or write its groups by hand.",
    )
