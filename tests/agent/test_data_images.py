"""Folders of images become a cohort of a task of images: de-identified, in its raster, or not.

The task is one that `consortium task new` writes; lesions are `test_lesions_from_dicom.py`.
"""

import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import ok, refused
from dicom_examples import image, written
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGBaseline8Bit

from consortium.tasks.image import IMAGE, raster
from consortium.tasks.new import new_task
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.folder import HospitalFolder
from hospital_agent.policy import change_policy

SIDE, PATIENTS = 8, 40


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HospitalFolder:
    new_task("spots", tmp_path / "tasks", SIDE)
    monkeypatch.setenv("MEDPOLE_TASKS", str(tmp_path / "tasks"))
    return HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    return tmp_path / "images"


def add(folder: HospitalFolder, source: Path, *more: str | Path) -> tuple[str | Path, ...]:
    return (
        "hospital-agent", "data", "add", "skin", "--task", "spots", "--source", source,
        "--labels", source.parent / "labels.csv", "--home", folder.path,
        "--declared-patients", "25", *more,
    )  # fmt: skip


def labelled(images: Path, **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame({**columns, "outcome": [i % 2 for i in range(PATIENTS)]})
    frame.to_csv(images.parent / "labels.csv", index=False)
    return frame


def pictures() -> list[np.ndarray]:
    random = np.random.RandomState(0)
    return [random.randint(0, 4096, (20, 16)).astype("<u2") for _ in range(PATIENTS)]


def dicom(path: Path, pixels: np.ndarray, patient: str, **changes: object) -> None:
    rows, columns = pixels.shape
    whole = {"Rows": rows, "Columns": columns, "PixelData": pixels.tobytes(), **changes}
    written(path, image(PatientID=patient, **whole))


def stored(folder: HospitalFolder) -> pd.DataFrame:
    cohort = Cohort.open(folder, "spots")
    return pd.concat([cohort.frame(part) for part in PARTS], ignore_index=True)


def same(found: pd.DataFrame, pixels: list[np.ndarray]) -> bool:
    """Whether the cohort holds these pictures, each with its outcome, in whatever order."""
    expected = {raster(p, SIDE).tobytes(): i % 2 for i, p in enumerate(pixels)}
    return {i.tobytes(): o for i, o in zip(found[IMAGE], found["outcome"], strict=True)} == expected


def test_dicom_images_become_a_cohort(folder: HospitalFolder, images: Path) -> None:
    pixels = pictures()
    for place, one in enumerate(pixels):
        dicom(images / f"{place}.dcm", one, f"MRN77{place:05d}")
    labelled(images, file=[f"{i}.dcm" for i in range(PATIENTS)])
    said = ok(*add(folder, images)).out
    assert "20 to 49" in said
    assert same(stored(folder), pixels)
    cohort = Cohort.open(folder, "spots")
    x, y = cohort.tensors("train")
    assert (x.shape[1:], len(x)) == ((1, SIDE, SIDE), len(y))
    everything = b"".join(p.read_bytes() for p in folder.path.rglob("*") if p.is_file())
    assert b"MRN77" not in everything
    for part in PARTS:
        assert (cohort.folder / f"{part}.safetensors").stat().st_mode & 0o777 == 0o600
    report = ok("hospital-agent", "data", "check", "skin", "--home", folder.path).out
    assert "usable" in report


def test_patients_are_told_apart(folder: HospitalFolder, images: Path) -> None:
    for place, one in enumerate(pictures()):
        dicom(images / f"{place}.dcm", one, f"MRN77{min(place, 30):05d}")
    labelled(images, file=[f"{i}.dcm" for i in range(PATIENTS)])
    said = refused("PatientRepeated", *add(folder, images))
    assert "label one image of each patient" in said
    labelled(images, patient=[f"MRN77{min(i, 30):05d}" for i in range(PATIENTS)])
    assert "its patient has several" in refused("ImageUnreadable", *add(folder, images))


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"BurnedInAnnotation": "YES"}, "BurnedInPixels"),
        ({"NumberOfFrames": 2, "Rows": 10}, "ImageUnreadable"),
        ({"Rows": 7, "Columns": 16}, "DataInvalid"),
    ],
)
def test_one_wrong_image_stops_all(
    folder: HospitalFolder, images: Path, changes: dict[str, object], code: str
) -> None:
    for place, one in enumerate(pictures()):
        more = changes if place == 7 else {}
        kept = one[: int(str(more["Rows"]))] if code == "DataInvalid" and more else one
        dicom(images / f"{place}.dcm", kept, f"MRN77{place:05d}", **more)
    labelled(images, file=[f"{i}.dcm" for i in range(PATIENTS)])
    said = refused(code, *add(folder, images))
    assert "MRN" not in said
    assert [path.name for path in folder.path.iterdir()] == ["hospital.json"]


