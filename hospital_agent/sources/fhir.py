"""FHIR R4: Patients with their Observations and Conditions, out of a Bundle or NDJSON.

One row for each Patient. NDJSON (a file, or the folder of a bulk export) is read line by line, so
memory grows with patients and not with what is said of them; a Bundle is one JSON text, read whole
up to `MOST_OF_A_BUNDLE`. What the mapping names by "system|code" becomes a column, with the UCUM
unit of each value beside it; every other element is looked at for identifiers and dropped.

What counts: Observations of the patient that are not cancelled or entered in error, of the
mapping's days, and of these the first or newest by its date (one without a date is older than all);
Conditions that are not refuted or entered in error: "present", or "unconfirmed" where none is
confirmed, which the mapping must say the meaning of; and "absent" where there is none.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hospital_agent.errors import (
    FhirInvalid,
    MappingFileInvalid,
    SourceEmpty,
    SourceTooLarge,
    TableUnreadable,
)
from hospital_agent.mapping import ColumnMapping, Mapping
from hospital_agent.sources import fhir_version
from hospital_agent.sources.source import MOST_CELLS, frame_of, rows_of_a_chunk

if TYPE_CHECKING:
    import pandas as pd

PATIENT: Final = "patient"
MOST_OF_A_BUNDLE: Final = 256 * 2**20
_LONGEST_LINE: Final = 16 * 2**20
_UCUM: Final = "http://unitsofmeasure.org"
_NOT_SO: Final = frozenset({"entered-in-error", "cancelled", "refuted"})
_REFERENCE: Final = re.compile(r"(?:^|/)(Patient/[A-Za-z0-9.-]{1,64})(?:/_history/.*)?$")
_NO_CONTENT: Final = frozenset({"system", "url", "use", "resourceType"})
_VALUES: Final = ("valueQuantity", "valueInteger", "valueBoolean", "valueCodeableConcept",
                  "valueString")  # fmt: skip

_Resource = dict[str, Any]
_Value = tuple[str, str | None, str | None]
"""When, what, and in which unit."""


class FhirExport:
    """One export."""

    kind = "fhir"

    def __init__(self, path: Path, mapping: Mapping) -> None:
        self._path = path
        self._mapped = {n: c for n, c in mapping.columns.items() if c.origin is None}
        self._by_code: dict[str, list[str]] = defaultdict(list)
        for name, column in self._mapped.items():
            for code in column.events:
                if not isinstance(code, str) or "|" not in code:
                    raise MappingFileInvalid(
                        f"the mapping file: columns.{name} holds a code without its system",
                        'write it like "http://loinc.org|2093-3"',
                    )
                self._by_code[code].append(name)

    def columns(self) -> list[str]:
        """The patient, the mapping's columns, their units, and the elements that are dropped.

        Raises:
            TableUnreadable: if it is no FHIR.
            FhirVersionUnsupported: if it is not R4.
        """
        units = [f"{n}.unit" for n, c in self._mapped.items() if c.observation and not c.coded]
        return [PATIENT, *self._mapped, *units, *self._gathered.elements]

    def chunks(self, columns: Sequence[str] | None = None) -> "Iterator[pd.DataFrame]":
        """One row for each Patient, as `Source.chunks` describes them; dropped elements empty."""
        wanted = self.columns() if columns is None else list(columns)
        rows = self._gathered.rows()
        size = rows_of_a_chunk(len(wanted))
        for start in range(0, len(rows), size):
            some = rows[start : start + size]
            yield frame_of(wanted, [[row.get(name) for row in some] for name in wanted])

    def others(self) -> "Iterator[pd.DataFrame]":
        """The texts of all dropped elements, each under its element's name."""
        names = self.columns()
        texts: dict[str, list[str]] = defaultdict(list)
        held = 0
        for resource, _ in _resources(self._path):
            for element, value in self._dropped(resource):
                found = list(_leaves(value))
                texts[element] += found
                held += len(found)
            if held > MOST_CELLS // 10:
                yield _padded(names, texts)
                texts.clear()
                held = 0
        if held:
            yield _padded(names, texts)

    @cached_property
    def _gathered(self) -> "_Gathered":
        found = _Gathered(self._mapped)
        for resource, url in _resources(self._path):
            fhir_version.check(resource)
            found.elements.update(dict.fromkeys(name for name, _ in self._dropped(resource)))
            match resource["resourceType"]:
                case "Patient":
                    found.add_patient(resource, url)
                case "Observation":
                    for name, value in self._observed(resource):
                        found.add(resource, name, value)
                case "Condition":
                    for name in self._named(resource.get("code"), "condition"):
                        if _counts(resource, _when(resource, "onset"), self._mapped[name]):
                            found.add(resource, name, _of_condition(resource))
        if not found.patients:
            raise SourceEmpty("the export holds no Patient", "export Patient too")
        return found

    def _named(self, concept: Any, origin: str) -> list[str]:
        """The mapping's columns that a CodeableConcept is."""
        return [
            name
            for code in _codes(concept)
            for name in self._by_code.get(code, ())
            if getattr(self._mapped[name], origin)
        ]

    def _observed(self, resource: _Resource) -> Iterator[tuple[str, _Value]]:
        when = _when(resource, "effective")
        for part in _parts(resource):
            for name in self._named(part.get("code"), "observation"):
                if _counts(resource, when, self._mapped[name]) and any(v in part for v in _VALUES):
                    yield name, (when, *_value(part))

    def _dropped(self, resource: _Resource) -> Iterator[tuple[str, Any]]:
        """Elements that do not become a column; of a mapped resource all but what is mapped."""
        kind = resource["resourceType"]
        stays: tuple[str, ...] = ("resourceType",)
        if kind == "Patient" and any(c.person == "gender" for c in self._mapped.values()):
            stays = (*stays, "gender")
        if kind == "Observation" and self._observes(resource):
            stays = (*stays, "code", "component", "status", *_VALUES)
        if kind == "Condition" and self._named(resource.get("code"), "condition"):
            stays = (*stays, "code", "clinicalStatus", "verificationStatus")
        yield from ((f"{kind}.{name}", v) for name, v in resource.items() if name not in stays)

    def _observes(self, resource: _Resource) -> bool:
        return any(self._named(part.get("code"), "observation") for part in _parts(resource))


