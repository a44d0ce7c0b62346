"""A folder of DICOM images with a table of labels: one row for each line of the labels.

The labels are a table with a column ``file`` (an image's path within the folder) or ``patient`` (a
PatientID, whose images then must agree), or both, which must fit each other. A row holds the
labels' other columns, the patient's pseudonym as ``patient``, and of the image's header what
`HEADER` names. Raw ids and names of files go no further: every image is de-identified first, and
one that cannot be is refused with the whole folder (`privacy.deidentification.dicom`).

Images are named by their place in the order of names: names of files may be patients' names.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from hospital_agent.errors import ImageUnreadable, TableUnreadable
from hospital_agent.sources.grey import grey
from hospital_agent.sources.source import Source
from privacy.deidentification import dicom
from privacy.deidentification.pseudonyms import PseudonymKey
from privacy.errors import BurnedInPixels, DicomUnreadable

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

HEADER: Final = ("PatientAge", "PatientSex", "PatientSize", "PatientWeight")
"""What of an image's header a row holds: whole years (90 for all over 89), M, F or O, m, kg."""

PATIENT: Final = "patient"
FILE: Final = "file"

_Header = dict[str, str | None]


class _Image(NamedTuple):
    """One image: its place in the order of names, and what a row holds of it."""

    place: int
    header: _Header


class Images:
    """The images below a folder, in the order of names; each is de-identified as it is read.

    ``looked_at``: a person has looked at all of them, and none shows text or a face.
    """

    def __init__(self, folder: Path, key: PseudonymKey, *, looked_at: bool = False) -> None:
        self._folder = folder
        self._key = key
        self._looked_at = looked_at

    def __len__(self) -> int:
        return len(self._paths)

    @property
    def names(self) -> list[str]:
        """The images' paths within the folder. They may name patients, and must not be shown."""
        return [path.relative_to(self._folder).as_posix() for path in self._paths]

    def pseudonym(self, patient: str) -> str:
        """The pseudonym of a PatientID in these images."""
        return self._key.pseudonym(patient)

    def clean(self, place: int, *, pixels: bool, shift_dates: bool = False) -> "Dataset":
        """One image without its identifiers.

        Raises:
            BurnedInPixels, DicomUnreadable: if it cannot be de-identified; names its place only.
        """
        try:
            return dicom.deidentify(
                dicom.read(self._paths[place]), self._key, looked_at=self._looked_at,
                pixels=pixels, shift_dates=shift_dates,
            )  # fmt: skip
        except (BurnedInPixels, DicomUnreadable) as error:
            where = f"image {place + 1} of {len(self)}, in the order of names: "
            raise type(error)(where + error.what, error.resolve) from None

    def arrays(self) -> "Iterator[tuple[str, NDArray[np.generic]]]":
        """The pixels of each image, in the order of names, with its patient's pseudonym.

        Shapes: [frames,] rows, columns[, samples].

        Raises:
            BurnedInPixels, DicomUnreadable: if an image cannot be de-identified.
        """
        for place in range(len(self)):
            image = self.clean(place, pixels=True)
            yield str(image.PatientID), image.pixel_array

    @cached_property
    def _paths(self) -> list[Path]:
        try:
            found = sorted(
                path
                for path in self._folder.rglob("*")
                if path.is_file() and path.name != "DICOMDIR"
            )
        except OSError as error:  # which holds a name
            raise DicomUnreadable(
                f"a folder in it cannot be read ({error.strerror})", "check its owner"
            ) from None
        if not found:
            raise DicomUnreadable("the folder holds no file", "name the folder with the images")
        return found


