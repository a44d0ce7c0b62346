"""A mapping group: one space of coordinates, and every tensor axis that is indexed by them.

Rules that hold here:

- Q acts on all axes of a group by the same rule, new[i] = sum over j of Q[i, j] old[j]; that is
  W Qᵀ on an input axis and Q W on an output axis, so an axis needs no direction;
- where channels were flattened with the places of an image, each coordinate is a block of as many
  entries as there are places, and Q moves whole blocks;
- the group "input" is that of the model's inputs. It knows which axis of them it maps.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from sml.errors import MappingInvalid
from sml.orthogonal import DenseOrthogonal
from sml.permutation import SignedPermutation
from sml.stream import GROUP_NAME
from sml.values import Values, check_axis

INPUT_GROUP: Final = "input"

OrthogonalMap = SignedPermutation | DenseOrthogonal


class Kind(StrEnum):
    """What Q of a group may be.

    `PERMUTATION` commutes with every activation that treats each unit alike, so it is what hidden
    groups are. `SIGNED` flips signs too, which almost no activation allows: for inputs. Both are
    exact to the bit. `DENSE` is any orthogonal matrix, exact to rounding only, so nothing that was
    mapped with it may be hashed: no round uses it (`sml.orthogonal`).
    """

    PERMUTATION = "permutation"
    SIGNED = "signed"
    DENSE = "dense"


class Axis(NamedTuple):
    """An axis of a tensor of the state, counted from 0, in blocks of `block` entries each."""

    tensor: str
    axis: int
    block: int = 1


@dataclass(frozen=True)
class MappingGroup:
    """One space of coordinates and the tensor axes that are indexed by them.

    Args:
        name: letters, digits, dot, dash, underscore; it separates the groups' random draws.
        size: number of coordinates, at least 1.
        kind: what Q may be.
        axes: where Q acts on the model's state.
        input_axis: of the group "input", the axis of the model's inputs that it maps: the last one
            of tables, the channels of images. Counted from the back.

    Raises:
        MappingInvalid: one of these does not hold.
    """

    name: str
    size: int
    kind: Kind
    axes: tuple[Axis, ...]
    input_axis: int = -1

    def __post_init__(self) -> None:
        if (
            GROUP_NAME.fullmatch(self.name) is None
            or self.size < 1
            or not self.axes
            or any(axis < 0 or block < 1 for _, axis, block in self.axes)
            or self.input_axis > -1
        ):
            raise MappingInvalid(
                f"The mapping group {self.name!r} of size {self.size} over {self.axes} is not "
                "well-formed.",
                "Give a plain name, a size of at least 1, at least one axis, counted from 0, with "
                "blocks of at least 1, and the axis of the inputs counted from the back.",
            )

    @property
    def exact(self) -> bool:
        """Whether mapping and un-mapping are inverse to the bit."""
        return self.kind is not Kind.DENSE

    def draw(self, beta: bytes) -> OrthogonalMap:
        """Q from a VRF output of 64 bytes. Raises MappingInvalid."""
        if self.kind is Kind.DENSE:
            return DenseOrthogonal.draw(beta, self.name, self.size)
        signed = self.kind is Kind.SIGNED
        return SignedPermutation.draw(beta, self.name, self.size, signed=signed)

    def act(self, q: OrthogonalMap, state: dict[str, Values]) -> None:
        """Put the mapped tensors into `state` in place of those of this group.

        Raises:
            MappingInvalid: a tensor is missing, or its shape or dtype does not fit.
        """
        for name, axis, block in self.axes:
            if name not in state:
                raise MappingInvalid(
                    f"The state has no tensor {name!r} of the mapping group {self.name!r}.",
                    "Pass the whole state of the model that the groups were made for.",
                )
            values = state[name]
            if block == 1:
                state[name] = q.apply(values, axis)
                continue
            check_axis(values, axis, self.size * block)
            shape = tuple(values.shape)
            blocks = values.reshape(_in_blocks(shape, axis, block))
            state[name] = q.apply(blocks, axis).reshape(shape)


def _in_blocks(shape: tuple[int, ...], axis: int, block: int) -> tuple[int, ...]:
    return *shape[:axis], shape[axis] // block, block, *shape[axis + 1 :]


def check_apart(groups: Iterable[MappingGroup]) -> tuple[MappingGroup, ...]:
    """The groups, none in the way of another.

    Raises:
        MappingInvalid: there is no group, two groups share a name, or an axis is in two groups or
            twice in one.
    """
    groups = tuple(groups)
    names = [group.name for group in groups]
    axes = [axis[:2] for group in groups for axis in group.axes]
    if not groups or len(set(names)) < len(names) or len(set(axes)) < len(axes):
        raise MappingInvalid(
            "There are no mapping groups, or they share a name or a tensor axis.",
            "Name each group differently and put each tensor axis into one group at most.",
        )
    return groups