class _Gathered:
    """What was said of each patient, by the reference that it was said with."""

    def __init__(self, mapped: dict[str, ColumnMapping]) -> None:
        self.patients: dict[str, _Resource] = {}
        self._mapped = mapped
        self.elements: dict[str, None] = {}
        self._aliases: dict[str, str] = {}
        self._values: dict[str, dict[str, _Value]] = defaultdict(dict)

    def add_patient(self, resource: _Resource, url: str | None) -> None:
        """A Patient, of whom gender and date of birth are kept for now."""
        key = f"Patient/{resource['id']}" if "id" in resource else f"no id {len(self.patients)}"
        if key in self.patients:
            raise FhirInvalid("a Patient is there twice", "export each one once")
        _check_modifiers(resource)
        if any(link.get("type") == "replaced-by" for link in _dicts(resource.get("link"))):
            raise FhirInvalid(
                "a Patient is replaced by another, so that somebody would have two rows",
                "have the server merge the two, and export again",
            )
        self.patients[key] = {name: resource.get(name) for name in ("gender", "birthDate")}
        if url is not None:
            self._aliases[url] = key

    def add(self, resource: _Resource, name: str, value: _Value) -> None:
        """One value of a column; the newest, or the first, stays."""
        subject = resource.get("subject")
        reference = subject.get("reference") if isinstance(subject, dict) else None
        if not isinstance(reference, str):
            raise FhirInvalid(
                f"a {resource['resourceType']} does not say which patient it is of",
                "export subject.reference too",
            )
        self._keep(self._values[reference], name, value)

    def _keep(self, of: dict[str, _Value], name: str, value: _Value) -> None:
        before, first = of.get(name), self._mapped[name].take == "first"
        if before is None or (value[0] < before[0] if first else value[0] >= before[0]):
            of[name] = value

    def rows(self) -> list[dict[str, str | None]]:
        """A row for each Patient."""
        rows: dict[str, dict[str, str | None]] = {
            key: {PATIENT: key, **{n: _of_person(person, c) for n, c in self._mapped.items()}}
            for key, person in self.patients.items()
        }
        of_patients: dict[str, dict[str, _Value]] = defaultdict(dict)
        for reference, values in self._values.items():  # one patient may go by several references
            key = self._aliases.get(reference) or _key(reference)
            for name, value in values.items():
                self._keep(of_patients[key], name, value)
        for key, values in of_patients.items():
            if key not in rows:
                raise FhirInvalid(
                    "something is said of a patient who is not in the export",
                    "export every Patient that an Observation or Condition is of",
                )
            for name, (_, what, unit) in values.items():
                rows[key] |= {name: what, f"{name}.unit": unit}
        return list(rows.values())


