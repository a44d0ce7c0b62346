"""The residual scan: what in a table still looks like an identifier, cell by cell.

It errs on the side of finding: a table is refused when it finds something in a column that would
stay, and the data owner looks. Most of what it finds lies in columns that the task's schema drops
anyway; that is reported, for people to know what their export holds.

What it looks at, for each distinct text of a column:

- its form: e-mail and web addresses, IP and MAC addresses, telephone and social security numbers,
  labelled and bare record numbers (seven digits and more), dates finer than a year, postal
  addresses, names (titles, commas and carets, common names, capitalised words that are no clinical
  ones), and free text, which may hold anything and so is never read as harmless;
- the column's own name: all of ``zip`` or ``patient_name`` counts, whatever it looks like.

It cannot find what looks like a measurement: an age of 47 in a column for heart rates, or a record
number of five digits in one for cholesterol. Bounds of the schema and k-anonymity stand there.

A column that is evidently of one kind (nine in ten of its first `EVIDENT` texts) is counted as that
from then on, unread: it is found either way, and 50,000 notes take no minute.

Nothing here keeps or shows a value: findings hold a kind, a column, and a band of counts.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from privacy.deidentification.names import FAMILY, GIVEN, NO_NAME
from privacy.errors import ResidualIdentifier
from privacy.release import size_band

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

AGE_CATEGORY: Final = 90
"""The age that stands for all of 90 and over (`generalisation.ages`)."""

EVIDENT: Final = 2_000
"""Distinct texts of a column after which its kind may be evident."""

NAME: Final = "name"
PLACE: Final = "place"
ZIP: Final = "ZIP code"
DATE: Final = "date"
AGE: Final = "age over 89"
PHONE: Final = "telephone or fax number"
EMAIL: Final = "e-mail address"
SSN: Final = "social security number"
RECORD: Final = "record, account or licence number"
VEHICLE: Final = "vehicle number"
DEVICE: Final = "device number"
URL: Final = "web address"
IP: Final = "IP address"
BIOMETRIC: Final = "biometric mark"
IMAGE: Final = "image"
CODE: Final = "unique code"
TEXT: Final = "free text"

_MONTH = "(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mär|mai|okt|dez)[a-zäé]*"
_STREETS = (
    "street|st|avenue|ave|road|rd|lane|ln|drive|dr|boulevard|blvd|court|ct|square|way|place|highway"
)
_LABELS = (
    "mrn|medical record|record|acct|account|patient|pat|case|visit|encounter|policy|member|plan|"
    "health plan|insurance|beneficiary|licen[cs]e|lic|certificate|cert|passport|dl|npi|dea|nhs|id"
)
_FORMS: Final = (
    (EMAIL, r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+"),
    (URL, r"https?://|ftp://|\bwww\.|(?<![@\w.+-])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:com|org|net|edu|gov|info|ch|de|hu|fr)\b"),
    (IP, r"(?<![\d.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?![\d.])"),
    (IP, r"\b(?:[0-9a-f]{1,4}:){3,7}:?[0-9a-f]{1,4}\b|(?:[0-9a-f]{1,4}:)*::(?:[0-9a-f]{1,4})"),
    (DEVICE, r"\b(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2}\b"),
    (DEVICE, r"\(01\)\s*\d{14}"),
    (DEVICE, r"\b(?:serial|s/n|sn|udi|imei|device|implant|pacemaker)\b[\s#:.no-]*"
             r"(?=[a-z0-9-]*\d[a-z-]*\d)[a-z0-9-]{4,}"),
    (VEHICLE, r"\b(?=[a-z0-9]*\d)(?=[a-z0-9]*[a-z])[a-hj-npr-z0-9]{11}\d{6}\b"),
    (VEHICLE, r"\b(?:vin|licen[cs]e plate|plate)\b[\s#:.no-]*[a-z0-9-]*\s?\d{3}"),
    (SSN, r"\b\d{3}-\d{2}-\d{4}\b|\b756\.\d{4}\.\d{4}\.\d{2}\b"),
    (SSN, r"\bssn\b[\s#:.no-]*\d{3}"),
    (DATE, r"\b(?:1[89]|20)\d\d[-/.](?:0?[1-9]|1[0-2])(?:[-/.](?:0?[1-9]|[12]\d|3[01]))?(?!\d)"),
    (DATE, r"\b(?:0?[1-9]|[12]\d|3[01])[-/.](?:0?[1-9]|[12]\d|3[01])[-/.](?:\d{4}|\d{2})\b"),
    (DATE, rf"\b{_MONTH}\.?\s+(?:\d{{1,2}}(?:st|nd|rd|th)?,?\s+)?(?:1[89]|20)\d\d\b"),
    (DATE, rf"\b\d{{1,2}}(?:st|nd|rd|th|\.)?[\s-]*{_MONTH}[\s.,-]*(?:\d{{4}}|\d{{2}})\b"),
    (DATE, r"\b(?:1[89]|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?:\d{4,6}(?:\.\d+)?)?\b"),
    (PHONE, r"\(\d{3}\)\s*\d{3}[-.\s]?\d{4}|\b\d{3}[-.\s]\d{3}[-.\s]\d{4}\b"),
    (PHONE, r"(?<![\w+])(?:\+|00)\d{1,3}[\s./()-]*(?:\d[\s./()-]*){6,12}(?!\w)"),
    (PHONE, r"\b(?:tel|phone|fax|mobile|cell|call)\b[\s.:#]*\+?[\d(][\d\s./()-]{5,}"),
    (PHONE, r"^\d{3}-\d{4}$|^0\d{1,4}[\s/-](?:\d[\s/-]?){4,10}$"),
    (ZIP, r"\b\d{5}-\d{4}\b|\b[A-Z]{2}\s+\d{5}\b|\bzip\b[\s#:.]*\d{3}"),
    (ZIP, r"\b[a-z]{1,2}\d[a-z\d]?\s+\d[a-z]{2}\b"),
    (PLACE, rf"\b\d{{1,5}}[a-z]?\s+(?:[a-z.'-]+\s+){{1,3}}(?:{_STREETS})\b"),
    (PLACE, r"\b[a-zäöüß]{3,}(?:strasse|straße|str\.|gasse|weg|platz|allee|utca)\s+\d{1,4}"),
    (PLACE, r"\bp\.?\s?o\.?\s?box\s+\d+"),
    (RECORD, rf"\b(?:{_LABELS})\b(?:[\s#:.-]|no|nr|number)*[a-z]{{0,4}}-?\d[\d-]{{3,}}"),
    (RECORD, r"\b(?:mrn|acct|pat|id)[a-z]{0,3}\d{4,}\b"),
    (RECORD, r"\b[a-z]{1,4}[- ]?\d{5,}(?:-\d+)?\b|\b\d{7,}\b|\b\d{5,}[a-z]{1,3}\b"),
    (RECORD, r"^(?!(?:1[89]|20)\d\d-\d\d-)\d{2,}(?:-\d{2,}){2,}$"),
    (CODE, r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b|\b[0-9a-f]{16,}\b"),
    (CODE, r"\b\d+(?:\.\d+){4,}\b|\S{60,}"),
    (NAME, r"\b(?:dr|mr|mrs|ms|miss|prof|herr|frau|mme|seen by|signed)\b\.?\s+[a-z]"),
    (NAME, r"^[^\W\d]['’\w-]+\^[^\W\d]"),
    (NAME, r"^[^\W\d]['’\w-]{2,}\s*,\s*[^\W\d]['’\w.-]*(?:\s[^\W\d]\.?)?$"),
    (AGE, r"\b(?:9\d|1[0-2]\d)[\s-]*(?:y/?o|yrs?|years?)\b|\b0?(?:9[1-9]|1[0-2]\d)Y\b"),
)  # fmt: skip
_COMPILED: Final = tuple(
    (kind, re.compile(form, 0 if "[A-Z]{2}" in form else re.IGNORECASE)) for kind, form in _FORMS
)
_OWN_PSEUDONYM: Final = re.compile(r"ps-[0-9a-f]{32}")
_WORDS: Final = re.compile(r"[^\W\d_]+(?:['’-][^\W\d_]+)*")
_MONTHS_ALONE: Final = re.compile(rf"{_MONTH}$", re.IGNORECASE)

_BY_COLUMN: Final = (
    (NAME, "name surname lastname firstname forename maiden initials physician doctor nurse "
           "relative employer contact guardian nachname vorname"),
    (PLACE, "address street city town county precinct parish municipality district latitude "
            "longitude geocode birthplace adresse"),
    (ZIP, "zip zipcode postal postcode postalcode plz"),
    (DATE, "date dob birthdate birthday birthdatetime dod datetime timestamp deceased admitted "
           "discharged geburtsdatum"),
    (PHONE, "phone telephone tel cellphone mobile fax telefon pager telecom"),
    (EMAIL, "email mail"),
    (SSN, "ssn ahv socialsecurity"),
    (RECORD, "mrn medrec recordnumber account acct licence license certificate passport policy "
             "member insurance beneficiary npi patientid personid subjectid encounterid visitid id "
             "identifier patient subject"),
    (VEHICLE, "vin plate vehicle"),
    (DEVICE, "device serial udi imei implant"),
    (URL, "url website homepage uri"),
    (IP, "ip ipaddress"),
    (BIOMETRIC, "fingerprint voiceprint retina iris biometric genome dna"),
    (IMAGE, "photo photograph portrait face image picture"),
    (CODE, "uid uuid guid barcode accession"),
    (TEXT, "note notes comment comments remark remarks narrative freetext"),
)  # fmt: skip
_HINTS: Final = {word: kind for kind, words in _BY_COLUMN for word in words.split()}
_ONLY_LAST_WORDS = (
    "patient subject insurance member policy account relative employer nurse doctor physician "
    "mobile device implant vehicle plate fingerprint retina iris biometric genome dna face "
    "image city"
)
_ONLY_LAST: Final = frozenset(_ONLY_LAST_WORDS.split())
"""Words that say what a column holds only at its end: a patient's age is none, a patient is."""

