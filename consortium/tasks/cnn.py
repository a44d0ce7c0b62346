"""Models of images: two convolutions, each with group normalisation, and a logit.

    convolution 3 x 3 -> group norm -> ReLU -> means of 2 x 2 -> convolution 3 x 3 -> group norm
    -> tanh -> mean over the image -> linear

Group normalisation of one group takes an image's mean and deviation over all channels, and nothing
of other patients: batch normalisation would mix them, and differential privacy forbids that.

Few noisy steps go further from a good start, and a start that depends on no patient costs no
privacy. The first filters are line detectors in four directions, of bright and of dark lines: the
second derivative of a Gaussian along one axis, as in any textbook of image processing. The first
normalisation starts with bias -threshold: a unit answers where the response stands out from its
image by so many deviations. The last activation is a tanh, whose mean over a normalised image is
near zero: what all images have in common would fill most of every clipped gradient. All of it is
trained further.
"""

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from consortium.tasks.network import at_zero

if TYPE_CHECKING:  # a second that whoever only looks at a table does without
    from torch import Tensor, nn

_DIRECTIONS: Final = 4
_FILTER: Final = 3
_WIDTH: Final = 1.0
"""Deviation, in pixels, of the Gaussian window of a filter."""


@dataclass(frozen=True)
class Cnn:
    """The network above for images of one channel.

    channels: of the second convolution; the first has eight, one for each filter. threshold: in
    deviations, where the first layer's units begin to answer.
    """

    channels: int = 8
    threshold: Decimal = Decimal("1.5")

    def build(self, shape: tuple[int, ...], seed: int) -> "nn.Module":
        """An untrained model: x [n, 1, side, side] -> logits [n, 1], float32.

        The last layer starts at zero, so every start predicts one half; the second convolution
        starts at random, by the seed.
        """
        import torch
        from torch import nn

        channels, _, _ = shape
        filters = _line_filters()
        first = nn.Conv2d(channels, len(filters), _FILTER, padding=_FILTER // 2, bias=False)
        second = nn.Conv2d(len(filters), self.channels, 3, padding=1, bias=False)
        answers, norm = nn.GroupNorm(1, len(filters)), nn.GroupNorm(1, self.channels)
        with torch.no_grad():
            first.weight.copy_(filters)
            nn.init.constant_(answers.bias, -float(self.threshold))
            generator = torch.Generator().manual_seed(seed)
            fan_in = second.weight[0].numel()
            nn.init.normal_(second.weight, std=1 / math.sqrt(fan_in), generator=generator)
        return nn.Sequential(
            first, answers, nn.ReLU(), nn.AvgPool2d(2),
            second, norm, nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            at_zero(nn.Linear(self.channels, 1)),
        )  # fmt: skip

    def to_record(self) -> dict[str, object]:
        """The model for a fingerprint."""
        return {
            "convolutions": [2 * _DIRECTIONS, self.channels],
            "filters": "lines",
            "threshold": str(self.threshold),
        }


def _line_filters() -> "Tensor":
    """Filters of zero mean and length 1, shape [8, 1, 3, 3]: bright lines, then dark ones."""
    import torch

    axis = torch.arange(_FILTER, dtype=torch.float64) - _FILTER // 2
    down, right = torch.meshgrid(axis, axis, indexing="ij")
    window = torch.exp(-(down**2 + right**2) / (2 * _WIDTH**2))
    lines = []
    for direction in range(_DIRECTIONS):
        angle = math.pi * direction / _DIRECTIONS
        across = right * math.cos(angle) + down * math.sin(angle)
        line = (1 - across**2) * window
        line -= line.mean()
        lines.append(line / line.norm())
    bright = torch.stack(lines)
    return torch.cat([bright, -bright])[:, None].float()
