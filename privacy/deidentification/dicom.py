"""One DICOM image without its identifiers, or a refusal: PS3.15 Annex E, and deny by default.

Three layers:

1. An allow-list: of an image's attributes those stay that describe pixels and how they were taken,
   and age, sex, size and weight, each only with values of its form. Private attributes, overlays,
   curves, sequences and free texts go. Coded texts stay only where they are a code known here.
2. The Basic Application Level Confidentiality Profile (`dicom-anonymizer`, table E.1-1 of 2026c)
   over what the list let through, but for those four, which its option 113108 retains.
3. UIDs, and the patient's id, are replaced by key (`pseudonyms`), so images of a patient and of a
   study stay together. Dates go; asked for, the four dates of study, series, acquisition and
   content stay, moved by the patient's keyed number of days (which is not Safe Harbor's letter).

What cannot be told from attributes is refused: images that say that text or a face is in their
pixels, and images of kinds that often have text burned in and do not say that they are free of it
(ultrasound, secondary captures, screenshots, photographs), unless a person has looked at them all.

Nothing of a file's old bytes is kept: preamble, file meta information and compressed streams (whose
comments may hold text) are made anew.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from privacy.deidentification.identifiers import AGE_CATEGORY
from privacy.deidentification.pseudonyms import PseudonymKey
from privacy.errors import BurnedInPixels, DicomUnreadable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset, FileDataset

MOST_BYTES: Final = 2**30
"""Of a file, and of its pixels once they are unpacked."""

PROFILE: Final = "dicomfields_2026c"
METHOD: Final = "PS3.15 E.1-1 2026c, allow-list, keyed UIDs"
_PROFILE_CODE: Final = ("113100", "DCM", "Basic Application Confidentiality Profile")
_RETAINED_CODE: Final = ("113108", "DCM", "Retain Patient Characteristics Option")
_DATES_CODE: Final = (
    "113107",
    "DCM",
    "Retain Longitudinal Temporal Information Modified Dates Option",
)

_IMAGES: Final = "1.2.840.10008.5.1.4.1.1."
_KINDS = """
    1 1.1 1.1.1 1.2 1.2.1 1.3 1.3.1 2 2.1 3.1 4 4.1 4.3 6.1 6.2 7 7.1 7.2 7.3 7.4 12.1 12.1.1 12.2
    12.2.1 13.1.1 13.1.2 13.1.3 20 77.1.1 77.1.2 77.1.4 77.1.5.1 128 128.1 481.1
"""
KINDS: Final = frozenset(_IMAGES + kind for kind in _KINDS.split())
"""SOP classes of images: radiography, mammography, CT, MR, ultrasound, nuclear medicine, PET,
angiography, secondary capture, photographs. Whole slides are not among them: their labels are
images of names."""

_OFTEN_BURNED_IN: Final = tuple(_IMAGES + kind for kind in ("3.1", "6.", "7", "77.1."))
_OFTEN_BURNED_IN_MODALITIES: Final = frozenset(
    ("US", "IVUS", "ES", "XC", "GM", "SM", "OT", "DOC", "SC", "OP", "OPT", "DMS", "IO")
)

_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID")
_DATES: Final = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
_NUMBERS = """
    SamplesPerPixel PlanarConfiguration NumberOfFrames Rows Columns BitsAllocated BitsStored HighBit
    PixelRepresentation SmallestImagePixelValue LargestImagePixelValue PixelPaddingValue
    PixelPaddingRangeLimit RescaleIntercept RescaleSlope WindowCenter WindowWidth PixelSpacing
    ImagerPixelSpacing NominalScannedPixelSpacing PixelAspectRatio SliceThickness
    SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient SliceLocation
    FrameTime KVP ExposureTime XRayTubeCurrent Exposure RepetitionTime EchoTime InversionTime
    FlipAngle MagneticFieldStrength EchoTrainLength PixelIntensityRelationshipSign
    DistanceSourceToDetector DistanceSourceToPatient BodyPartThickness CompressionForce
