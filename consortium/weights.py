"""A model's weights: arrays by name, as bytes (safetensors), as one vector, in and out of torch."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from consortium.errors import RoundInvalid
from ledger.content import Weights

_VALUES_AT_ONCE: Final = 4_000_000

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
    """Logits [m, n] on inputs [n, ...] of m models of the module's form (`stack`).

    In parts, so that no layer's output holds over 16 MB, however many models and patients.
    """
    import torch

    module.eval()
    state = to_torch(models)
    count, patients = len(next(iter(state.values()))), len(inputs)
    widest = _widest(module, inputs)
    at_once = max(1, min(patients, _VALUES_AT_ONCE // widest))
    together = max(1, _VALUES_AT_ONCE // (widest * at_once))

    def logits(state: "dict[str, Tensor]", some: "Tensor") -> "Tensor":
        predicted: Tensor = torch.func.functional_call(module, state, (some,))
        return predicted.squeeze(1)

    found = np.empty((count, patients))
    with torch.no_grad():
        for first in range(0, count, together):
            part = {name: tensor[first : first + together] for name, tensor in state.items()}
            for start in range(0, patients, at_once):
                some = inputs[start : start + at_once]
                of_part: Tensor = torch.func.vmap(logits, in_dims=(0, None))(part, some)
                found[first : first + together, start : start + at_once] = of_part.numpy()
    return found


def _widest(module: "nn.Module", inputs: "Tensor") -> int:
    """The most values that a layer gives for one patient."""
    if inputs.ndim == 2:  # a table: no layer gives more than it has rows of weights
        return max(inputs.shape[1], *(len(p) for p in module.parameters()))
    import torch

    sizes = [inputs[0].numel()]
    hooks = [
        layer.register_forward_hook(lambda _, __, output: sizes.append(output[0].numel()))
        for layer in module.modules()
    ]
    with torch.no_grad():
        module(inputs[:1])
    for hook in hooks:
        hook.remove()
    return max(sizes)
