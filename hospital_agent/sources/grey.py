"""Pixels as one channel of grey values, brighter for more."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from hospital_agent.errors import ImageUnreadable

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PNG and JPEG mean their RGB


@runtime_checkable
class HoldsImages(Protocol):
    """A source whose rows are patients' images."""

    def images(self) -> "Iterator[NDArray[np.float64]]":
        """The image of each row of `Source.chunks`, in their order: grey values [rows, columns].

        Raises:
            AgentError, PrivacyError: if one cannot be read, or may show who the patient is.
        """
        ...


def grey(pixels: "NDArray[np.generic]", meaning: str) -> "NDArray[np.float64]":
    """Grey values [rows, columns] of pixels [rows, columns[, samples]].

    ``meaning``: as DICOM's photometric interpretation says it.

    Raises:
        ImageUnreadable: for several frames, or colours that are not known here.
    """
    values = pixels.astype(np.float64)
    if meaning in ("MONOCHROME1", "MONOCHROME2") and values.ndim == 2:
        return -values if meaning == "MONOCHROME1" else values
    if values.ndim == 3 and values.shape[2] == 3:
        if meaning == "RGB":
            return np.asarray(values @ np.array(_LUMINANCE))
        if meaning.startswith("YBR_FULL"):
            return np.asarray(values[:, :, 0])
    raise ImageUnreadable(
        "it is no single grey or colour image",
        "export one frame of each patient, grey or RGB, without a palette",
    )