"""
_RLE: Final = "1.2.840.10008.1.2.5"
_OF_PIXELS: Final = (
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
_BODY: Final = {"PatientSize": (0.2, 2.8, 2), "PatientWeight": (0.2, 700.0, 1)}
"""Metres and kilograms that somebody can have, and the places that stay of them."""
_CODES: Final = {
    name: frozenset(values.split(","))
    for name, values in {
        "PatientSex": "M,F,O",
        "Modality": "CR,DX,MG,CT,MR,US,NM,PT,XA,RF,SC,OT,RG,IO,PX,OP,OPT,ES,XC,GM,IVUS,RTIMAGE",
        "PhotometricInterpretation": "MONOCHROME1,MONOCHROME2,RGB,YBR_FULL,YBR_FULL_422",
        "BurnedInAnnotation": "NO",
        "RecognizableVisualFeatures": "NO",
        "LossyImageCompression": "00,01",
        "PixelIntensityRelationship": "LIN,LOG,DISP",
        "PresentationLUTShape": "IDENTITY,INVERSE",
        "PresentationIntentType": "FOR PRESENTATION,FOR PROCESSING",
        "RescaleType": "HU,US,OD",
        "VOILUTFunction": "LINEAR,LINEAR_EXACT,SIGMOID",
        "ViewPosition": "AP,PA,LL,RL,RLD,LLD,RLO,LLO,MLO,CC,ML,LM,XCCL,XCCM,LATERAL",
        "Laterality": "L,R",
        "ImageLaterality": "L,R,B,U",
        "PatientPosition": "HFP,HFS,HFDR,HFDL,FFDR,FFDL,FFP,FFS,LFP,LFS,RFP,RFS",
        "BodyPartExamined": "ABDOMEN,ANKLE,ARM,BRAIN,BREAST,CHEST,CLAVICLE,COLON,CSPINE,ELBOW,EYE,"
        "FEMUR,FOOT,HAND,HEAD,HEART,HIP,KIDNEY,KNEE,LEG,LIVER,LSPINE,LUNG,NECK,PELVIS,PROSTATE,"
        "SHOULDER,SKULL,SPINE,TSPINE,WRIST",
        "ImageType": "ORIGINAL,DERIVED,PRIMARY,SECONDARY,AXIAL,LOCALIZER",
        "PatientOrientation": "A,P,L,R,H,F,AL,AR,PL,PR,HL,HR,FL,FR,AH,AF,PH,PF",
    }.items()
}
_CHARACTERISTICS: Final = ("PatientSex", "PatientAge", "PatientSize", "PatientWeight")
_LOOK: Final = (
    "look at every image of the folder; if none shows text or a face, say so with "
    "--pixels-looked-at"
)
_LARGEST_NUMBER: Final = 10**6
"""A number as long as a record number stays nowhere."""


def read(path: Path) -> "FileDataset":
    """A DICOM file's dataset, whole, its pixels of the length that it declares.

    Raises:
        DicomUnreadable: if it is none, cut off, deflated, no image, or larger than `MOST_BYTES`.
    """
    import pydicom

    try:
        if path.stat().st_size > MOST_BYTES:
            raise DicomUnreadable("the file is larger than 1 GiB", "export single images")
        with path.open("rb") as file:
            if file.read(132)[128:] != b"DICM":
                raise DicomUnreadable(
                    "the file does not begin as a DICOM file does",
                    "keep only DICOM files (PS3.10) in the folder, or export this one again",
                )
        with _quiet():
            meta = pydicom.filereader.read_file_meta_info(path)
            if meta.TransferSyntaxUID.is_deflated or not meta.TransferSyntaxUID.is_little_endian:
                raise DicomUnreadable(
                    "the file is deflated or big-endian", "export it as Explicit VR Little Endian"
                )
            dataset = pydicom.dcmread(path)
            _check_kind(dataset)
            _check_pixels(dataset, compressed=meta.TransferSyntaxUID.is_compressed)
    except OSError as error:
        raise DicomUnreadable(
            f"the file cannot be read ({error.strerror or 'cut off'})",
            "check its owner, and that it was copied whole",
        ) from None
    except DicomUnreadable:
        raise
    except Exception:  # a parser of damaged bytes raises of all kinds, and quotes them
        raise DicomUnreadable(
            "the file is damaged, cut off, or lacks what every image has",
            "export it again, and compare its size with the archive's",
        ) from None
    return dataset


def refuse_identifying_pixels(dataset: "Dataset", *, looked_at: bool = False) -> None:
    """Refuses an image whose pixels show who the patient is, or may well do so unsaid.

    ``looked_at``: a person has looked at all images of the folder, and none shows text or a face.
    It does not stand against an image that says itself that it does.

    Raises:
        BurnedInPixels: if so.
    """
    burned_in, faces = (
        {str(value).strip().upper() for value in _several(dataset.get(name))}
        for name in ("BurnedInAnnotation", "RecognizableVisualFeatures")
    )
    if "YES" in burned_in:
        raise BurnedInPixels(
            "BurnedInAnnotation (0028,0301) says that text is burned into the pixels",
            "leave the image out, or export it without annotation",
        )
    if "YES" in faces:
        raise BurnedInPixels(
            "RecognizableVisualFeatures (0028,0302) says that the patient can be recognised",
            "leave the image out, or deface it first",
        )
    if looked_at:
        return
    if (burned_in | faces) - {"NO", ""}:
        raise BurnedInPixels(
            "BurnedInAnnotation (0028,0301) or RecognizableVisualFeatures (0028,0302) says neither "
            "YES nor NO",
            _LOOK,
        )
    if "NO" in burned_in:
        return
    types = " ".join(map(str, dataset.get("ImageType", None) or ())).upper()
    screen = "SCREEN" in types or "CAPTURE" in types or "ConversionType" in dataset
    often = str(dataset.get("SOPClassUID", "")).startswith(_OFTEN_BURNED_IN)
    kind = str(dataset.get("Modality", "") or "").strip().upper()
    if screen or often or kind in _OFTEN_BURNED_IN_MODALITIES or kind not in _CODES["Modality"]:
        raise BurnedInPixels(
            "the image is of a kind that often has text in its pixels (ultrasound, capture, "
            "screenshot, photograph), and does not say that it has none",
            _LOOK,
        )


def deidentify(
    dataset: "FileDataset", key: PseudonymKey, *, looked_at: bool = False, pixels: bool = True,
    shift_dates: bool = False,
) -> "Dataset":  # fmt: skip
    """A new dataset with what may stay of an image that was `read`.

    ``pixels``: unpacks and keeps them. ``shift_dates``: keeps four dates, moved.

    Raises:
        BurnedInPixels: as `refuse_identifying_pixels` does.
        DicomUnreadable: if there is no patient's id, or pixels cannot be unpacked here.
    """
    with _quiet():
        refuse_identifying_pixels(dataset, looked_at=looked_at)
        patient = str(dataset.get("PatientID", "") or "").strip()
        if not patient:
            raise DicomUnreadable(
                "the image has no PatientID (0010,0020)", "export it with the id of your archive"
            )
        clean = _allowed(dataset)
        _apply_profile(clean, key)
        clean.PatientID = key.pseudonym(patient)
        if shift_dates:
            days = timedelta(days=key.shift_days(patient))
            for name in _DATES:
                with suppress(ValueError, TypeError, OverflowError):
                    day = datetime.strptime(str(dataset.get(name)), "%Y%m%d").date()
                    setattr(clean, name, f"{day + days:%Y%m%d}")
        if pixels:
            clean.PixelData = _plain_pixels(dataset)
            for name in _OF_PIXELS:  # as they are now, unpacked: a packed file's may say otherwise
                if name in dataset:
                    setattr(clean, name, dataset.get(name))
        _mark(clean, dates_shifted=shift_dates)
    return clean


def age_in_years(dataset: "Dataset") -> str | None:
    """PatientAge (0010,1010), like 063Y or 018M, in whole years; 90 for all over 89."""
    text = str(dataset.get("PatientAge", "") or "").strip().upper()
    if len(text) < 2 or not text[:-1].isascii() or not text[:-1].isdigit():
        return None
    days = {"Y": 365.25, "M": 30.4375, "W": 7.0, "D": 1.0}.get(text[-1])
    if days is None:
        return None
    years = int(text[:-1]) if text[-1] == "Y" else int(int(text[:-1]) * days / 365.25)
    return str(min(AGE_CATEGORY, years))


def _check_kind(dataset: "FileDataset") -> None:
    if not dataset.get("SOPClassUID"):
        raise DicomUnreadable(
            "the file is cut off, or says not what kind of image it is",
            "export it again, and compare its size with the archive's",
        )
    if str(dataset.SOPClassUID) not in KINDS:
        raise DicomUnreadable(
            "the file is no image of a kind that can be de-identified: encapsulated documents, "
            "reports, waveforms, whole slides and presentation states cannot",
            "leave it out of the folder",
        )
    if "PixelData" not in dataset or not dataset.get("SOPInstanceUID"):
        raise DicomUnreadable(
            "the image has no pixels, or no UID", "export it again with its pixels"
        )


def _bytes_declared(dataset: "FileDataset") -> int:
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    size = frames * int(dataset.Rows) * int(dataset.Columns) * int(dataset.SamplesPerPixel)
    if str(dataset.PhotometricInterpretation) == "YBR_FULL_422":
        size = size // 3 * 2
    return size * int(dataset.BitsAllocated) // 8


def _check_pixels(dataset: "FileDataset", *, compressed: bool) -> None:
    size = _bytes_declared(dataset)
    if not 0 < size <= MOST_BYTES or int(dataset.BitsAllocated) not in (8, 16, 32):
        raise DicomUnreadable(
            "the image declares no pixels, more than 1 GiB, or bits that fill no byte",
            "export single images of 8, 16 or 32 bits",
        )
    if (
        not compressed
        and str(dataset.PhotometricInterpretation) not in _CODES["PhotometricInterpretation"]
    ):
        raise DicomUnreadable(
            "the image has a palette, or colours of a kind that is not known",
            "export it in grey or RGB",
        )
    if not compressed and len(dataset.PixelData) != size + size % 2:
        raise DicomUnreadable(
            "the pixels are fewer or more than the image declares",
            "export it again, and compare its size with the archive's",
        )


def _allowed(dataset: "Dataset") -> "Dataset":
    from pydicom.dataset import Dataset

    clean = Dataset()
    for name in ("SOPClassUID", *_UIDS):
        if value := dataset.get(name):
            setattr(clean, name, str(value))
    for name in _NUMBERS.split():
        with suppress(ValueError, TypeError, AttributeError):
            value = dataset.get(name)
            numbers = [abs(float(number)) for number in _several(value)]
            if numbers and max(numbers) < _LARGEST_NUMBER:
                setattr(clean, name, value)
    for name, (low, high, places) in _BODY.items():
        with suppress(ValueError, TypeError):
            if low <= (number := float(dataset.get(name))) <= high:
                setattr(clean, name, str(round(number, places)))
    for name, known in _CODES.items():
        values = [str(value) for value in _several(dataset.get(name))]
        if name == "ImageType":
            values = [value for value in values if value in known]
        if values and known.issuperset(values):
            setattr(clean, name, values)
    if (years := age_in_years(dataset)) is not None:
        clean.PatientAge = f"{int(years):03d}Y"
    return clean


def _several(value: Any) -> list[Any]:
    """The values of an element, of one or several, or none."""
    if value is None or value == "":
        return []
    return [value] if isinstance(value, str | bytes) or not hasattr(value, "__iter__") else [*value]


def _apply_profile(clean: "Dataset", key: PseudonymKey) -> None:
    from dicomanonymizer import anonymize_dataset
    from pydicom.datadict import tag_for_keyword

    def keyed(within: "Dataset", tag: tuple[int, int]) -> None:
        if (element := within.get(tag)) is not None:
            element.value = key.uid(str(element.value))

    def retained(within: "Dataset", tag: tuple[int, int]) -> None:
        pass

    rules = {tag: keyed for tag, action in _profile().items() if action.__name__ == "replace_UID"}
    for name in _CHARACTERISTICS:
        tag = tag_for_keyword(name) or 0
        rules[tag >> 16, tag & 0xFFFF] = retained
    anonymize_dataset(clean, rules, base_rules_gen=lambda: dict(_profile()))


@cache
def _profile() -> dict[tuple[int, ...], Any]:
    from dicomanonymizer.simpledicomanonymizer import initialize_actions

    return dict(initialize_actions(PROFILE))


def _plain_pixels(dataset: "FileDataset") -> bytes:
    """Pixels unpacked, without what hides beside them: a stream's comments, unused high bits."""
    import numpy as np

    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        if "PlanarConfiguration" in dataset and syntax != _RLE:
            dataset.PlanarConfiguration = 0  # as PS3.5 8.2 says of them, whatever the header does
        try:
            dataset.decompress(generate_instance_uid=False)
            _check_pixels(dataset, compressed=False)
        except Exception:  # decoders raise of all kinds, and their texts may hold the file's bytes
            raise DicomUnreadable(
                "the pixels are packed in a way that cannot be unpacked here",
                "export the images uncompressed (Explicit VR Little Endian)",
            ) from None
    allocated, stored = int(dataset.BitsAllocated), int(dataset.BitsStored)
    if not 0 < stored <= allocated or int(dataset.HighBit) != stored - 1:
        raise DicomUnreadable(
            "the pixels are not in the low bits of their words",
            "export the images uncompressed (Explicit VR Little Endian)",
        )
    kind = "i" if int(dataset.PixelRepresentation) else "u"
    content = bytes(dataset.PixelData)[: _bytes_declared(dataset)]
    words = np.frombuffer(content, dtype=f"<{kind}{allocated // 8}")
    unused = allocated - stored  # where old overlays are
    plain = ((words << unused) >> unused).tobytes()
    return plain + b"\0" * (len(plain) % 2)


def _mark(clean: "Dataset", *, dates_shifted: bool) -> None:
    """Says in the image what was done (0012,0062 to 0012,0064), and makes its file's head."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import PYDICOM_IMPLEMENTATION_UID, ExplicitVRLittleEndian

    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = METHOD
    codes = []
    for value, scheme, meaning in (
        _PROFILE_CODE, _RETAINED_CODE, *([_DATES_CODE] if dates_shifted else []),
    ):  # fmt: skip
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
        codes.append(code)
    clean.DeidentificationMethodCodeSequence = codes
    clean.LongitudinalTemporalInformationModified = "MODIFIED" if dates_shifted else "REMOVED"
    clean.file_meta = FileMetaDataset()
    clean.file_meta.MediaStorageSOPClassUID = clean.SOPClassUID
    clean.file_meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    clean.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    clean.file_meta.ImplementationClassUID = PYDICOM_IMPLEMENTATION_UID


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps pydicom from telling: its warnings and log lines quote values."""
    logger = logging.getLogger("pydicom")
    before, logger.disabled = logger.disabled, True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.disabled = before
