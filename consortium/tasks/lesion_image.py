"""Lesions in images: is one of the nodules malignant?

The images are generated: no patient is behind them. They show what a small model of images can be
tried on under differential privacy, and nothing about medicine.

Every image shows smooth tissue, noise, a few bright or dark specks, and up to three nodules: round,
brighter than the tissue, even inside. An image with a lesion has one nodule more, as large and as
bright as the others and rough inside: small bright and dark patches, fainter than specks, placed
anew in each patient. So neither a bright disc nor a bright spot tells who has a lesion; many spots
close together do.

The hospitals' scanners differ in contrast (how much nodules stand out from noise), and in gain and
offset of the grey values that they store.

Everything is drawn from a fixed public seed, so all installations have the same patients.

How the constants of images, network and recipe were chosen: on patients from other seeds (501, 601
and 701 at the end), so that a matched filter misses many lesions, and the network learns in few
steps, with one half as the right threshold. `tests/benchmarks/images.py` measures both on other
patients; how hard the task is was a choice, so its figures say nothing of real images.
"""

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from consortium.tasks.cnn import Cnn
from consortium.tasks.errors import TaskUnknown
from consortium.tasks.image import IMAGE, Images
from consortium.tasks.task import Recipe, Site, Split, Task, declared, divided

if TYPE_CHECKING:
    import pandas as pd

LABEL: Final = "lesion"
SEED: Final = 20261
"""Of the patients that the task comes with; hospital i is drawn from ``SEED + i``."""

SIDE: Final = 24
MOST_HOSPITALS: Final = 16

RADII: Final = (4.0, 6.0)
"""Of nodules and lesions, in pixels, drawn evenly between the two."""

EDGE: Final = 0.5
"""How softly a nodule ends, in pixels (the scale of a logistic function of the distance)."""

# Heights are in brightnesses of a nodule, widths in pixels.
_NODULES: Final = 1.0
_MOST_NODULES: Final = 3
_SPREAD: Final = 0.2
_ROUGHNESS: Final = 1.7
_PATCH_WIDTH: Final = 0.6
_SPECKS: Final = 2.0
_MOST_SPECKS: Final = 8
_SPECK_HEIGHTS: Final = (2.5, 4.2)
_SPECK_WIDTH: Final = 0.8
# In deviations of the noise.
_TISSUE: Final = 0.4
_TISSUE_WIDTH: Final = 4.0
_PLACES: Final = 0.32
_LARGEST_GREY: Final = 4095
_TEST_SHARE: Final = 0.25
_VALIDATION_SHARE: Final = 0.15

Pictures = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Scanner:
    """How a hospital's images come out.

    contrast: brightness of a nodule, in deviations of the noise. gain: grey levels per deviation of
    the noise. offset: the grey level of tissue.
    """

    contrast: float
    gain: float
    offset: float


SCANNERS: Final = (
    Scanner(contrast=1.9, gain=140, offset=900),
    Scanner(contrast=1.7, gain=90, offset=1400),
    Scanner(contrast=1.45, gain=180, offset=1100),
    Scanner(contrast=1.2, gain=60, offset=600),
)
"""Of the first four hospitals; hospital 5 has one like hospital 1, and so on."""

PATIENTS: Final = (400, 360, 320, 240)
"""At the first four hospitals, half of them with a lesion; repeated like the scanners."""


def generate(scanner: Scanner, patients: int, seed: int) -> "pd.DataFrame":
    """A table of patients: `image`, grey values [24, 24] as stored, float32; `lesion`, 0 or 1.

    Half of the patients, rounded down, have a lesion. The same seed gives the same patients.
    """
    import pandas as pd

    random = np.random.RandomState(seed)
    ill = random.permutation(patients) < patients // 2
    picture = np.zeros((patients, SIDE, SIDE))
    nodules = np.minimum(random.poisson(_NODULES, patients), _MOST_NODULES)
    for number in range(_MOST_NODULES):
        picture = np.maximum(picture, _discs(random, patients) * _each(nodules > number))
    lesion = _discs(random, patients) * _each(ill)
    patches = np.sign(_smooth(random, patients, _PATCH_WIDTH))
    picture = np.maximum(picture, lesion) + _ROUGHNESS * lesion * patches
    specks = np.minimum(random.poisson(_SPECKS, patients), _MOST_SPECKS)
    for number in range(_MOST_SPECKS):
        picture += _dots(random, patients) * _each(specks > number)
    tissue = _smooth(random, patients, _TISSUE_WIDTH)
    tissue *= _TISSUE / tissue.std(axis=(1, 2), keepdims=True)
    noise = random.normal(size=picture.shape)
    signal = scanner.contrast * picture + tissue + noise
    grey = np.clip(np.rint(scanner.offset + scanner.gain * signal), 0, _LARGEST_GREY)
    return pd.DataFrame({IMAGE: list(grey.astype(np.float32)), LABEL: ill.astype(int)})


