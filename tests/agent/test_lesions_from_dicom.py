"""The lesion task on DICOM readers: what a hospital adds from images is what the task knows."""

from pathlib import Path

import numpy as np
import pandas as pd
from commands import ok
from dicom_examples import image, written

from consortium import tasks
from consortium.tasks.image import IMAGE
from consortium.tasks.lesion_image import SCANNERS, generate
from hospital_agent.cohort import PARTS, Cohort
from hospital_agent.folder import HospitalFolder


def test_a_hospital_adds_its_lesions_from_dicom(tmp_path: Path) -> None:
    task, patients = tasks.get("lesion-image"), generate(SCANNERS[0], 40, seed=1)
    (tmp_path / "images").mkdir()
    for place, grey in enumerate(patients[IMAGE]):
        pixels = np.repeat(np.repeat(grey, 4, axis=0), 4, axis=1).astype("<u2")
        written(
            tmp_path / "images" / f"{place}.dcm",
            image(
                PatientID=f"MRN44{place:05d}", Rows=96, Columns=96, PixelData=pixels.tobytes(),
                Modality="CR",
            ),
        )  # fmt: skip
    pd.DataFrame(
        {"patient": [f"MRN44{i:05d}" for i in range(40)], "lesion": patients["lesion"]}
    ).to_csv(tmp_path / "labels.csv", index=False)
    folder = HospitalFolder.create(tmp_path / "h", "hospital-1", "Hospital 1")
    said = ok(
        "hospital-agent", "data", "add", "skin", "--task", task.name,
        "--source", tmp_path / "images", "--labels", tmp_path / "labels.csv",
        "--declared-patients", "25", "--home", folder.path,
    ).out  # fmt: skip
    assert "lesion-image" in said
    cohort = Cohort.open(folder, task.name)
    found = pd.concat([cohort.frame(part) for part in PARTS])
    expected = {grey.tobytes(): lesion for grey, lesion in patients.itertuples(index=False)}
    assert {g.tobytes(): n for g, n in found.itertuples(index=False)} == expected
    x, _ = cohort.tensors("train")
    assert x.shape[1:] == (1, 24, 24)