def _resources(path: Path) -> Iterator[tuple[_Resource, str | None]]:
    """Each resource with its fullUrl.

    Raises:
        TableUnreadable: if a text is no JSON of a resource; names a line only.
    """
    try:
        if path.is_dir():
            for file in sorted(path.glob("*.ndjson")):
                yield from _lines(file)
        elif path.suffix.lower() == ".ndjson":
            yield from _lines(path)
        else:
            yield from _entries(path)
    except OSError as error:
        raise TableUnreadable(
            f"the export cannot be read ({error.strerror})", "check the path and its owner"
        ) from None


def _lines(path: Path) -> Iterator[tuple[_Resource, str | None]]:
    with path.open("rb") as file:
        lines = iter(lambda: file.readline(_LONGEST_LINE), b"")
        for number, line in enumerate(lines, start=1):
            if line.strip():
                resource = _resource(_parsed(line, f"line {number}"), f"line {number}")
                if resource["resourceType"] == "Bundle":
                    raise FhirInvalid(
                        f"line {number} is a Bundle", "write its resources, each on a line"
                    )
                yield resource, None


def _entries(path: Path) -> Iterator[tuple[_Resource, str | None]]:
    if path.stat().st_size > MOST_OF_A_BUNDLE:
        raise SourceTooLarge(
            f"the Bundle is over {MOST_OF_A_BUNDLE // 2**20} MiB",
            "export it as NDJSON, which is read line by line",
        )
    bundle = _resource(_parsed(path.read_bytes(), "the file"), "the file")
    if bundle["resourceType"] != "Bundle":
        raise FhirInvalid("the file is a resource and no Bundle", "export a Bundle, or NDJSON")
    fhir_version.check(bundle)
    if any(link.get("relation") == "next" for link in _dicts(bundle.get("link"))):
        raise FhirInvalid(
            "the Bundle is one page of several: what the others say would be taken for absent",
            "fetch all pages into one Bundle, or export NDJSON",
        )
    entries = bundle.get("entry", [])
    for number, entry in enumerate(entries if isinstance(entries, list) else [None], start=1):
        where = f"entry {number}"
        url = entry.get("fullUrl") if isinstance(entry, dict) else None
        resource = entry.get("resource") if isinstance(entry, dict) else None
        yield _resource(resource, where), url if isinstance(url, str) else None


def _parsed(text: bytes, where: str) -> Any:
    try:
        # Numbers stay as they were written; what they mean is the mapping's business.
        value = json.loads(text, parse_float=str, parse_int=str)
        if b"\\ud" in text.lower():  # half a surrogate pair is no text
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError):
        raise FhirInvalid(
            f"{where} is not JSON", "export FHIR R4 as a JSON Bundle or as NDJSON, not as XML"
        ) from None


def _resource(value: Any, where: str) -> _Resource:
    if not isinstance(value, dict) or not isinstance(value.get("resourceType"), str):
        raise FhirInvalid(
            f"{where} is no FHIR resource", "export FHIR R4 as a JSON Bundle or as NDJSON"
        )
    return value


def _parts(observation: _Resource) -> list[_Resource]:
    """An Observation and its components."""
    return [observation, *_dicts(observation.get("component"))]


