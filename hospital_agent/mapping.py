"""The mapping file: what a source's names, units and codes mean in the task's.

TOML, with one section for each column of the task that the source calls or counts otherwise:

    patient = "pat_no"                # names the patient; read to find repeated ones, never stored
    rows = "last"                     # of several rows of a patient: first, last or mean

    [source]                          # how the source is read, where it is not the usual
    delimiter = ";"
    decimal = ","

    [columns.chol]
    from = "cholesterol"
    unit = "mmol/L"
    molar_mass = "386.65 g/mol"       # to mg/dL: of what is measured

    [columns.sex]
    from = "gender"
    values = { male = 1, female = 0 }

Nothing is guessed: a column without a section has the task's own name, unit and codes, a code that
``values`` does not list is an error, and so is a unit that cannot be converted. What no section and
no task names is dropped. See docs/data.md for an example of each kind of source.
"""

import tomllib
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from consortium.tasks.task import Task
from hospital_agent.errors import MappingFileInvalid
from hospital_agent.sources.source import cell

MOST_BYTES: Final = 2**20
Kind = Literal["csv", "parquet", "sql", "omop", "fhir", "dicom", "png"]
Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Code = Annotated[str | int, Field(union_mode="left_to_right")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceOptions(_Form):
    """How a source is read. ``cohort``: the OMOP cohort_definition_id of the patients to take."""

    kind: Kind | None = None
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ","
    encoding: Name = "utf-8"
    decimal: Literal[".", ","] = "."
    schema_name: Name | None = Field(default=None, alias="schema")
    cohort: int | None = None


class ColumnMapping(_Form):
    """Where one column of the task comes from, and what its values mean there.

    One of: ``from``, a column of a table; ``measurement``, ``observation`` or ``condition``,
    concept ids (OMOP) or "system|code" (FHIR); ``person``, what is known of the patient. Of several
    values of a patient ``take`` chooses, among those from ``since`` to ``until``; an age is that
    ``at`` a day.
    What ``missing`` lists means that there is no value.
    Then the value is looked up in ``values``, or converted from ``unit`` (of each row: the one in
    the column ``unit_from``), by ``molar_mass`` between amount and mass, and compared with
    ``above``: 1 over it, else 0; what is not from ``low`` to ``high`` cannot have been measured.
    """

    origin: Name | None = Field(default=None, alias="from")
    measurement: tuple[Code, ...] = ()
    observation: tuple[Code, ...] = ()
    condition: tuple[Code, ...] = ()
    person: Literal["gender", "age"] | None = None
    take: Literal["first", "newest"] | None = None
    since: date | None = None
    until: date | None = None
    at: date | None = None
    unit: Name | None = None
    unit_from: Name | None = None
    molar_mass: Name | None = None
    values: dict[str, float] | None = None
    missing: tuple[Code, ...] = ()
    above: Name | None = None
    low: Name | None = None
    high: Name | None = None

    @property
    def events(self) -> tuple[Code, ...]:
        """The codes of a measurement, observation or condition."""
        return self.measurement or self.observation or self.condition

    @property
    def coded(self) -> bool:
        """Whether its values are codes, which pass only as what the mapping says they are."""
        return self.values is not None


class Mapping(_Form):
    """A mapping file. ``rows``: which of several rows of a ``patient`` counts."""

    patient: Name | None = None
    rows: Literal["first", "last", "mean"] | None = None
    source: SourceOptions = SourceOptions()
    columns: dict[str, ColumnMapping] = {}

    def column(self, name: str) -> ColumnMapping:
        """Where a column of the task comes from: by default from the column that is called so."""
        return self.columns.get(name) or ColumnMapping.model_validate({"from": name})

    def origin(self, name: str) -> str:
        """What the source calls a column of the task; OMOP and FHIR call it as the task does."""
        return self.column(name).origin or name


def read_mapping(path: Path | None, task: Task) -> Mapping:
    """The mapping in a file, checked against the task; without a file one that changes nothing.

    Raises:
        MappingFileInvalid: naming the line or the field.
    """
    if path is None:
        return Mapping()
    try:
        if path.stat().st_size > MOST_BYTES:
            raise _invalid("it is longer than any mapping", "name the mapping file with --mapping")
        mapping = Mapping.model_validate(tomllib.loads(path.read_text("utf-8")))
    except OSError as error:
        raise _invalid(f"it cannot be read ({error.strerror})", "check the path") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        said = str(error) if isinstance(error, tomllib.TOMLDecodeError) else "not UTF-8"
        raise _invalid(f"it is not TOML: {said}", "see the examples in docs/data.md") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise _invalid(f"{field}: {first['msg'].lower()}", "see docs/data.md") from None
    _check(mapping, task)
    return mapping


def _check(mapping: Mapping, task: Task) -> None:
    wanted = columns_of(task)
    for name, column in mapping.columns.items():
        where = f"columns.{name}"
        if name not in wanted:
            raise _invalid(
                f"{where}: the task {task.name} has no such column",
                f"its columns are {', '.join(wanted)}",
            )
        origins = (column.origin, column.measurement, column.observation, column.condition)
        if sum(map(bool, (*origins, column.person))) != 1:
            raise _invalid(
                f"{where} does not say where it comes from, or says it twice",
                "give one of: from, measurement, observation, condition, person",
            )
        if (column.measurement or column.observation) and column.take is None:
            raise _invalid(
                f"{where} does not say which of a patient's values counts",
                'add take = "newest" or take = "first"',
            )
        if column.condition and column.values is None:
            raise _invalid(
                f"{where} does not say what a condition that is there, or is not, means",
                "add values = { present = 1, absent = 0 }, if no record of it means no disease",
            )
        if (column.person == "age") != (column.at is not None):
            raise _invalid(
                f"{where}: an age is that on a day, and nothing else is",
                "add at = 2024-12-31, the day on which the age counts; or leave it out",
            )
        if both := sorted(set(column.values or ()) & set(column.missing)):
            raise _invalid(
                f"{where}: {both[0]!r} is in values and in missing", "leave it in one of them"
            )
        if nothing := sorted(code for code in column.values or () if cell(code) is None):
            raise _invalid(
                f"{where}: values lists {nothing[0]!r}, which means that there is no value",
                "leave it out: it counts as missing already",
            )
        if column.coded and (column.unit or column.unit_from or column.above):
            raise _invalid(f"{where}: codes have no unit", "leave out values, or unit and above")
        if not bool(column.above) == bool(column.low) == bool(column.high):
            raise _invalid(
                f"{where}: above needs low and high, and nothing else does",
                'add what can be measured at all, like low = "20 mg/dL", high = "1500 mg/dL": '
                "a code for a missing value would become 0 or 1",
            )
        if column.unit is not None and column.unit_from is not None:
            raise _invalid(f"{where} names two units", "leave out unit or unit_from")


def columns_of(task: Task) -> tuple[str, ...]:
    """The task's columns: its features, then the outcome."""
    return (*(feature.name for feature in task.features), task.label)


def how_to_map(name: str, kind: str) -> str:
    """How a column that the source calls otherwise is mapped, to be shown with an error."""
    if kind == "omop":
        origin = 'measurement = [CONCEPT_ID], take = "newest"'
    elif kind == "fhir":
        origin = 'observation = ["http://loinc.org|CODE"], take = "newest"'
    else:
        return (
            f"call it so in the source, or say in a mapping file what it is called there: "
            f'[columns.{name}] from = "ITS NAME"'
        )
    return f"say in the mapping file what it is: [columns.{name}] {origin}"


def _invalid(what: str, resolve: str) -> MappingFileInvalid:
    return MappingFileInvalid(f"the mapping file: {what}", resolve)
