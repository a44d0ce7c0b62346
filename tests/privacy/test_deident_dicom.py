"""DICOM images: nothing planted gets through, and what cannot be de-identified is refused."""

from pathlib import Path

import numpy as np
import pytest
from dicom_examples import HIDDEN, SECRETS, image, written
from pydicom import dcmread
from pydicom.datadict import DicomDictionary
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from privacy.deidentification.dicom import age_in_years, deidentify, read
from privacy.deidentification.pseudonyms import PseudonymKey
from privacy.errors import BurnedInPixels, DicomUnreadable

pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR")
KEY = PseudonymKey(bytes(range(32)))
ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"
SECONDARY = "1.2.840.10008.5.1.4.1.1.7"


def cleaned(tmp_path: Path, one: Dataset, **options: bool) -> Dataset:
    return deidentify(read(written(tmp_path / "in.dcm", one)), KEY, **options)


def content(tmp_path: Path, dataset: Dataset) -> bytes:
    return written(tmp_path / "out.dcm", dataset).read_bytes()


def test_nothing_that_was_planted_is_left(tmp_path: Path) -> None:
    before = image()
    uids = [str(before[name].value) for name in ("SOPInstanceUID", "StudyInstanceUID")]
    raw = written(tmp_path / "in.dcm", before).read_bytes()
    planted = [*SECRETS.values(), *HIDDEN, *uids]
    assert len(planted) >= 40
    assert [text for text in planted if text.encode() not in raw] == []
    clean = cleaned(tmp_path, before)
    out = content(tmp_path, clean)
    assert [text for text in planted if text.encode() in out] == []
    words = {word for text in planted for word in text.replace("^", " ").split() if len(word) > 5}
    assert [word for word in words if word.encode() in out] == []