class DicomSource:
    """Labels joined with the headers of de-identified images; their pixels are `Images.arrays`."""

    kind = "dicom"

    def __init__(self, images: Images, labels: Source) -> None:
        self._images = images
        self._labels = labels

    def columns(self) -> list[str]:
        """``patient``, the labels' other columns, and `HEADER`.

        Raises:
            TableUnreadable: if the labels name neither files nor patients, or a column twice.
        """
        own = self._labels.columns()
        if FILE not in own and PATIENT not in own:
            raise TableUnreadable(
                "the labels have no column `file` and none `patient`",
                "name each image's path within the folder, or each PatientID, in such a column",
            )
        if twice := sorted({*HEADER} & {*own}):
            raise TableUnreadable(
                f"the labels have a column {twice[0]}, which images have too",
                "rename it in the labels",
            )
        return [PATIENT, *(name for name in own if name not in (FILE, PATIENT)), *HEADER]

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """All rows, as `Source.chunks` describes them.

        Raises:
            TableUnreadable: if a line names no image that is there, or another patient than it.
            BurnedInPixels, DicomUnreadable: if an image cannot be de-identified.
        """
        wanted = self.columns() if columns is None else list(columns)
        known = self.columns()
        for chunk, rows in self._labelled():
            joined = chunk.drop(columns=[FILE, PATIENT], errors="ignore").reset_index(drop=True)
            for name in (PATIENT, *HEADER):
                joined[name] = _texts([row.header[name] for row in rows])
            yield joined[[name for name in known if name in wanted]][wanted]

    def images(self) -> "Iterator[NDArray[np.float64]]":
        """As `HoldsImages.images` describes them.

        Raises:
            ImageUnreadable: for several frames, or where a patient that is labelled has several
                images.
            BurnedInPixels, DicomUnreadable: if an image cannot be de-identified.
        """
        for _, rows in self._labelled():
            for row in rows:
                place = row.place
                image = self._images.clean(place, pixels=True)
                where = f"image {place + 1} of {len(self._images)}, in the order of names: "
                if FILE not in self._labels.columns() and self._counts[row.header[PATIENT]] > 1:
                    raise ImageUnreadable(
                        where + "its patient has several, and the labels name patients",
                        "label by file instead of by patient, one image of each",
                    )
                try:
                    yield grey(image.pixel_array, str(image.PhotometricInterpretation))
                except ImageUnreadable as error:
                    raise ImageUnreadable(where + error.what, error.resolve) from None

    @cached_property
    def _counts(self) -> "Counter[str | None]":
        return Counter(image.header[PATIENT] for image in self._by_file.values())

    def _labelled(self) -> "Iterator[tuple[pd.DataFrame, list[_Image]]]":
        """Chunks of the labels, and the image that each line names."""
        by = FILE if FILE in self._labels.columns() else PATIENT
        images = self._by_file if by == FILE else self._by_patient
        line = 1
        for chunk in self._labels.chunks():
            rows = []
            patients = chunk[PATIENT] if PATIENT in chunk else chunk[by]
            for name, patient in zip(chunk[by], patients, strict=True):
                line += 1
                where = name if by == FILE else name and self._images.pseudonym(name)
                if where is None or where not in images:
                    raise TableUnreadable(
                        f"line {line} of the labels names no image of the folder",
                        "correct it, or take the line out",
                    )
                image = images[where]
                if PATIENT in chunk and patient is not None:
                    self._check_patient(patient, image, line)
                rows.append(image)
            yield chunk, rows

    def _check_patient(self, patient: str, image: _Image, line: int) -> None:
        if self._images.pseudonym(patient) != image.header[PATIENT]:
            raise TableUnreadable(
                f"line {line} of the labels names another patient than its image does",
                "correct it; if the column `patient` holds no PatientID, call it otherwise",
            )

    @cached_property
    def _by_file(self) -> dict[str, _Image]:
        return {
            name: _Image(place, self._header(place))
            for place, name in enumerate(self._images.names)
        }

    @cached_property
    def _by_patient(self) -> dict[str, _Image]:
        found: dict[str, _Image] = {}
        for image in self._by_file.values():
            same = found.setdefault(str(image.header[PATIENT]), image)
            for name in HEADER:
                if image.header[name] != same.header[name]:
                    raise DicomUnreadable(
                        f"image {image.place + 1} says another {name} than one of the same patient",
                        "label by file instead of by patient, one image each",
                    )
        return found

    def _header(self, place: int) -> _Header:
        image = self._images.clean(place, pixels=False)
        values = {name: str(image.get(name, "")) or None for name in HEADER}
        return {
            **values, PATIENT: str(image.PatientID),
            "PatientAge": dicom.age_in_years(image),
        }  # fmt: skip


def _texts(values: list[str | None]) -> "pd.Series":
    import pandas as pd

    return pd.Series(values, dtype=object)
