"""Heart disease: four real hospitals, FLamby's protocol (Ogier du Terrail et al. 2022).

The UCI set of Janosi, Steinbrunn, Pfisterer and Detrano (1989, CC BY 4.0); the repository holds no
patient: `consortium.data_fetch` fetches the files, or `data_dir` names a folder that has them.

Protocol: slope, ca and thal are left out, then rows that still miss a value; 740 stay (303, 261,
46, 130). Each hospital's test part is FLamby's: 34 % drawn with random_state 43, stratified where
both classes have more than 2. Unlike FLamby, a validation part is taken out of the training part,
cholesterol and blood pressure of 0 count as missing (every Swiss cholesterol is 0: kept, it would
be a fingerprint of the site), and inputs are scaled by fixed clinical constants, not per hospital.

The travel was chosen by validation accuracy and AUROC over 60 draws of validation parts (seeds 1000
to 1059) out of FLamby's training parts, never on its test parts: 16 to 64 differ by less than .01.
Centring the 0/1 columns at one half was chosen likewise.
"""

import hashlib
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from consortium.tasks.errors import DataCorrupt, DataMissing, TaskUnknown
from consortium.tasks.schema import Table, categorical, numeric
from consortium.tasks.task import Recipe, Site, Split, Task, declared, draw

if TYPE_CHECKING:
    import pandas as pd

LABEL: Final = "disease"
FLAMBY_TEST_SHARE: Final = 0.34
FLAMBY_SEED: Final = 43
_VALIDATION_SHARE: Final = 0.20

FEATURES: Final = (
    numeric("age", "years", "0", "120", "55", "10", quasi_identifier=(5, 10, 20, 40)),
    numeric("sex", "(1 male)", "0", "1", "0.5", "1", quasi_identifier=()),
    numeric("trestbps", "mmHg", "40", "300", "130", "20"),
    numeric("chol", "mg/dl", "50", "1000", "240", "60"),
    numeric("fbs", "(1 above 120 mg/dl)", "0", "1", "0.5", "1"),
    numeric("thalach", "beats/min", "30", "250", "140", "25"),
    numeric("exang", "(1 yes)", "0", "1", "0.5", "1"),
    numeric("oldpeak", "mm", "-10", "15", "1", "1"),
    categorical("cp", "type of chest pain", 1, 2, 3, 4),
    categorical("restecg", "resting ECG", 0, 1, 2),
)

COLUMNS: Final = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak"),
    *("slope", "ca", "thal", "num"),
)
_LEFT_OUT: Final = ["slope", "ca", "thal"]


@dataclass(frozen=True)
class Source:
    """One hospital's published file. rows: in the file; kept: after the protocol's filter."""

    site: str
    title: str
    file: str
    rows: int
    kept: int
    md5: str


SOURCES: Final = (
    Source(
        "cleveland",
        "Cleveland Clinic Foundation",
        "processed.cleveland.data",
        303,
        303,
        "2d91a8ff69cfd9616aa47b59d6f843db",
    ),
    Source(
        "budapest",
        "Hungarian Institute of Cardiology, Budapest",
        "processed.hungarian.data",
        294,
        261,
        "22e96bee155b5973568101c93b3705f6",
    ),
    Source(
        "zurich-basel",
        "University Hospitals Zurich and Basel",
        "processed.switzerland.data",
        123,
        46,
        "9a87f7577310b3917730d06ba9349e20",
    ),
    Source(
        "long-beach",
        "V.A. Medical Center, Long Beach",
        "processed.va.data",
        200,
        130,
        "4249d03ca7711e84f4444768c9426170",
    ),
)


