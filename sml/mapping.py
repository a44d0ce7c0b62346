"""The Secure Mapping Layer of Proof of Learning: y = Q x in front of the model.

Q is orthogonal, fixed for a round, and drawn from the institution's VRF output. The hospital
trains the mapped model W' = W Qᵀ on mapped inputs x' = Q x, so that W' x' = W x; whoever holds the
VRF proof derives Q and un-maps: W = W' Q. An update of another institution or another round
un-maps to garbage.

Rules that hold here:

- a mapping has one Q for each of the model's groups (`sml.groups`); which groups a model has is
  found by `groups_for` (`sml.model_groups`);
- of signed permutations map and un-map are inverse to the bit, signed zeros included (see
  `sml.permutation`), so every validator gets the same un-mapped model and the same hash. The
  forward pass of a mapped model sums in another order, so it agrees to rounding, not to the bit;
- a dense Q (`sml.orthogonal`) is inverse to rounding only. Since a hash follows wherever a round
  un-maps, `derive` refuses it unless it is told that none does;
- tensors outside every group (the last layer's bias) pass unchanged.

    >>> groups = groups_for(model)
    >>> mapping = SecureMapping.derive(vrf.verify(public, alpha(...), proof), groups)
    >>> model.load_state_dict(mapping.unmap_state(update))
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from sml.alpha import alpha
from sml.errors import MappingInvalid
from sml.groups import INPUT_GROUP, Axis, Kind, MappingGroup, OrthogonalMap, check_apart
from sml.orthogonal import DenseOrthogonal
from sml.permutation import SignedPermutation
from sml.values import Values

if TYPE_CHECKING:
    from torch import Tensor

    from sml.layer import SecureMappingLayer

__all__ = [
    "INPUT_GROUP",
    "Axis",
    "DenseOrthogonal",
    "Kind",
    "MappingGroup",
    "SecureMapping",
    "SignedPermutation",
    "alpha",
]


@dataclass(frozen=True, eq=False)
class SecureMapping:
    """The mapping of one institution in one round: an orthogonal map for each group.

    Args:
        groups: what is mapped.
        maps: Q of each group, by the group's name.
    """

    groups: tuple[MappingGroup, ...]
    maps: Mapping[str, OrthogonalMap] = field(repr=False)

    @classmethod
    def derive(
        cls, beta: bytes, groups: Iterable[MappingGroup], *, exact: bool = True
    ) -> "SecureMapping":
        """Draw the mapping from a VRF output.

        Args:
            beta: the VRF output over the round's alpha, 64 bytes.
            groups: what to map, usually `groups_for(model)`.
            exact: refuse groups that do not un-map to the bit. Say False only where nothing that is
                un-mapped is hashed, or compared with another machine's but by a tolerance.

        Raises:
            MappingInvalid: `beta` is not 64 bytes, there is no group, two groups share a name, an
                axis is in two groups or twice in one, or a group is dense and `exact` is asked for.
        """
        groups = tuple(groups)
        for group in groups:
            if exact and not group.exact:
                raise MappingInvalid(
                    f"The mapping group {group.name!r} is dense: what it un-maps may differ in the "
                    "last bit between machines, and its hash with it.",
                    "Use a signed permutation wherever a hash follows, as in a round.",
                )
        return _derived(beta, groups)

    def map_state(self, state: Mapping[str, Values]) -> dict[str, Values]:
        """The mapped model W' = W Qᵀ.

        Args:
            state: tensors by name, as of `state_dict`, or arrays; not changed.

        Returns:
            New tensors or arrays under the same names, in the same order, detached from any graph.

        Raises:
            MappingInvalid: a tensor of a group is missing, or its shape or dtype does not fit.
        """
        return self._act(state, self.maps)

    def unmap_state(self, state: Mapping[str, Values]) -> dict[str, Values]:
        """The model W = W' Q of a mapped one: the inverse of `map_state`.

        To the bit, but for dense groups.

        Raises:
            MappingInvalid: a tensor of a group is missing, or its shape or dtype does not fit.
        """
        return self._act(state, {name: q.inverse for name, q in self.maps.items()})

    def map_inputs(self, x: "Tensor") -> "Tensor":
        """The mapped inputs x' = Q x.

        Args:
            x: inputs of the model; Q acts along the input group's axis of them.

        Returns:
            A new tensor of the same shape; gradients pass through.

        Raises:
            MappingInvalid: no group is called "input", or shape or dtype does not fit.
        """
        group = self._input_group()
        return self.maps[group.name].apply(x, group.input_axis)

    def layer(self) -> "SecureMappingLayer":
        """The layer y = Q x that stands in front of the mapped model.

        Raises:
            MappingInvalid: no group is called "input".
        """
        from sml.layer import SecureMappingLayer

        group = self._input_group()
        return SecureMappingLayer(self.maps[group.name], group.input_axis)

    def _input_group(self) -> MappingGroup:
        for group in self.groups:
            if group.name == INPUT_GROUP:
                return group
        raise MappingInvalid(
            f'No mapping group is called "{INPUT_GROUP}".',
            "Add the group of the model's inputs, or do not map inputs.",
        )

    def _act(
        self, state: Mapping[str, Values], maps: Mapping[str, OrthogonalMap]
    ) -> dict[str, Values]:
        acted = {name: _copy(values) for name, values in state.items()}
        for group in self.groups:
            group.act(maps[group.name], acted)
        return acted


def _copy(values: Values) -> Values:
    return values.copy() if isinstance(values, np.ndarray) else values.detach().clone()


# A member derives each mapping of a round twice: for its verdict, and before it co-signs.
@lru_cache(maxsize=128)
def _derived(beta: bytes, groups: tuple[MappingGroup, ...]) -> SecureMapping:
    check_apart(groups)
    return SecureMapping(groups, MappingProxyType({g.name: g.draw(beta) for g in groups}))