def _dicts(value: Any) -> list[_Resource]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _codes(concept: Any) -> Iterator[str]:
    for coding in _dicts(concept.get("coding") if isinstance(concept, dict) else None):
        yield f"{coding.get('system', '')}|{coding.get('code', '')}"


def _value(part: _Resource) -> tuple[str | None, str | None]:
    """A value and its unit; one with a comparator (< 5) is no number, and is shown to be none."""
    name = next(name for name in _VALUES if name in part)
    value = part[name]
    if name == "valueQuantity" and isinstance(value, dict):
        number = f"{value.get('comparator', '')}{value.get('value', '')}" or None
        unit = value.get("code") if value.get("system") == _UCUM else value.get("unit")
        return number, unit if isinstance(unit, str) else None
    if name == "valueCodeableConcept":
        text = value.get("text") if isinstance(value, dict) else value
        return next(_codes(value), None if text is None else str(text)), None
    return (str(value).lower() if isinstance(value, bool) else str(value)), None


def _of_condition(resource: _Resource) -> _Value:
    """Whether a Condition is confirmed; one that is counts for more than one that is not."""
    verified = [code.partition("|")[2] for code in _codes(resource.get("verificationStatus"))]
    if verified and "confirmed" not in verified:
        return "0", "unconfirmed", None
    return "1", "present", None


def _when(resource: _Resource, prefix: str) -> str:
    """When something was, as a text that sorts; "" where that is not said."""
    period = resource.get(f"{prefix}Period")
    given = (
        resource.get(f"{prefix}DateTime")
        or resource.get(f"{prefix}Instant")
        or (period.get("start") if isinstance(period, dict) else None)
        or resource.get("issued" if prefix == "effective" else "recordedDate")
    )
    text = str(given or "")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text if re.fullmatch(r"\d{4}(-\d\d)?", text) else ""
    return (at if at.tzinfo is None else at.astimezone(UTC).replace(tzinfo=None)).isoformat()


def _counts(resource: _Resource, when: str, column: ColumnMapping) -> bool:
    if str(resource.get("status")) in _NOT_SO or "focus" in resource:  # it is about another
        return False
    verified = _codes(resource.get("verificationStatus"))
    if any(code.partition("|")[2] in _NOT_SO for code in verified):
        return False
    _check_modifiers(resource)
    if (column.since or column.until) and not when:
        return False
    early = column.since is not None and when < column.since.isoformat()
    return not early and (column.until is None or when[:10] <= column.until.isoformat())


def _check_modifiers(resource: _Resource) -> None:
    if any("modifierExtension" in part for part in _parts(resource)):
        raise FhirInvalid(
            f"a modifierExtension changes what a {resource['resourceType']} says, in a way that is "
            "not known here",
            "leave such resources out of the export, or say it in R4's own elements",
        )


def _of_person(person: _Resource, column: ColumnMapping) -> str | None:
    if column.condition:
        return "absent"
    if column.person == "gender":
        return str(person["gender"]) if person["gender"] else None
    if column.person == "age" and column.at is not None:
        return _age(str(person["birthDate"] or ""), column.at)
    return None


def _age(born: str, at: date) -> str | None:
    """Whole years; of somebody whose month or day is not known, those of a birthday passed."""
    parts = re.fullmatch(r"(\d{4})(?:-(\d\d))?(?:-(\d\d))?", born)
    if parts is None:
        return None
    year, month, day = (int(part or 1) for part in parts.groups())
    return str(at.year - year - ((at.month, at.day) < (month, day)))


def _key(reference: str) -> str:
    found = _REFERENCE.search(reference)
    return found[1] if found else reference


def _leaves(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name not in _NO_CONTENT:
                yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    elif isinstance(value, str):
        yield value


def _padded(names: Sequence[str], texts: dict[str, list[str]]) -> "pd.DataFrame":
    longest = max(map(len, texts.values()))
    columns = [[*texts[n], *[None] * (longest - len(texts[n]))] if n in texts else [None] * longest
               for n in names]  # fmt: skip
    return frame_of(names, columns)
