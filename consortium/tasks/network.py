"""Models of tables: logistic regression, and multilayer perceptrons."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a second that whoever only looks at a table does without
    from torch import nn


@dataclass(frozen=True)
class Mlp:
    """Linear layers with tanh between them; ``hidden`` are its widths, none: logistic regression.

    The last layer starts at zero, so every start predicts one half; the seed matters only with
    hidden layers.
    """

    hidden: tuple[int, ...] = ()

    def build(self, shape: tuple[int, ...], seed: int) -> "nn.Module":
        """An untrained model: x [n, d] -> logits [n, 1], float32; ``shape`` is (d,)."""
        import torch
        from torch import nn

        (inputs,) = shape
        if not self.hidden:
            return at_zero(nn.Linear(inputs, 1))
        generator = torch.Generator().manual_seed(seed)
        layers: list[nn.Module] = []
        for outputs in self.hidden:
            layer = nn.Linear(inputs, outputs)
            nn.init.normal_(layer.weight, std=1 / math.sqrt(inputs), generator=generator)
            nn.init.zeros_(layer.bias)
            layers += [layer, nn.Tanh()]
            inputs = outputs
        return nn.Sequential(*layers, at_zero(nn.Linear(inputs, 1)))

    def to_record(self) -> dict[str, object]:
        """The model for a fingerprint."""
        return {"hidden": list(self.hidden)}


def at_zero(layer: "nn.Linear") -> "nn.Linear":
    """The layer with all weights zero: where a model starts that is to predict one half."""
    from torch import nn

    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