_PARTS_OF_A_NAME: Final = re.compile(r"[A-Z]?[a-zäöüß]+|[A-Z]+(?![a-z])")
_AGES: Final = frozenset({"age", "alter", "patientage", "ageatdiagnosis", "ageyears"})


@dataclass(frozen=True)
class Finding:
    """Cells of one column that look like identifiers of one kind; ``rows`` is a band of counts.

    ``column`` is one of `shown`'s texts.
    """

    kind: str
    column: str
    rows: str


class Scan:
    """The scan of a table that arrives in chunks: `take` each, then read `findings`.

    Memory grows with columns and kinds, not with rows.
    """

    def __init__(self) -> None:
        self._columns: tuple[str, ...] = ()
        self._counts: Counter[tuple[int, str]] = Counter()
        self._texts: dict[int, Counter[str]] = {}

    def take(self, chunk: "pd.DataFrame") -> None:
        """Scans one chunk: cells are texts or None (numbers are taken as their text)."""
        self._columns = tuple(map(str, chunk.columns))
        for place, name in enumerate(self._columns):
            texts = self._texts.setdefault(place, Counter())
            found = _of_column(name, chunk.iloc[:, place], texts)
            self._counts.update({(place, kind): count for kind, count in found})

    def findings(self, names: Sequence[str] | None = None) -> tuple[Finding, ...]:
        """What was found so far, in the order of columns; ``names``: what to call them."""
        names = shown(self._columns) if names is None else names
        return tuple(
            Finding(kind, names[place], rows_in_words(count))
            for (place, kind), count in sorted(self._counts.items())
        )


