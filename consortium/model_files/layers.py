"""A torch model as nodes of an ONNX graph: a chain of layers, each by its own rule.

`torch.onnx.export` is not used: what it writes depends on the versions of three packages, so a
verifier could not write the same again and compare. Here every layer is one operator of the ONNX
standard, or two, its weights are inputs under their torch names, and a layer without a rule is
refused. Layers act as in evaluation: dropout does nothing.
"""

from collections.abc import Callable
from typing import Any, Final

from torch import nn

from consortium.errors import ModelUnexportable
from consortium.model_files.nodes import Nodes

Rule = Callable[[Nodes, str, str, Any], str]
"""(nodes so far, the value that comes in, prefix of the layer's weights, layer) -> what goes out"""


def input_shape(module: nn.Module) -> list[int | str]:
    """The shape of the model's inputs; what no layer fixes has a name."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return ["patients", layer.in_features]
        if isinstance(layer, nn.Conv1d):
            return ["patients", layer.in_channels, "length"]
        if isinstance(layer, nn.Conv2d):
            return ["patients", layer.in_channels, "height", "width"]
    raise _refusal("", "has no linear layer and no convolution")


def add_layers(nodes: Nodes, module: nn.Module, value: str) -> str:
    """Adds a model's layers on ``value`` [n, ...]; returns the name of its logits [n, 1].

    Raises:
        ModelUnexportable: naming the first layer without a rule.
    """
    for name, layer in module.named_modules(remove_duplicate=False):
        if type(layer) is nn.Sequential:
            continue
        rule = _RULES.get(type(layer))
        if rule is None:
            raise _refusal(name, f"is a {type(layer).__name__}, for which there is no rule")
        value = rule(nodes, value, f"{name}." if name else "", layer)
    return value


def _linear(nodes: Nodes, value: str, prefix: str, layer: nn.Linear) -> str:
    return nodes.add("Gemm", value, *_weights(prefix, layer), transB=1)


def _convolution(nodes: Nodes, value: str, prefix: str, layer: nn.Conv1d | nn.Conv2d) -> str:
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
        raise _refusal(prefix, "pads otherwise than with a number of zeros")
    return nodes.add(
        "Conv", value, *_weights(prefix, layer),
        kernel_shape=list(layer.kernel_size), strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding], dilations=list(layer.dilation), group=layer.groups,
    )  # fmt: skip


def _group_norm(nodes: Nodes, value: str, prefix: str, layer: nn.GroupNorm) -> str:
    return nodes.add(
        "GroupNormalization", value, *_scales(prefix, layer), num_groups=layer.num_groups,
        epsilon=layer.eps,
    )  # fmt: skip


def _layer_norm(nodes: Nodes, value: str, prefix: str, layer: nn.LayerNorm) -> str:
    axis = -len(layer.normalized_shape)
    return nodes.add(
        "LayerNormalization", value, *_scales(prefix, layer), axis=axis, epsilon=layer.eps
    )


def _flatten(nodes: Nodes, value: str, prefix: str, layer: nn.Flatten) -> str:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise _refusal(prefix, "flattens other axes than all but the patients'")
    return nodes.add("Flatten", value, axis=1)


def _pool(op: str, axes: int) -> Rule:
    def rule(nodes: Nodes, value: str, prefix: str, layer: Any) -> str:
        options = {
            name: _each(getattr(layer, name), axes) for name in ("kernel_size", "stride", "padding")
        }
        more: dict[str, Any] = {}
        if op == "MaxPool":
            if layer.return_indices:
                raise _refusal(prefix, "returns indices too")
            more = {"dilations": _each(layer.dilation, axes), "ceil_mode": int(layer.ceil_mode)}
        elif layer.ceil_mode or getattr(layer, "divisor_override", None) is not None:
            # Standard and runtimes disagree on how many places the last window then counts.
            raise _refusal(prefix, "rounds up, or divides by a number of its own")
        else:
            more = {"count_include_pad": int(layer.count_include_pad)}
        return nodes.add(
            op, value, kernel_shape=options["kernel_size"], strides=options["stride"],
            pads=options["padding"] * 2, **more,
        )  # fmt: skip

    return rule


def _global(op: str) -> Rule:
    def rule(nodes: Nodes, value: str, prefix: str, layer: Any) -> str:
        size = layer.output_size
        if {*(size if isinstance(size, tuple | list) else [size])} != {1}:
            raise _refusal(prefix, "pools to another size than 1, which depends on the inputs'")
        if getattr(layer, "return_indices", False):
            raise _refusal(prefix, "returns indices too")
        return nodes.add(op, value)

    return rule


def _elementwise(op: str, **attributes: str) -> Rule:
    def rule(nodes: Nodes, value: str, prefix: str, layer: Any) -> str:
        given = {name: getattr(layer, own) for name, own in attributes.items()}
        return nodes.add(op, value, **given)

    return rule


def _silu(nodes: Nodes, value: str, prefix: str, layer: nn.SiLU) -> str:
    return nodes.add("Mul", value, nodes.add("Sigmoid", value))


def _nothing(nodes: Nodes, value: str, prefix: str, layer: nn.Module) -> str:
    return value


def _weights(prefix: str, layer: nn.Linear | nn.Conv1d | nn.Conv2d) -> list[str]:
    return [f"{prefix}weight"] + ([f"{prefix}bias"] if layer.bias is not None else [])


def _scales(prefix: str, layer: nn.GroupNorm | nn.LayerNorm) -> list[str]:
    names = [name for name, _ in layer.named_parameters()]
    if names != ["weight", "bias"]:
        raise _refusal(prefix, "normalises without a scale and a bias")
    return [f"{prefix}{name}" for name in names]


def _each(number: int | tuple[int, ...], axes: int) -> list[int]:
    return [number] * axes if isinstance(number, int) else list(number)


def _refusal(name: str, reason: str) -> ModelUnexportable:
    place = name.removesuffix(".")
    return ModelUnexportable(
        f"the model cannot be written as ONNX: {f'layer {place!r}' if place else 'it'} {reason}",
        "export it as safetensors, or add the layer's rule to consortium/model_files/layers.py",
    )


_RULES: Final[dict[type[nn.Module], Rule]] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.GroupNorm: _group_norm,
    nn.LayerNorm: _layer_norm,
    nn.Flatten: _flatten,
    nn.MaxPool1d: _pool("MaxPool", 1),
    nn.MaxPool2d: _pool("MaxPool", 2),
    nn.AvgPool1d: _pool("AveragePool", 1),
    nn.AvgPool2d: _pool("AveragePool", 2),
    nn.AdaptiveAvgPool1d: _global("GlobalAveragePool"),
    nn.AdaptiveAvgPool2d: _global("GlobalAveragePool"),
    nn.AdaptiveMaxPool1d: _global("GlobalMaxPool"),
    nn.AdaptiveMaxPool2d: _global("GlobalMaxPool"),
    nn.ELU: _elementwise("Elu", alpha="alpha"),
    nn.GELU: _elementwise("Gelu", approximate="approximate"),
    nn.LeakyReLU: _elementwise("LeakyRelu", alpha="negative_slope"),
    nn.ReLU: _elementwise("Relu"),
    nn.SiLU: _silu,
    nn.Sigmoid: _elementwise("Sigmoid"),
    nn.Tanh: _elementwise("Tanh"),
    nn.Identity: _nothing,
    nn.Dropout: _nothing,
    nn.Dropout1d: _nothing,
    nn.Dropout2d: _nothing,
}