def test_brighter_means_more_whatever_the_interpretation(
    folder: HospitalFolder, images: Path
) -> None:
    pixels = pictures()
    for place, one in enumerate(pixels):
        inverse = place % 3 == 0
        shown = (4095 - one).astype("<u2") if inverse else one
        more = {"PhotometricInterpretation": "MONOCHROME1"} if inverse else {}
        dicom(images / f"{place}.dcm", shown, f"MRN77{place:05d}", **more)
    labelled(images, file=[f"{i}.dcm" for i in range(PATIENTS)])
    ok(*add(folder, images))
    straight = {raster(one, SIDE).tobytes() for one in pixels[1::3] + pixels[2::3]}
    turned = {raster(one.astype(float) - 4095, SIDE).tobytes() for one in pixels[::3]}
    assert {cell.tobytes() for cell in stored(folder)[IMAGE]} == straight | turned


def test_png_needs_a_person_who_has_looked(folder: HospitalFolder, images: Path) -> None:
    random = np.random.RandomState(0)
    pixels = [random.randint(0, 256, (12, 9)).astype(np.uint8) for _ in range(PATIENTS)]
    for place, one in enumerate(pixels):
        Image.fromarray(one).save(images / f"{place}.png")
    labelled(images, file=[f"{i}.png" for i in range(PATIENTS)])
    assert "--pixels-looked-at" in refused("BurnedInPixels", *add(folder, images))
    change_policy(folder, {"fewest_alike": 5})  # an image has nothing that others know
    ok(*add(folder, images, "--pixels-looked-at"))
    assert same(stored(folder), pixels)


def test_a_png_that_is_none_stops_all(folder: HospitalFolder, images: Path) -> None:
    for place in range(PATIENTS):
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(images / f"{place}.png")
    labelled(images, file=[f"{i}.png" for i in range(PATIENTS)])
    content = (images / "3.png").read_bytes()
    for wrong in (content[:-20], b"GIF89a" + content, b""):
        (images / "3.png").write_bytes(wrong)
        said = refused("ImageUnreadable", *add(folder, images, "--pixels-looked-at"))
        assert "line 5" in said
    (images / "3.png").write_bytes(content)
    labelled(images, file=[f"{i}.png" for i in range(PATIENTS - 1)] + ["../labels.csv"])
    refused("TableUnreadable", *add(folder, images, "--pixels-looked-at"))


def test_an_image_that_is_labelled_twice_is_one_patient(
    folder: HospitalFolder, images: Path
) -> None:
    for place in range(PATIENTS):
        Image.fromarray(np.eye(9, dtype=np.uint8)).save(images / f"{place}.png")
    labelled(images, file=[f"{i}.png" for i in range(PATIENTS - 1)] + ["7.png"])
    said = refused("PatientRepeated", *add(folder, images, "--pixels-looked-at"))
    assert "line 41" in said


def test_colour_is_read_as_it_is_unpacked(folder: HospitalFolder, images: Path) -> None:
    """JPEG unpacks to one sample beside the other, whatever the packed file's header says."""
    for place in range(PATIENTS):
        colour = np.full((16, 16, 3), (200, 20, place), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(colour).save(buffer, "JPEG", quality=95)
        one = image(
            PatientID=f"MRN77{place:05d}", Rows=16, Columns=16, SamplesPerPixel=3,
            PhotometricInterpretation="YBR_FULL_422", PlanarConfiguration=1, BitsAllocated=8,
            BitsStored=8, HighBit=7, PixelData=encapsulate([buffer.getvalue()]),
        )  # fmt: skip
        one.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        one["PixelData"].is_undefined_length = True
        written(images / f"{place}.dcm", one)
    labelled(images, file=[f"{i}.dcm" for i in range(PATIENTS)])
    ok(*add(folder, images))
    expected = [0.299 * 200 + 0.587 * 20 + 0.114 * place for place in range(PATIENTS)]
    found = sorted(float(cell.mean()) for cell in stored(folder)[IMAGE])
    np.testing.assert_allclose(found, expected, atol=3)


def test_a_table_is_no_image(folder: HospitalFolder, images: Path) -> None:
    labelled(images, file=["a"] * PATIENTS)
    source = images.parent / "labels.csv"
    command = ("hospital-agent", "data", "check", "--task", "spots", "--source", source)
    assert "folder of DICOM or PNG" in refused("SourceUnsupported", *command)
