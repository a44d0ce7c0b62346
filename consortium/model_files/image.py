"""A task's image, as it stands in the raster, made the model's inputs inside the ONNX graph.

The same rule as `consortium.tasks.image.Images.encode`, in double precision: each image by its own
mean and deviation, 0 where it is even, all within 3. An image that is not finite gives NaN.
"""

import numpy as np

from consortium.model_files.nodes import Nodes
from consortium.tasks.schema import CLAMP


def add_image(nodes: Nodes, value: str) -> str:
    """Adds the scaling of ``value``, grey values [n, 1, side, side], float32; inputs likewise."""
    from onnx import TensorProto

    places = nodes.constant([2, 3], np.int64)
    zero = nodes.constant(0.0, np.float64)
    grey = nodes.add("Cast", value, to=TensorProto.DOUBLE)
    centred = nodes.add("Sub", grey, nodes.add("ReduceMean", grey, places, keepdims=1))
    squared = nodes.add("ReduceMean", nodes.add("Mul", centred, centred), places, keepdims=1)
    deviation = nodes.add("Sqrt", squared)
    even = nodes.add("Equal", deviation, zero)
    one = nodes.constant(1.0, np.float64)
    scaled = nodes.add("Div", centred, nodes.add("Where", even, one, deviation))
    least, most = nodes.constant(-CLAMP, np.float64), nodes.constant(CLAMP, np.float64)
    return nodes.add("Cast", nodes.add("Clip", scaled, least, most), to=TensorProto.FLOAT)
