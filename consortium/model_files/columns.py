"""A task's columns, as they stand in a table, made the model's inputs inside the ONNX graph.

The same rules as `Task.encode`, in double precision: centre and scale, 0 for what is missing (NaN),
0/1 columns for levels, the common level taken away, all within 3. Where `Task.encode` refuses a
table (a value outside what is possible, a code that is none), that patient's logit and probability
are NaN: a wrong unit gives no number rather than a wrong one.
"""

from collections.abc import Sequence
from decimal import Decimal

import numpy as np

from consortium.model_files.nodes import Nodes
from consortium.tasks.schema import CLAMP, Feature


def add_columns(
    nodes: Nodes, features: Sequence[Feature], common_share: Decimal, value: str
) -> tuple[str, str]:
    """Adds the encoding of ``value``, columns [n, len(features)], float64.

    Returns the names of the inputs, [n, width], float32, and of whose values are impossible, [n],
    bool.
    """
    encoded, wrong = [], []
    for place, feature in enumerate(features):
        column = nodes.add("Gather", value, nodes.constant([place], np.int64), axis=1)
        add = _add_levels if feature.levels else _add_number
        inputs, impossible = add(nodes, feature, column)
        encoded.append(inputs)
        wrong.append(impossible)
    inputs = nodes.add("Concat", *encoded, axis=1)
    if common_share:
        axis = nodes.constant([1], np.int64)
        level = nodes.add("ReduceMean", inputs, axis, keepdims=1)
        share = nodes.constant(float(common_share), np.float64)
        inputs = _clamped(nodes, nodes.add("Sub", inputs, nodes.add("Mul", level, share)))
    return _cast(nodes, inputs, np.float32), _any(nodes, nodes.add("Concat", *wrong, axis=1))


def _add_number(nodes: Nodes, feature: Feature, column: str) -> tuple[str, str]:
    def number(value: Decimal | int) -> str:
        return nodes.constant(float(value), np.float64)

    impossible = nodes.add(
        "Or", nodes.add("Less", column, number(feature.low)),
        nodes.add("Greater", column, number(feature.high)),
    )  # fmt: skip
    centred = nodes.add("Sub", column, number(feature.centre))
    scaled = nodes.add("Div", centred, number(feature.scale))
    present = nodes.add("Where", nodes.add("IsNaN", column), number(0), scaled)
    return _clamped(nodes, present), impossible


def _add_levels(nodes: Nodes, feature: Feature, column: str) -> tuple[str, str]:
    def matches(levels: Sequence[int]) -> str:
        return nodes.add("Equal", column, nodes.constant([levels], np.float64))

    known = nodes.add(
        "Or", nodes.add("IsNaN", column), _any(nodes, matches(feature.levels), keepdims=1)
    )
    return _cast(nodes, matches(feature.levels[1:]), np.float64), nodes.add("Not", known)


def _any(nodes: Nodes, value: str, keepdims: int = 0) -> str:
    """Whether any of a row is true: [n, k] -> [n], or [n, 1]."""
    number = _cast(nodes, value, np.float32)
    most = nodes.add("ReduceMax", number, nodes.constant([1], np.int64), keepdims=keepdims)
    return nodes.add("Greater", most, nodes.constant(0.5, np.float32))


def _clamped(nodes: Nodes, value: str) -> str:
    return nodes.add(
        "Clip", value, nodes.constant(-CLAMP, np.float64), nodes.constant(CLAMP, np.float64)
    )


def _cast(nodes: Nodes, value: str, dtype: type[np.generic]) -> str:
    from onnx import helper

    return nodes.add("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