@pytest.mark.filterwarnings("ignore:Unknown encoding")  # of writing it, not of reading it
def test_no_element_of_the_standard_carries_a_text_through(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    """Deny by default: every element of a text, date, UID or byte VR that the standard has."""
    needed = {"SOPClassUID", "Modality", "PhotometricInterpretation", "BurnedInAnnotation"}
    texts = {"PN", "LO", "SH", "LT", "ST", "UT", "UC", "UR", "AE", "CS", "DT", "TM", "DA", "AS"}
    one, planted = image(), []
    for tag, (vr, _, _, _, keyword) in DicomDictionary.items():
        if keyword in needed or tag >> 16 in (0x0000, 0x0002, 0x7FE0):
            continue
        if vr in texts | {"UI", "UN", "OB"}:
            text = f"1.2.999.{tag}.77" if vr == "UI" else f"ZQ{tag:08X}"
            one[tag] = RawDataElement(
                BaseTag(tag), vr, len(text), text.encode(), 0, False, True, True, True
            )
            planted.append(text.encode())
    assert len(planted) > 1_800
    raw = written(tmp_path / "in.dcm", one).read_bytes()
    assert all(text in raw for text in planted)
    caplog.clear()
    recwarn.clear()
    out = content(tmp_path, deidentify(read(tmp_path / "in.dcm"), KEY, looked_at=True))
    assert [text for text in planted if text in out] == []
    assert b"ZQ" not in out
    assert not caplog.records  # they would quote values
    assert not recwarn.list


def test_numbers_of_a_body_stay_as_a_body_can_have_them(tmp_path: Path) -> None:
    """And InstanceNumber, a record's number perhaps, not at all."""
    given = {"PatientSize": ["1.7512345", "191705.17", "0"], "PatientWeight": ["81.5499", "771234"]}
    stays = {"PatientSize": ["1.75", None, None], "PatientWeight": ["81.5", None]}
    for name, values in given.items():
        for value, expected in zip(values, stays[name], strict=True):
            clean = cleaned(tmp_path, image(InstanceNumber="771234", **{name: value}))
            assert clean.get("InstanceNumber") is None
            assert (None if expected is None else float(expected)) == clean.get(name)


def test_what_an_image_is_for_stays(tmp_path: Path) -> None:
    clean = dcmread(written(tmp_path / "out.dcm", cleaned(tmp_path, image())))
    assert clean.pixel_array.tolist() == np.arange(64).reshape(8, 8).tolist()
    assert (clean.PatientAge, clean.PatientSex, clean.Modality) == ("063Y", "M", "CR")
    assert clean.PixelSpacing == [0.2, 0.2]
    assert clean.PatientIdentityRemoved == "YES"
    assert "PS3.15" in clean.DeidentificationMethod
    codes = [item.CodeValue for item in clean.DeidentificationMethodCodeSequence]
    assert codes == ["113100", "113108"]
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    assert clean.PatientID == KEY.pseudonym("MRN7712345")


def test_a_study_stays_together_under_other_uids(tmp_path: Path) -> None:
    first = image(StudyInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.3.5")
    second = image(StudyInstanceUID="1.2.3.4", FrameOfReferenceUID="1.2.3.5")
    one, two = cleaned(tmp_path, first), cleaned(tmp_path, second)
    assert one.StudyInstanceUID == two.StudyInstanceUID == KEY.uid("1.2.3.4")
    assert one.FrameOfReferenceUID == KEY.uid("1.2.3.5")
    assert one.SOPInstanceUID != two.SOPInstanceUID


def test_dates_go_or_move_by_the_patients_days(tmp_path: Path) -> None:
    moved = cleaned(tmp_path, image(), shift_dates=True)
    days = KEY.shift_days("MRN7712345")
    given = [np.datetime64(f"2019-11-{day}") for day in (23, 24, 25, 26)]
    names = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
    assert [str(moved[name].value) for name in names] == [
        str(day + days).replace("-", "") for day in given
    ]
    assert moved.LongitudinalTemporalInformationModified == "MODIFIED"
    assert "StudyTime" not in moved
    assert not any(name in cleaned(tmp_path, image()) for name in names)


@pytest.mark.parametrize(
    ("age", "years"),
    [("063Y", "63"), ("093Y", "90"), ("090Y", "90"), ("018M", "1"), ("040W", "0"), ("400D", "1"),
     ("", None), ("old", None), ("63", None)],
)  # fmt: skip
def test_ages_in_whole_years(age: str, years: str | None) -> None:
    one = Dataset()
    one.PatientAge = age
    assert age_in_years(one) == years


def test_overlays_in_unused_bits_are_cleared(tmp_path: Path) -> None:
    words = (np.arange(64, dtype="<u2") | 0xF000).tobytes()
    clean = cleaned(tmp_path, image(PixelData=words))
    assert clean.pixel_array.max() == 63
    negative = np.arange(-32, 32, dtype="<i2")
    signed = cleaned(tmp_path, image(PixelData=negative.tobytes(), PixelRepresentation=1))
    assert signed.pixel_array.ravel().tolist() == negative.tolist()


def test_a_packed_stream_is_made_anew(tmp_path: Path) -> None:
    packed = image()
    packed.compress(RLELossless)
    clean = cleaned(tmp_path, packed)
    assert clean.pixel_array.tolist() == np.arange(64).reshape(8, 8).tolist()
    assert not clean.file_meta.TransferSyntaxUID.is_compressed
    broken = image(PixelData=encapsulate([b"comment-secret--"]))
    broken.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    broken["PixelData"].is_undefined_length = True
    with pytest.raises(DicomUnreadable) as error:
        cleaned(tmp_path, broken)
    assert "secret" not in error.value.what + error.value.resolve


@pytest.mark.parametrize(
    ("changes", "looked_at"),
    [
        ({"BurnedInAnnotation": "YES"}, "refused"),
        ({"RecognizableVisualFeatures": "YES"}, "refused"),
        ({"SOPClassUID": ULTRASOUND, "Modality": "US"}, "taken"),
        ({"SOPClassUID": SECONDARY, "Modality": "CR"}, "taken"),
        ({"Modality": "OT"}, "taken"),
        ({"Modality": None}, "taken"),
        ({"ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "taken"),
        ({"ConversionType": "WSD"}, "taken"),
        ({"BurnedInAnnotation": "maybe", "Modality": "XC"}, "taken"),
        ({"BurnedInAnnotation": "TRUE"}, "taken"),
        ({"RecognizableVisualFeatures": "Y"}, "taken"),
        ({"BurnedInAnnotation": ["NO", "YES"]}, "refused"),
    ],
)
def test_pixels_that_may_show_who_it_is_are_refused(
    tmp_path: Path, changes: dict[str, object], looked_at: str
) -> None:
    with pytest.raises(BurnedInPixels):
        cleaned(tmp_path, image(**changes))
    if looked_at == "taken":
        cleaned(tmp_path, image(**changes), looked_at=True)
    else:
        with pytest.raises(BurnedInPixels):
            cleaned(tmp_path, image(**changes), looked_at=True)


def test_an_ultrasound_that_says_that_it_is_free_of_text_is_taken(tmp_path: Path) -> None:
    free = image(SOPClassUID=ULTRASOUND, Modality="US", BurnedInAnnotation="NO")
    assert cleaned(tmp_path, free).BurnedInAnnotation == "NO"


@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.104.1"}, {"SOPClassUID": "1.2.3.4711"},
        {"PixelData": None}, {"PixelData": b"\0" * 200}, {"Rows": 0}, {"BitsAllocated": 1},
        {"PhotometricInterpretation": "PALETTE COLOR"}, {"Rows": 60_000, "Columns": 60_000},
        {"PatientID": None}, {"SamplesPerPixel": None}, {"HighBit": 15},
    ],
)  # fmt: skip
def test_what_is_no_whole_image_is_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(DicomUnreadable) as error:
        cleaned(tmp_path, image(**changes))
    said = error.value.what + error.value.resolve
    assert not any(text in said for text in [*SECRETS.values(), "4711"])


def test_a_file_that_is_cut_off_anywhere_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = written(tmp_path / "whole.dcm", image()).read_bytes()
    path = tmp_path / "cut.dcm"
    for length in [*range(0, len(raw) - 40, 97), len(raw) - 40]:
        path.write_bytes(raw[:length])
        with pytest.raises(DicomUnreadable):
            read(path)
    path.write_bytes(b"GIF89a" + raw[6:128] + b"XXXX" + raw[132:])
    with pytest.raises(DicomUnreadable, match="begin"):
        read(path)
    with pytest.raises(DicomUnreadable):
        read(tmp_path / "absent.dcm")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_deflated_and_big_endian_files_are_refused(tmp_path: Path, syntax: str) -> None:
    one = image()
    one.file_meta.TransferSyntaxUID = syntax
    with pytest.raises(DicomUnreadable, match="deflated or big-endian"):
        cleaned(tmp_path, one)
