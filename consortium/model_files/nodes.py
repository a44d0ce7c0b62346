"""The nodes of an ONNX graph, one after another, as they are put together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # what only reads safetensors does without
    from onnx import NodeProto


class Nodes:
    """Nodes in order. A value's name begins with a slash, so it is never a weight's name."""

    def __init__(self) -> None:
        self.all: list[NodeProto] = []

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Adds one node; returns its output's name, which is ``output`` if given."""
        from onnx import helper

        output = output or f"/{len(self.all)}"
        self.all.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def constant(self, values: Sequence[Any] | float, dtype: type[np.generic]) -> str:
        """Adds a constant; returns its name."""
        from onnx import numpy_helper

        array: NDArray[Any] = np.array(values, dtype=dtype)
        return self.add("Constant", value=numpy_helper.from_array(array))
