"""HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i): the 18 identifiers, reported one by one.

The report says for each identifier whether it was found, and what was looked at; nothing here says
"compliant". Three things no scan decides: what the hospital knows beyond the table (ii), whether a
picture shows a face, and whether a combination of harmless values is unique to somebody
(`anonymity` measures that).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from privacy.deidentification import identifiers as of
from privacy.deidentification.identifiers import Finding

State = Literal["absent", "dropped", "generalised", "found", "not decided here"]

ITEMS: Final = (
    ("A", "names", (of.NAME,)),
    ("B", "places smaller than a state", (of.PLACE, of.ZIP)),
    ("C", "dates finer than a year, and ages over 89", (of.DATE, of.AGE)),
    ("D", "telephone numbers", (of.PHONE,)),
    ("E", "fax numbers", (of.PHONE,)),
    ("F", "e-mail addresses", (of.EMAIL,)),
    ("G", "social security numbers", (of.SSN,)),
    ("H", "medical record numbers", (of.RECORD,)),
    ("I", "health plan beneficiary numbers", (of.RECORD,)),
    ("J", "account numbers", (of.RECORD,)),
    ("K", "certificate and licence numbers", (of.RECORD,)),
    ("L", "vehicle identifiers, licence plates", (of.VEHICLE,)),
    ("M", "device identifiers and serial numbers", (of.DEVICE,)),
    ("N", "web addresses", (of.URL,)),
    ("O", "IP addresses", (of.IP,)),
    ("P", "biometric identifiers", (of.BIOMETRIC,)),
    ("Q", "full-face photographs and comparable images", (of.IMAGE,)),
    ("R", "any other unique number, characteristic or code", (of.CODE,)),
)
_TOGETHER: Final = {
    "D": "; telephone and fax numbers look alike", "E": "; telephone and fax numbers look alike",
    "H": "; such numbers look alike", "I": "; such numbers look alike",
    "J": "; such numbers look alike", "K": "; such numbers look alike",
}  # fmt: skip
_UNIQUE: Final = (
    "codes by form and name; whether a combination of values is unique, see the k of the "
    "quasi-identifiers"
)


@dataclass(frozen=True)
class Item:
    """One of the 18: its letter in the rule, what it is, its state, and what was looked at.

    state: "absent" (looked for, not seen), "dropped" (seen in columns that do not stay),
    "generalised" (stays, coarser), "found" (seen in a column that would stay), or
    "not decided here".
    """

    letter: str
    title: str
    state: State
    looked_at: str


def checklist(
    findings: Sequence[Finding], kept: Sequence[str], dropped: Sequence[str],
    generalised: Collection[str] = (), *, images: bool = False,
) -> tuple[Item, ...]:  # fmt: skip
    """All 18, for a table whose columns ``kept`` stay and ``dropped`` do not.

    ``findings`` are of all columns as they came (`identifiers.scan`); ``generalised`` are the kept
    columns that are made coarser (`generalisation.ages`); ``images``: pictures come with the table.
    """
    staying = {*kept, *of.shown([*kept, *dropped])[: len(kept)]} - {*generalised}
    coarser = {*generalised, *of.shown([*generalised])}
    text = any(finding.kind == of.TEXT and finding.column not in staying for finding in findings)
    return tuple(
        _item(letter, title, kinds, findings, staying, coarser, text, images)
        for letter, title, kinds in ITEMS
    )


def _item(
    letter: str, title: str, kinds: Sequence[str], findings: Sequence[Finding],
    staying: Collection[str], coarser: Collection[str], text: bool, images: bool,
) -> Item:  # fmt: skip
    seen = [finding for finding in findings if finding.kind in kinds]
    still = [finding for finding in seen if finding.column in staying]
    if still:
        return Item(letter, title, "found", _where(still) + _TOGETHER.get(letter, ""))
    away = [finding for finding in seen if finding.column not in coarser]
    if letter == "Q" and images:
        said = "pixels are not looked at; images that declare faces or text in them are refused"
        return Item(letter, title, "not decided here", said)
    if letter == "C" and coarser:
        over = [finding for finding in seen if finding.column in coarser]
        said = "ages in whole years, those over 89 as 90" + (f": {_where(over)}" if over else "")
        return Item(letter, title, "generalised", said + (f"; {_where(away)}" if away else ""))
    if away:
        return Item(letter, title, "dropped", _where(away) + _TOGETHER.get(letter, ""))
    if letter == "R":
        return Item(letter, title, "not decided here", _UNIQUE)
    if letter in "PQ":
        return Item(letter, title, "absent", "names of columns; what stays are bounded numbers")
    looked = "the form of every cell, and names of columns"
    return Item(letter, title, "absent", looked + ("; free text was dropped unread" * text))


def _where(findings: Sequence[Finding]) -> str:
    named = [f"{finding.column} ({finding.rows} rows)" for finding in findings[:4]]
    return ", ".join(named) + (f" and {len(findings) - 4} more" if len(findings) > 4 else "")
