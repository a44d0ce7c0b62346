"""Which kind of source an address is, and the source itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from consortium.errors import OptionInvalid
from hospital_agent.errors import LabelsMissing, SourceUnsupported, TableUnreadable
from hospital_agent.mapping import Mapping
from hospital_agent.sources.csv_file import CsvFile
from hospital_agent.sources.dicom import DicomSource, Images
from hospital_agent.sources.fhir import FhirExport
from hospital_agent.sources.omop import OmopDatabase
from hospital_agent.sources.parquet import ParquetFile
from hospital_agent.sources.png import PngFolder
from hospital_agent.sources.source import Source
from hospital_agent.sources.sql import Database, SqlQuery
from privacy.deidentification.pseudonyms import PseudonymKey

_BY_SUFFIX: Final = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".parquet": "parquet", ".ndjson": "fhir",
    ".json": "fhir",
}  # fmt: skip


@dataclass(frozen=True)
class Address:
    """Where patients' data is: ``source`` a file, a folder or a database, and what belongs to it.

    ``pixels_looked_at``: a person has looked at all images, and none shows text or a face.
    """

    source: str
    query: Path | None = None
    labels: Path | None = None
    password_file: Path | None = None
    pixels_looked_at: bool = False


def open_source(address: Address, mapping: Mapping) -> Source:
    """The source at an address.

    Raises:
        SourceUnsupported: if it is none that there is.
        OptionInvalid: if a query or labels are missing, or are of no use.
        AgentError: if it cannot be opened.
    """
    kind = mapping.source.kind or _kind(address)
    if address.query is not None and kind != "sql":
        raise OptionInvalid(f"a {kind} source takes no --query", "leave it out")
    if address.labels is not None and kind not in ("dicom", "png"):
        raise OptionInvalid(f"a {kind} source takes no --labels", "leave it out")
    path = Path(address.source)
    match kind:
        case "csv":
            return _csv(path, mapping)
        case "parquet":
            return ParquetFile(path)
        case "fhir":
            return FhirExport(path, mapping)
        case "omop":
            return OmopDatabase(_database(address), mapping)
        case "sql":
            if address.query is None:
                raise OptionInvalid(
                    "it is not clear what to ask the database for",
                    "give --query FILE.sql; for an OMOP database, write into the mapping file, "
                    'under [source]: kind = "omop"',
                )
            return SqlQuery(_database(address), _text(address.query))
        case _:
            if address.labels is None:
                raise LabelsMissing(
                    "a folder of images does not say which patients have the outcome",
                    "give --labels FILE.csv with a column `file` or `patient`, and the outcome's",
                )
            labels = _csv(address.labels, mapping)
            if kind == "png":
                return PngFolder(path, labels, looked_at=address.pixels_looked_at)
            # Pseudonyms only tell patients apart while rows are read; none is stored.
            images = Images(path, PseudonymKey.make(), looked_at=address.pixels_looked_at)
            return DicomSource(images, labels)


def _kind(address: Address) -> str:
    if "://" in address.source:
        return "sql"
    path = Path(address.source)
    if path.is_dir():
        if any(path.glob("*.ndjson")):
            return "fhir"
        pngs = any(path.rglob("*.[pP][nN][gG]"))
        return "png" if pngs and not any(map(_is_dicom, path.rglob("*"))) else "dicom"
    kind = _BY_SUFFIX.get(path.suffix.lower())
    if kind is None:
        raise SourceUnsupported(
            f"data cannot be read from {path.suffix[:20] or 'this'!r}",
            "give a CSV, Parquet, FHIR NDJSON or JSON file, a folder of NDJSON files or of images, "
            "or a database like postgresql://USER@HOST/DATABASE",
        )
    return kind


def _is_dicom(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:  # a folder, or one that cannot be read: its reader will say so
        return False


def _csv(path: Path, mapping: Mapping) -> CsvFile:
    return CsvFile(path, mapping.source.delimiter, mapping.source.encoding)


def _database(address: Address) -> Database:
    return Database(address.source, address.password_file)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise TableUnreadable("the query's file cannot be read", "check --query") from None
