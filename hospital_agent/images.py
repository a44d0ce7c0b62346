"""De-identified copies of a folder of DICOM images, under a cohort's key.

The same key at the next run gives the same pseudonyms and UIDs, so images that are added later join
those of the same patient. The copy is there whole or not at all; images are called by their place
in the order of names, for names of files may be patients' names.
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consortium.errors import OptionInvalid
from hospital_agent.folder import HospitalFolder
from hospital_agent.sources.dicom import Images
from privacy.deidentification.identifiers import rows_in_words


@dataclass(frozen=True)
class Copied:
    """What was made: a folder, and in bands how many images of how many patients."""

    out: Path
    images: str
    patients: str


def copy_images(
    hospital: HospitalFolder, task: str, source: Path, out: Path, *, looked_at: bool = False,
    shift_dates: bool = False, told: Callable[[int, int], None] = lambda done, of: None,
) -> Copied:  # fmt: skip
    """Writes a de-identified copy of each image in a folder; ``told`` hears how many are done.

    ``shift_dates`` keeps four dates, moved by the patient's keyed number of days.

    Raises:
        OptionInvalid: if there is something at ``out``.
        BurnedInPixels, DicomUnreadable: if an image cannot be de-identified; nothing is left then.
        PseudonymKeyInvalid: if the cohort's key cannot be used.
    """
    if out.exists():
        raise OptionInvalid(f"{out} is there already", "name a folder that is not there yet")
    images = Images(source, hospital.pseudonym_key(task), looked_at=looked_at)
    partial = out.with_name(f".{out.name}.new")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True, mode=0o700)
    patients = set()
    try:
        for place in range(len(images)):
            image = images.clean(place, pixels=True, shift_dates=shift_dates)
            patients.add(str(image.PatientID))
            path = partial / f"image-{place + 1:06d}.dcm"
            image.save_as(path, enforce_file_format=True)
            path.chmod(0o600)
            told(place + 1, len(images))
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    os.rename(partial, out)
    return Copied(out, rows_in_words(len(images)), rows_in_words(len(patients)))