def load(data_dir: Path | None = None, hospitals: int | None = None) -> list[Site]:
    """The simulated hospitals, four if not told; `data_dir` is not used: nothing is fetched.

    Raises TaskUnknown for a number of hospitals outside 1 to 16.
    """
    count = 4 if hospitals is None else hospitals
    if type(count) is not int or not 1 <= count <= MOST_HOSPITALS:
        raise TaskUnknown(
            f"lesion-image does not come for {count!r} hospitals",
            f"choose 1 to {MOST_HOSPITALS} hospitals",
        )
    return generated(count, SEED)


def generated(hospitals: int, seed: int) -> list[Site]:
    """So many hospitals with patients of their own: those of hospital i from ``seed + i``."""
    return [_site(index, seed + index + 1) for index in range(hospitals)]


def divide(site: Site, seed: int) -> Split:
    """60 / 15 / 25 % for training, validation and test, drawn within each class."""
    of_the_rest = _VALIDATION_SHARE / (1 - _TEST_SHARE)
    return divided(site.frame, LABEL, _TEST_SHARE, of_the_rest, seed)


def _site(index: int, seed: int) -> Site:
    patients = PATIENTS[index % len(PATIENTS)]
    return Site(
        id=f"hospital-{index + 1}",
        title=f"Hospital {index + 1}",
        frame=generate(SCANNERS[index % len(SCANNERS)], patients, seed),
        declared_patients=declared(patients, 1 - _TEST_SHARE - _VALIDATION_SHARE),
    )


def _discs(random: np.random.RandomState, patients: int) -> Pictures:
    """One soft disc each, shape [n, side, side], of height 1 but for a spread."""
    distance = _distance(random, patients, _PLACES * SIDE)
    radius = _each(random.uniform(*RADII, patients))
    height = _each(np.exp(random.normal(0, _SPREAD, patients)))
    discs: Pictures = height / (1 + np.exp((distance - radius) / EDGE))
    return discs


def _dots(random: np.random.RandomState, patients: int) -> Pictures:
    """One bright or dark speck each, shape [n, side, side]."""
    distance = _distance(random, patients, SIDE / 2)
    height = random.uniform(*_SPECK_HEIGHTS, patients) * random.choice([-1, 1], patients)
    dots: Pictures = _each(height) * np.exp(-(distance**2) / (2 * _SPECK_WIDTH**2))
    return dots


def _distance(random: np.random.RandomState, patients: int, reach: float) -> Pictures:
    """From a place within `reach` of the middle, by row and by column; shape [n, side, side]."""
    down, right = _each(random.uniform(-reach, reach, (2, patients)))
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    distance: Pictures = np.hypot(axis[:, None] - down, axis - right)
    return distance


def _smooth(random: np.random.RandomState, patients: int, width: float) -> Pictures:
    """Noise smoothed over `width` pixels, shape [n, side, side]."""
    from scipy.ndimage import gaussian_filter  # slow to import

    return np.asarray(
        gaussian_filter(random.normal(size=(patients, SIDE, SIDE)), (0, width, width))
    )


def _each(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Values [..., n] beside images: [..., n, 1, 1]."""
    return values[..., None, None]


LESION_IMAGE: Final = Task(
    name="lesion-image",
    title="Lesion in an image: a rough nodule among even ones",
    inputs=Images(side=SIDE),
    network=Cnn(),
    label=LABEL,
    recipe=Recipe(
        rounds=10,
        total_steps=20,
        travel=Decimal(30),
        clip=Decimal(1),
        clipping="automatic",
    ),
    load=load,
    divide=divide,
)
