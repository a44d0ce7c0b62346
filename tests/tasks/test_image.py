"""Images as inputs: the raster's places are means of what they cover; each is scaled by itself."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from consortium.tasks.errors import DataInvalid
from consortium.tasks.image import IMAGE, Images, raster


def test_a_raster_is_means_of_areas() -> None:
    pixels = np.arange(36, dtype=np.uint16).reshape(6, 6)
    assert np.allclose(raster(pixels, 3), pixels.reshape(3, 2, 3, 2).mean(axis=(1, 3)))
    assert np.allclose(raster(pixels, 6), pixels)


@given(st.integers(4, 9), st.integers(10, 40), st.integers(10, 40))
def test_a_raster_keeps_the_mean_of_the_middle_square(side: int, rows: int, columns: int) -> None:
    pixels = np.random.RandomState(rows).rand(rows, columns)
    square = min(rows, columns)
    top, left = (rows - square) // 2, (columns - square) // 2
    middle = pixels[top : top + square, left : left + square]
    assert np.isclose(raster(pixels, side).mean(), middle.mean(), rtol=1e-5)


def test_less_than_a_raster_is_refused() -> None:
    with pytest.raises(DataInvalid, match="smaller"):
        raster(np.zeros((7, 30)), 8)


def table(*images: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({IMAGE: list(images), "lesion": [0] * len(images)})


def test_gain_and_offset_of_a_scanner_do_not_show() -> None:
    one = np.random.RandomState(0).rand(8, 8).astype(np.float32)
    inputs = Images(8)
    encoded = inputs.encode(table(one, 900 * one + 40, np.full((8, 8), 7, np.float32)))
    assert encoded.shape == (3, 1, 8, 8)
    assert np.allclose(encoded[0], encoded[1], atol=1e-4)
    assert not encoded[2].any()
    assert np.abs(encoded).max() <= 3


def test_a_patient_is_encoded_alone() -> None:
    images = [np.random.RandomState(i).rand(8, 8).astype(np.float32) for i in range(4)]
    inputs = Images(8)
    assert np.array_equal(inputs.encode(table(*images))[:1], inputs.encode(table(images[0])))


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((8, 9), np.float32), np.zeros((8, 8)), np.full((8, 8), np.nan, np.float32), None,
    ],
)  # fmt: skip
def test_what_is_no_image_of_the_raster_is_refused(wrong: object) -> None:
    frame = table(np.zeros((8, 8), np.float32))
    frame.at[0, IMAGE] = wrong
    with pytest.raises(DataInvalid, match="1 of 1"):
        Images(8).check(frame, "lesion")
    with pytest.raises(DataInvalid, match="lacks images"):
        Images(8).check(frame[["lesion"]], "lesion")
