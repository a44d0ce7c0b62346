"""In which forms a model is written."""

from enum import StrEnum


class FileFormat(StrEnum):
    """What a model is written as."""

    SAFETENSORS = "safetensors"
    ONNX = "onnx"


class Inputs(StrEnum):
    """What an ONNX model takes: columns or an image as they are, or inputs that are encoded."""

    COLUMNS = "columns"
    IMAGE = "image"
    ENCODED = "inputs"
