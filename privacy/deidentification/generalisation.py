"""Ages over 89, ZIP codes and dates, as coarse as HIPAA Safe Harbor asks for.

45 CFR 164.514(b)(2)(i)(B) and (C), with the guidance of the Department of Health and Human Services
(November 26, 2012): the first three digits of a ZIP code stay where more than 20,000 people live in
all codes that begin so, else they become 000; of dates the year stays; ages over 89 become one
category.
"""

from typing import TYPE_CHECKING, Final

from privacy.deidentification.identifiers import AGE_CATEGORY

if TYPE_CHECKING:
    import pandas as pd

RESTRICTED_ZIPS: Final = frozenset(
    "036 059 063 102 203 556 692 790 821 823 830 831 878 879 884 890 893".split()  # noqa: SIM905
)
"""Three digits with 20,000 people or fewer, by the census of 2000, as that guidance lists them."""


def ages(column: "pd.Series") -> "pd.Series":
    """Ages in whole years, all over 89 as 90; what is no number stays as it is.

    Cells are texts, numbers or missing; numbers come back as the kind that they were.
    """
    import numpy as np
    import pandas as pd

    numbers = pd.to_numeric(column, errors="coerce").astype(float)
    years = np.minimum(np.floor(numbers), float(AGE_CATEGORY))
    changed = numbers.notna() & (years != numbers)
    if not changed.any():
        return column
    coarse = column.copy()
    texts = column.dtype == object or pd.api.types.is_string_dtype(column.dtype)
    coarse[changed] = years[changed].astype(int).astype(str) if texts else years[changed]
    return coarse


def zips(column: "pd.Series") -> "pd.Series":
    """ZIP codes as their first three digits or 000; what is no ZIP code becomes missing."""
    digits = column.astype("string").str.strip().str.extract(r"^(\d{3})\d{2}(?:-?\d{4})?$")[0]
    coarse = digits.mask(digits.isin(RESTRICTED_ZIPS), "000").astype(object)
    return coarse.where(digits.notna(), None)


def years(column: "pd.Series") -> "pd.Series":
    """Dates that begin or end with a year of four digits as that year, else missing."""
    text = column.astype("string").str.strip()
    found = text.str.extract(r"^((?:1[89]|20)\d\d)(?!\d{5})|(?<!\d)((?:1[89]|20)\d\d)$")
    return found[0].fillna(found[1]).astype(object).where(found.notna().any(axis=1), None)