def load(data_dir: Path | None = None, hospitals: int | None = None) -> list[Site]:
    """The four hospitals from the UCI files in `data_dir`.

    Raises DataMissing, DataCorrupt, or TaskUnknown for a number of hospitals other than four.
    """
    if hospitals not in (None, len(SOURCES)):
        raise TaskUnknown(
            f"heart-disease does not come for {hospitals!r} hospitals",
            "its four hospitals are real; leave the number out",
        )
    if data_dir is None:
        raise DataMissing(
            "heart-disease needs the folder that holds the UCI files",
            "run `consortium data fetch heart-disease`, or name the folder with --data-dir",
        )
    train_share = (1 - FLAMBY_TEST_SHARE) * (1 - _VALIDATION_SHARE)
    return [
        Site(
            source.site,
            source.title,
            _cohort(read(data_dir, source)),
            declared(source.kept, train_share),
        )
        for source in SOURCES
    ]


def divide(site: Site, seed: int) -> Split:
    """FLamby's test part whatever the seed; a fifth of the rest, by seed, for validation."""
    from sklearn.model_selection import train_test_split  # the published split, and nothing else

    labels = site.frame[LABEL]
    counts = labels.value_counts()
    stratify = labels if len(counts) > 1 and counts.min() > 2 else None
    rest, test = train_test_split(
        site.frame, test_size=FLAMBY_TEST_SHARE, random_state=FLAMBY_SEED, stratify=stratify
    )
    validation = draw(rest[LABEL].tolist(), _VALIDATION_SHARE, seed)
    return Split(rest[~validation], rest[validation], test)


def read(data_dir: Path, source: Source) -> "pd.DataFrame":
    """All rows of one published file, raw columns, NaN for "?".

    Line endings may differ from the published file's, nothing else. Raises DataMissing, or
    DataCorrupt that says whether columns, numbers or rows are wrong.
    """
    import pandas as pd

    path = data_dir / source.file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataMissing(
            f"{source.file} is not readable in the data folder ({type(error).__name__})",
            "run `consortium data fetch heart-disease`, or point --data-dir at the folder with the "
            "UCI files",
        ) from error
    lines = content.splitlines()
    table = [_row(source, number, line) for number, line in enumerate(lines, start=1)]
    if len(table) != source.rows:
        raise _corrupt(source, f"it holds {len(table)} rows, the published file {source.rows}")
    unified = b"".join(line + b"\n" for line in lines)
    if source.md5 not in (_md5(content), _md5(unified)):
        raise _corrupt(source, "its md5 is not that of the published file")
    return pd.DataFrame(table, columns=list(COLUMNS))


def _row(source: Source, number: int, line: bytes) -> list[float]:
    cells = line.decode("ascii", errors="replace").split(",")
    if len(cells) != len(COLUMNS):
        raise _corrupt(
            source, f"line {number} has {len(cells)} columns, the published file {len(COLUMNS)}"
        )
    values = []
    for name, cell in zip(COLUMNS, cells, strict=True):
        try:
            values.append(np.nan if cell.strip() == "?" else float(cell))
        except ValueError:
            raise _corrupt(source, f"line {number}, column {name} is not a number") from None
    return values


def _cohort(table: "pd.DataFrame") -> "pd.DataFrame":
    frame = table.drop(columns=_LEFT_OUT).dropna().reset_index(drop=True)
    for name in ("chol", "trestbps"):
        frame[name] = frame[name].where(frame[name] > 0)
    frame[LABEL] = (frame.pop("num") > 0).astype(int)
    return frame


def _corrupt(source: Source, what: str) -> DataCorrupt:
    return DataCorrupt(
        f"{source.file}: {what}",
        "the file is truncated or changed; fetch it again: consortium data fetch heart-disease",
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


HEART_DISEASE: Final = Task(
    name="heart-disease",
    title="Heart disease: narrowing of a coronary artery",
    inputs=Table(FEATURES),
    label=LABEL,
    recipe=Recipe(
        rounds=10,
        total_steps=20,
        travel=Decimal(40),
        clip=Decimal(1),
        clipping="automatic",
    ),
    load=load,
    divide=divide,
    delta=Decimal("0.001"),
    needs_files=True,
)
