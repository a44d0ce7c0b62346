"""Models that the mapping is tried on: linear, perceptrons, convolutional networks."""

import copy
from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    layers: list[nn.Module] = []
    for below, above in pairwise(widths):
        layers += [nn.Linear(below, above), activation()]
    return nn.Sequential(*layers[:-1])


def pictures_network(channels: int = 3) -> nn.Sequential:
    """For pictures [n, channels, 8, 8]: all kinds of layers that such a network may have."""
    return nn.Sequential(
        nn.Conv2d(channels, 6, 3, padding=1, stride=2), nn.GroupNorm(6, 6), nn.Tanh(),
        nn.AvgPool2d(2),
        nn.Sequential(nn.Conv2d(6, 5, 2, dilation=1, bias=False), nn.GroupNorm(1, 5), nn.SiLU()),
        nn.Flatten(), nn.LayerNorm(5), nn.Linear(5, 4), nn.LayerNorm(4), nn.Tanh(), nn.Linear(4, 1),
    )  # fmt: skip


def signals_network() -> nn.Sequential:
    """For signals [n, 2, 12]; the linear layer meets blocks of four places."""
    return nn.Sequential(
        nn.Conv1d(2, 5, 3, padding=1, padding_mode="circular"), nn.LayerNorm([5, 12]), nn.ReLU(),
        nn.MaxPool1d(3), nn.LayerNorm(4), nn.Flatten(), nn.Linear(20, 3),
    )  # fmt: skip


MODELS = ("linear", "perceptron", "pictures", "signals")


def model_and_inputs(kind: str, patients: int = 5) -> tuple[nn.Module, Tensor]:
    """A model with random weights, normalisation's too, and inputs for it; torch's own seed."""
    model, shape = {
        "linear": lambda: (nn.Linear(7, 1), (7,)),
        "perceptron": lambda: (perceptron(7, 6, 5, 1, activation=nn.Tanh), (7,)),
        "pictures": lambda: (pictures_network(), (3, 8, 8)),
        "signals": lambda: (signals_network(), (2, 12)),
    }[kind]()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim != 2:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model, torch.randn(patients, *shape)


def with_state(model: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.load_state_dict(state)
    return twin


def same_bits(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """The same names in the same order, dtypes, shapes and bytes."""
    return list(one) == list(other) and all(
        one[k].dtype == other[k].dtype
        and one[k].shape == other[k].shape
        and torch.equal(_bytes(one[k]), _bytes(other[k]))
        for k in one
    )


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().flatten().view(torch.uint8)