def scan(chunks: "Iterable[pd.DataFrame]") -> tuple[Finding, ...]:
    """What in the chunks of one table looks like an identifier."""
    found = Scan()
    for chunk in chunks:
        found.take(chunk)
    return found.findings()


def refuse(findings: Sequence[Finding], kept: Sequence[str]) -> None:
    """Refuses a table whose kept columns still hold what looks like an identifier.

    Raises:
        ResidualIdentifier: naming kinds, columns and bands of counts.
    """
    staying = {*kept, *shown(kept)}
    left = [finding for finding in findings if finding.column in staying]
    if not left:
        return
    said = "; ".join(f"{f.column}: {f.kind} ({f.rows} rows)" for f in left[:5])
    raise ResidualIdentifier(
        "columns that would stay hold what looks like identifiers: "
        + said
        + (f"; and {len(left) - 5} more" if len(left) > 5 else ""),
        "take them out of the source or correct the mapping, and check again; if it is a "
        "measurement after all, export it in the unit and under a name like the task's",
    )


def shown(columns: Sequence[str]) -> list[str]:
    """Names of columns that may be printed, each of at most 40 characters.

    A name that looks like an identifier itself, as when a table has no header, becomes
    ``column 7``.
    """
    return [
        f"column {place}" if not name or {*_kinds(name)} - {TEXT} else name[:40]
        for place, name in enumerate(map(str, columns), start=1)
    ]


