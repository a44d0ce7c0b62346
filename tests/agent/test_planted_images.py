"""A folder of DICOM images with labels as a source: pseudonyms only, and refusals by place."""

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import ok, refused
from dicom_examples import SECRETS, image, written
from pydicom import dcmread

from hospital_agent.errors import TableUnreadable
from hospital_agent.folder import HospitalFolder
from hospital_agent.sources.csv_file import CsvFile
from hospital_agent.sources.dicom import HEADER, DicomSource, Images
from privacy.deidentification.pseudonyms import PseudonymKey
from privacy.errors import BurnedInPixels, DicomUnreadable

KEY = PseudonymKey(bytes(range(32)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    where = tmp_path / "images"
    written(where / "wyrzykowski" / "a.dcm", image(PatientID="MRN1", PatientAge="093Y"))
    written(where / "b.dcm", image(PatientID="MRN2", PatientSex="F", PatientWeight="81.5"))
    written(where / "DICOMDIR", image(SOPClassUID="1.2.840.10008.1.3.10"))
    return where


def source(folder: Path, labels: str, *, looked_at: bool = False) -> DicomSource:
    path = folder.with_name("labels.csv")
    path.write_text(labels)
    return DicomSource(Images(folder, KEY, looked_at=looked_at), CsvFile(path))


def table(found: DicomSource, columns: list[str] | None = None) -> pd.DataFrame:
    return pd.concat(list(found.chunks(columns)), ignore_index=True)


def test_labels_are_joined_by_file_or_by_patient(folder: Path) -> None:
    by_file = source(folder, "file,label,patient\nwyrzykowski/a.dcm,1,MRN1\nb.dcm,0,\n")
    assert by_file.kind == "dicom"
    assert by_file.columns() == ["patient", "label", *HEADER]
    frame = table(by_file)
    assert frame.to_dict("list") == {
        "patient": [KEY.pseudonym("MRN1"), KEY.pseudonym("MRN2")], "label": ["1", "0"],
        "PatientAge": ["90", "63"], "PatientSex": ["M", "F"], "PatientSize": [None, None],
        "PatientWeight": [None, "81.5"],
    }  # fmt: skip
    by_patient = source(folder, "patient,label\nMRN2,0\nMRN1,1\n")
    expected = frame.iloc[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(table(by_patient), expected)
    picked = table(by_patient, ["PatientAge", "label"])
    assert picked.to_dict("list") == {"PatientAge": ["63", "90"], "label": ["0", "1"]}


def test_pixels_come_with_pseudonyms(folder: Path) -> None:
    arrays = list(Images(folder, KEY).arrays())
    assert [name for name, _ in arrays] == [KEY.pseudonym("MRN2"), KEY.pseudonym("MRN1")]
    assert all(array.shape == (8, 8) and array.max() == 63 for _, array in arrays)


@pytest.mark.parametrize(
    "labels",
    ["name,label\nx,1\n", "file,label\nb.dcm,1\nother.dcm,0\n", "patient,label\n,1\nMRN1,0\n",
     "file,patient,label\nb.dcm,MRN1,1\n", "file,label\n../labels.csv,1\nb.dcm,0\n",
     "file,PatientAge\nb.dcm,1\n"],
)  # fmt: skip
def test_labels_that_do_not_fit_the_images_are_refused(folder: Path, labels: str) -> None:
    with pytest.raises(TableUnreadable):
        table(source(folder, labels))


def test_an_image_is_refused_by_its_place_alone(folder: Path) -> None:
    written(folder / "wyrzykowski" / "c.dcm", image(PatientID="MRN3", BurnedInAnnotation="YES"))
    with pytest.raises(BurnedInPixels) as burned:
        table(source(folder, "patient,label\nMRN1,1\nMRN2,0\n"))
    assert burned.value.what.startswith("image 3 of 3, in the order of names: Burned")
    (folder / "wyrzykowski" / "c.dcm").write_bytes(b"no image")
    with pytest.raises(DicomUnreadable) as unreadable:
        table(source(folder, "file,label\nb.dcm,0\n"))
    for error in (burned.value, unreadable.value):
        said = error.what + error.resolve
        assert not any(text in said for text in (*SECRETS.values(), "wyrzyk", "MRN", "c.dcm"))


def test_a_folder_that_cannot_be_read_is_not_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_file", closed)  # as without the right to look into a folder
    with pytest.raises(DicomUnreadable) as refusal:
        table(source(folder, "file,label\nb.dcm,0\n"))
    assert "wyrzyk" not in refusal.value.what + refusal.value.resolve


def test_images_of_one_patient_must_agree_when_labelled_by_patient(folder: Path) -> None:
    written(folder / "later.dcm", image(PatientID="MRN2", PatientSex="F", PatientAge="064Y"))
    with pytest.raises(DicomUnreadable, match="PatientAge"):
        table(source(folder, "patient,label\nMRN1,1\nMRN2,0\n"))
    assert len(table(source(folder, "file,label\nlater.dcm,1\nb.dcm,0\n"))) == 2


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DicomUnreadable, match="no file"):
        table(source(tmp_path / "images", "file,label\na.dcm,1\n"))


def test_a_copy_of_images_is_whole_or_not_there(folder: Path, tmp_path: Path) -> None:
    hospital = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    command = (
        "hospital-agent",
        "images",
        folder,
        "--task",
        "heart-disease",
        "--home",
        hospital.path,
    )
    clean = tmp_path / "clean"
    done = ok(*command, "--out", clean, "--shift-dates", "--format", "json")
    assert json.loads(done.out)["images"] == "fewer than 5"
    assert sorted(path.name for path in clean.iterdir()) == ["image-000001.dcm", "image-000002.dcm"]
    everything = b"".join(path.read_bytes() for path in clean.iterdir())
    everything += (done.out + done.err).encode()
    assert [text for text in SECRETS.values() if text.encode() in everything] == []
    first = dcmread(clean / "image-000001.dcm")
    assert first.PatientID == hospital.pseudonym_key("heart-disease").pseudonym("MRN2")
    again = tmp_path / "again"
    ok(*command, "--out", again)
    second = dcmread(again / "image-000001.dcm")
    assert second.SOPInstanceUID == first.SOPInstanceUID
    assert "StudyDate" in first
    assert "StudyDate" not in second
    refused("OptionInvalid", *command, "--out", again)
    written(folder / "z.dcm", image(BurnedInAnnotation="YES"))
    refused("BurnedInPixels", *command, "--out", tmp_path / "third", "--pixels-looked-at")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["again", "clean", "h", "images"]
    (hospital.path / "pseudonyms" / "heart-disease.key").chmod(0o640)
    refused("PseudonymKeyInvalid", *command, "--out", tmp_path / "third")


def test_a_person_who_has_looked_lets_ultrasound_in(folder: Path) -> None:
    ultrasound = image(PatientID="MRN3", Modality="US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1")
    written(folder / "us.dcm", ultrasound)
    labels = "file,label\nus.dcm,1\nb.dcm,0\n"
    with pytest.raises(BurnedInPixels) as refused:
        table(source(folder, labels))
    assert "--pixels-looked-at" in refused.value.resolve
    assert len(table(source(folder, labels, looked_at=True))) == 2
