"""Units: read as UCUM or as people write them, converted by `pint`.

A unit that is not known is an error, never taken for the task's. Between amount of substance and
mass (mmol/L and mg/dL) a conversion needs the molar mass of what is measured, which depends on the
analyte, so the mapping states it.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from hospital_agent.errors import UnitUnconvertible, UnitUnknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SPECIAL: Final = {
    "mm[Hg]": "mmHg", "a": "year", "mo": "month", "wk": "week", "d": "day", "Cel": "degC",
    "[degF]": "degF", "[in_i]": "inch", "[lb_av]": "pound", "%": "percent", "1": "",
}  # fmt: skip
_ANNOTATION: Final = re.compile(r"\{[^}]*\}|\bbeats\b")
_TEN_TO: Final = re.compile(r"x?10[*^](-?\d{1,2})")
_POWER: Final = re.compile(r"(?<=[A-Za-z])(-?\d)\b")
_STRANGE: Final = re.compile(r"[^A-Za-zµμ%²³°0-9 ./*^()\[\]_-]")


@dataclass(frozen=True)
class Conversion:
    """Task's value = source's value x factor + offset."""

    factor: float = 1.0
    offset: float = 0.0

    def apply(self, values: "NDArray[np.float64]") -> "NDArray[np.float64]":
        """The values in the task's unit."""
        return values if self == Conversion() else values * self.factor + self.offset


def conversion(
    column: str, unit: str, to: str, molar_mass: str | None = None, said: str | None = None
) -> Conversion:
    """How values of a column are converted from one unit to another.

    ``said`` stands for the unit in errors, where the unit comes from a patient's row.

    Raises:
        UnitUnknown: if a unit, or the molar mass, is not known.
        UnitUnconvertible: if they measure different things.
    """
    if unit == to:
        return Conversion()
    units, shown = _registry(), said or unit[:40]
    (scale, source), (to_scale, target) = _parsed(column, unit, shown), _parsed(column, to, to)
    mass: Any = None
    if source.dimensionality != target.dimensionality:
        over = source.dimensionality / target.dimensionality
        if over not in ({"[substance]": 1, "[mass]": -1}, {"[substance]": -1, "[mass]": 1}):
            raise UnitUnconvertible(
                f"{column}: {shown} and {to or 'a plain number'} measure different things",
                "export the column in the task's unit, or correct its unit in the mapping",
            )
        if molar_mass is None:
            raise UnitUnconvertible(
                f"{column}: from {shown} to {to} it takes the molar mass of what is measured",
                f'add it to [columns.{column}], for example molar_mass = "386.65 g/mol" for '
                "cholesterol",
            )
        mass = _molar_mass(column, molar_mass)
        mass = mass if over["[substance]"] == 1 else 1 / mass

    def at(value: float) -> float:
        quantity = units.Quantity(value * scale, source)
        converted = (quantity if mass is None else quantity * mass).to(target)
        return float(converted.magnitude) / to_scale

    offset = at(0.0)
    return Conversion(at(1.0) - offset, offset)


def amount(column: str, text: str, to: str) -> float:
    """A quantity like "120 mg/dL" in a unit; a bare number is in that unit already.

    Raises:
        UnitUnknown, UnitUnconvertible: if it cannot be converted.
    """
    number, _, unit = text.strip().partition(" ")
    try:
        value = float(number)
    except ValueError:
        raise UnitUnknown(
            f"{column}: what the mapping compares with is no number with a unit",
            'write it like "120 mg/dL"',
        ) from None
    if not unit.strip():
        return value
    step = conversion(column, unit.strip(), to)
    return value * step.factor + step.offset


def _molar_mass(column: str, text: str) -> Any:
    units = _registry()
    try:
        quantity = units.Quantity(text)
        if quantity.dimensionality == units.Quantity("g/mol").dimensionality and quantity > 0:
            return quantity
    except Exception:  # noqa: S110 (pint raises many kinds; all mean the same here)
        pass
    raise UnitUnknown(
        f"{column}: the molar mass is not one", 'write it like molar_mass = "386.65 g/mol"'
    )


def _parsed(column: str, unit: str, shown: str) -> tuple[float, Any]:
    """A unit as a number of pint's: 10*9/L is 1e9 times 1/L."""
    text = unit.strip()
    if len(text) <= 40 and not _STRANGE.search(_ANNOTATION.sub("", text)):
        scale, plain = _ucum(text)
        try:
            return scale, _registry().Unit(plain)
        except Exception:  # noqa: S110 (pint raises many kinds; all mean the same here)
            pass
    raise UnitUnknown(
        f"{column}: {shown} is no known unit",
        "write units in UCUM, like mmol/L, mg/dL, mm[Hg], /min; or export the column in the "
        "task's unit",
    )


def _ucum(text: str) -> tuple[float, str]:
    """UCUM as pint reads it: annotations go, 10*3 is a number, cm2 a power."""
    if text in _SPECIAL:
        return 1.0, _SPECIAL[text]
    for ucum, name in _SPECIAL.items():
        if "[" in ucum:
            text = text.replace(ucum, name)
    plain, scale = _ANNOTATION.sub("", text).strip(), 1.0
    if ten := _TEN_TO.match(plain):
        plain, scale = plain[ten.end() :], 10.0 ** int(ten[1])
    plain = _POWER.sub(r"**\1", plain).replace("²", "**2").replace("³", "**3")
    return scale, f"1{plain}" if plain.startswith("/") else plain


@lru_cache(maxsize=1)
def _registry() -> Any:
    import pint

    return pint.UnitRegistry(cache_folder=None, on_redefinition="ignore")