def rows_in_words(count: int) -> str:
    """A number of rows as its size band: "fewer than 5", "at least 20"."""
    return f"at least {size_band(count)}" if size_band(count) else "fewer than 5"


def of_name(column: str) -> str | None:
    """The kind of identifier that a column's own name announces, or None."""
    words = [word.lower() for word in _PARTS_OF_A_NAME.findall(column)]
    pairs = [first + second for first, second in pairwise(words)]
    told = [*pairs, *words[-1:], *(word for word in words[:-1] if word not in _ONLY_LAST)]
    return next((_HINTS[word] for word in told if word in _HINTS), None)


def is_age(column: str) -> bool:
    """Whether a column's own name says that it holds ages."""
    words = [word.lower() for word in _PARTS_OF_A_NAME.findall(column)]
    return bool(_AGES & {*words, "".join(words)})


def _of_column(name: str, column: "pd.Series", seen: Counter[str]) -> Iterator[tuple[str, int]]:
    """Kinds found in one column of a chunk, each with its number of rows.

    ``seen`` counts the column's distinct texts so far, by kind and (under "") altogether.
    """
    import pandas as pd

    counts = column.value_counts(dropna=True)
    if not len(counts):
        return
    if announced := of_name(name):
        yield announced, int(counts.sum())
        return
    texts = counts.index.astype(str)
    numbers = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(dtype=float)
    rows = counts.to_numpy()
    found: Counter[str] = Counter()
    plain = ~pd.isna(numbers)
    for text, count in zip(texts[~plain], rows[~plain], strict=True):
        kinds = {evident} if (evident := _evident(seen)) else set(_kinds(text))
        seen.update(kinds | {""})
        for kind in kinds:
            found[kind] += int(count)
    for kind, which in _of_numbers(numbers, is_age(name)):
        found[kind] += int(rows[plain & which].sum())
    yield from ((kind, count) for kind, count in found.items() if count)


def _evident(seen: Counter[str]) -> str | None:
    """The kind that a column evidently is of, or None."""
    if seen[""] < EVIDENT:
        return None
    (kind, most), *_ = [pair for pair in seen.most_common(2) if pair[0]] or [("", 0)]
    return kind if most >= 0.9 * seen[""] else None


def _of_numbers(
    numbers: "NDArray[np.float64]", ages: bool
) -> "Iterator[tuple[str, NDArray[np.bool_]]]":
    """Whole numbers of seven digits and more, by what they look like; and ages."""
    import numpy as np

    with np.errstate(invalid="ignore"):
        whole = (numbers >= 10**6) & (numbers < 10**18) & (numbers == np.floor(numbers))
        year, day = numbers // 10**4, numbers % 100
        month = numbers // 100 % 100
        dates = whole & (year >= 1850) & (year < 2100) & (month >= 1) & (month <= 12)
        dates &= (day >= 1) & (day <= 31)
        phones = whole & (numbers >= 2 * 10**9) & (numbers < 10**10)
        yield DATE, dates
        yield PHONE, phones
        yield RECORD, whole & ~dates & ~phones
        if ages:
            yield AGE, (numbers >= AGE_CATEGORY) & (numbers != AGE_CATEGORY)


def _kinds(text: str) -> Iterator[str]:
    """Kinds of identifiers that a text looks like."""
    if _OWN_PSEUDONYM.fullmatch(text):
        return
    yield from (kind for kind, form in _COMPILED if form.search(text))
    words = _WORDS.findall(text)
    if _names(words):
        yield NAME
    if len(words) >= 5 or (len(words) > 1 and len(text) > 40):
        yield TEXT


def _folded(word: str) -> str:
    """In small letters without accents, as the lists have them."""
    apart = unicodedata.normalize("NFKD", word.lower())
    return "".join(letter for letter in apart if not unicodedata.combining(letter))


def _names(words: Sequence[str]) -> bool:
    if not words or len(words) > 30:
        return False
    lower = [_folded(word) for word in words]
    if any(word in GIVEN or word in FAMILY for word in lower):
        return True
    capitalised = all(word[0].isupper() and len(word) > 2 for word in words)
    unknown = not any(word in NO_NAME or _MONTHS_ALONE.match(word) for word in lower)
    return 2 <= len(words) <= 3 and capitalised and unknown
