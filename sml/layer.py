"""The paper's layer y = Q x, to stand in front of a mapped model and to be looked at."""

import torch
from torch import Tensor, nn

from sml.groups import OrthogonalMap


class SecureMappingLayer(nn.Module):
    """The layer y = Q x: fixed, not trained, and no part of the saved state.

    Args:
        q: Q.
        axis: the axis of the inputs that Q acts on: the last one of tables, the channels of images
            (-2 of signals, -3 of pictures).
    """

    def __init__(self, q: OrthogonalMap, axis: int = -1) -> None:
        super().__init__()
        self.q, self.axis = q, axis

    @property
    def matrix(self) -> Tensor:
        """Q as a float64 tensor, shape (size, size)."""
        return torch.tensor(self.q.matrix)

    def forward(self, x: Tensor) -> Tensor:
        """Q x along the layer's axis: a tensor of x's shape, dtype and device."""
        return self.q.apply(x, self.axis)

    def extra_repr(self) -> str:
        """What `print` shows of the layer: its size and axis, never Q."""
        return f"size={self.q.size}, axis={self.axis}"
