"""A model's weights: arrays by name, as bytes (safetensors), as one vector, in and out of torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from consortium.errors import RoundInvalid
from ledger.content import Weights

if TYPE_CHECKING:  # what only reads a ledger does without
    from torch import Tensor, nn


def to_bytes(weights: Weights, metadata: Mapping[str, str] | None = None) -> bytes:
    """The weights as a safetensors file, with ``metadata`` in its header."""
    arrays = {name: np.array(weights[name], order="C") for name in sorted(weights)}
    return save(arrays, dict(metadata) if metadata else None)


def from_bytes(data: bytes) -> dict[str, NDArray[np.float32]]:
    """The weights in a safetensors file.

    Raises:
        RoundInvalid: if ``data`` is not such a file.
    """
    try:
        return dict(load(data))
    except (SafetensorError, ValueError, KeyError, OverflowError, MemoryError):
        raise RoundInvalid(
            "bytes are not a safetensors file", "send the weights as safetensors"
        ) from None


def vector(weights: Weights) -> NDArray[np.float64]:
    """All weights in the order of their names, as one float64 vector."""
    return np.concatenate([weights[name].astype(np.float64).ravel() for name in sorted(weights)])


def stack(models: Sequence[Weights]) -> dict[str, NDArray[np.float32]]:
    """Models of one form as one, each array with a leading axis."""
    return {name: np.stack([model[name] for model in models]) for name in models[0]}


def of_vector(vector: NDArray[np.float64], like: Weights) -> dict[str, NDArray[np.float32]]:
    """The weights that `vector` makes this vector of, in the shapes of ``like``."""
    names = sorted(like)
    parts = np.split(vector, np.cumsum([like[name].size for name in names])[:-1])
    return {
        name: part.reshape(like[name].shape).astype(np.float32)
        for name, part in zip(names, parts, strict=True)
    }


def of_module(module: "nn.Module") -> dict[str, NDArray[np.float32]]:
    """A copy of a module's parameters and buffers."""
    return from_torch(module.state_dict())


def from_torch(state: "Mapping[str, Tensor]") -> dict[str, NDArray[np.float32]]:
    """Arrays of a torch state, copied."""
    return {name: tensor.detach().cpu().numpy().copy() for name, tensor in state.items()}


def to_torch(weights: Weights) -> "dict[str, Tensor]":
    """A torch state of the arrays, copied."""
    import torch

    return {name: torch.from_numpy(array.copy()) for name, array in weights.items()}


def predictions(module: "nn.Module", models: Weights, inputs: "Tensor") -> NDArray[np.float64]:
    """Logits [m, n] on inputs [n, ...] of m models of the module's form (`stack`)."""
    import torch

    def logits(state: "dict[str, Tensor]") -> "Tensor":
        predicted: Tensor = torch.func.functional_call(module, state, (inputs,))
        return predicted.squeeze(1)

    with torch.no_grad():
        stacked: Tensor = torch.func.vmap(logits)(to_torch(models))
    return stacked.numpy().astype(np.float64)
