"""What maps act on: torch tensors, through which gradients pass, and numpy arrays.

Models in a round are arrays, and small: there numpy's shorter way to a result is what a mapping
costs, and an auditor needs no torch.
"""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from sml.errors import MappingInvalid

if TYPE_CHECKING:
    from torch import Tensor

Values = TypeVar("Values", "Tensor", npt.NDArray[Any])


def is_floating(values: "Tensor | npt.NDArray[Any]") -> bool:
    """Whether the values are floating-point numbers."""
    if isinstance(values, np.ndarray):
        return np.issubdtype(values.dtype, np.floating)
    return values.is_floating_point()


def check_axis(values: "Tensor | npt.NDArray[Any]", axis: int, size: int) -> None:
    """Raise MappingInvalid unless there are `size` entries along `axis`."""
    if not -values.ndim <= axis < values.ndim or values.shape[axis] != size:
        raise MappingInvalid(
            f"Values of shape {tuple(values.shape)} have no {size} entries along axis {axis}.",
            "Map the very tensors that the mapping's groups were made for.",
        )
