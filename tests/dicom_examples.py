"""Small DICOM images with identifiers planted wherever a header has room for them."""

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

SECRETS = {
    "PatientName": "Wyrzykowski^Zbigniew", "PatientID": "MRN7712345",
    "OtherPatientNames": "Zbysio^W", "PatientBirthDate": "19280517",
    "PatientAddress": "Bahnhofstrasse 12 Entenhausen",
    "PatientTelephoneNumbers": "+41 44 268 12 34", "PatientMotherBirthName": "Kowalczykowa",
    "MedicalRecordLocator": "LOC-55123", "MilitaryRank": "Obergefreiter",
    "Occupation": "Bellmaker", "AccessionNumber": "ACC9981234", "StudyID": "ST-44182",
    "InstitutionName": "Klinik Sonnenhof", "InstitutionAddress": "Sonnenweg 3",
    "ReferringPhysicianName": "Okonkwo^Adaeze", "PerformingPhysicianName": "Sinclair^Moira",
    "OperatorsName": "Quillfeather^B", "StationName": "STATION-XR7",
    "DeviceSerialNumber": "SN-99A1B2", "ProtocolName": "protocol of Wyrzykowski",
    "StudyDescription": "chest of Mr Wyrzykowski", "SeriesDescription": "taken for Dr Okonkwo",
    "ImageComments": "call 555-0199 first", "PatientComments": "lives with a parrot",
    "AdditionalPatientHistory": "fell in the Tatra mountains", "StudyDate": "20191123",
    "StudyTime": "143052", "SeriesDate": "20191124", "AcquisitionDate": "20191125",
    "ContentDate": "20191126", "AcquisitionDateTime": "20191125143059",
    "IssuerOfPatientID": "KSONNENHOF", "RequestingPhysician": "Tremblay^Odile",
    "BodyPartExamined": "WYRZYKOWSKI", "InstanceNumber": "4155552671",
}  # fmt: skip
"""Elements of the standard, each with a value that must be nowhere afterwards."""

HIDDEN = ("preamble-secret", "private-secret", "nested-secret", "overlay-secret", "curve-secret",
          "trailing-secret", "metainfo-secret")  # fmt: skip
"""Values in other places: see `image`."""


def image(secret: bool = True, **changes: object) -> Dataset:
    """A chest radiograph of 8 x 8 pixels, 12 of 16 bits used; ``changes`` are of its elements."""
    one = Dataset()
    one.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    one.SOPInstanceUID, one.StudyInstanceUID, one.SeriesInstanceUID = (
        generate_uid() for _ in range(3)
    )
    one.Modality, one.PatientID, one.PatientAge, one.PatientSex = "CR", "p1", "063Y", "M"
    one.Rows = one.Columns = 8
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelSpacing = [0.2, 0.2]
    one.PixelData = np.arange(64, dtype="<u2").tobytes()
    one.file_meta = FileMetaDataset()
    one.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    if secret:
        for name, value in SECRETS.items():
            setattr(one, name, value)
        block = one.private_block(0x0011, "ACME private-secret", create=True)
        block.add_new(1, "LO", "private-secret")
        nested = Dataset()
        nested.PatientName = nested.CodeMeaning = "nested-secret"
        one.RequestAttributesSequence = one.ProcedureCodeSequence = [nested]
        one.add_new(0x60003000, "OW", b"overlay-secret")
        one.add_new(0x60004000, "LT", "overlay-secret")
        one.add_new(0x50003000, "OW", b"curve-secret")
        one.DataSetTrailingPadding = b"trailing-secret\0"
        one.file_meta.SourceApplicationEntityTitle = "metainfo-secret"
        one.preamble = b"preamble-secret".ljust(128, b"\0")
    for name, value in changes.items():
        if value is None:
            del one[name]
        else:
            setattr(one, name, value)
    one.file_meta.MediaStorageSOPClassUID = one.get("SOPClassUID", "1.2")
    one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
    return one


def written(path: Path, dataset: Dataset) -> Path:
    """The image as a file of PS3.10."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path
