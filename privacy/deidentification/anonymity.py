"""How alike patients are: k-anonymity, l-diversity, t-closeness, and a lattice that enforces k.

Quasi-identifiers are what somebody may know of a patient from elsewhere: age, sex. Patients with
the same values in all of them form a class.

- **k** (Sweeney 2002): the size of the smallest class.
- **l** (Machanavajjhala et al. 2007, distinct l-diversity): the fewest different outcomes in a
  class. With l = 1 whoever knows somebody's age and sex knows the outcome.
- **t** (Li, Li, Venkatasubramanian 2007): the largest earth mover's distance between the outcomes
  of a class and of all, with the ordered distance of their section 4.1.

Enforcing k is full-domain generalisation (Samarati 2001): one rung of each ladder for the whole
table, and rows whose class is still too small are left out, up to a limit. Whether a node is coarse
enough is monotone up the lattice, and a pair of rungs that fails rules out every node that holds
it, as in Incognito (LeFevre et al. 2005). Of the nodes that reach k the one that loses least
precision (Sweeney's Prec) is taken. Counting is over distinct combinations, not over rows.

None of these is a guarantee against somebody who knows more; differential privacy is, and it covers
what leaves. k bounds what the stored table itself says to whoever reads it.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise, product
from typing import TYPE_CHECKING, Final

from privacy.errors import KNotReached
from privacy.release import size_band

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Codes = NDArray[np.int64]
    Counts = NDArray[np.int64]

Ladders = Mapping[str, Sequence[float]]
"""By quasi-identifier: widths of bins, each a multiple of the one before. Rung 0 is the value as it
is, rung i the bin of width i, and the last one, above all widths, leaves the column out."""

MOST_NODES: Final = 20_000
"""Generalisations beyond which a table is refused, not searched."""


@dataclass(frozen=True)
class Anonymity:
    """How alike patients are in the quasi-identifiers. Exact, so it stays here: see `to_report`.

    ``alone``: the share of patients whose class holds nobody else.
    """

    k: int
    l: int  # noqa: E741
    t: float
    alone: float

    def to_report(self) -> dict[str, str]:
        """The same in bands, which may be shown."""
        edge = max((edge for edge in (2, 3) if edge <= self.k), default=1)
        return {
            "k": f"at least {size_band(self.k) or edge}" if self.k > 1 else "1",
            "l": str(self.l) if self.l < 5 else f"at least {size_band(self.l)}",
            "t": f"at most {_up(self.t) / 100:.2f}",
            "alone": f"at most {_up(self.alone)} %" if self.alone else "none",
        }


@dataclass(frozen=True)
class Generalised:
    """A table that reaches k: coarser, and without the rows that were left out.

    ``widths``: by quasi-identifier the width of its bins, 0 as it is, None left out (all missing).
    ``kept`` marks the rows of the original table that are still there.
    """

    frame: "pd.DataFrame"
    widths: Mapping[str, float | None]
    kept: "NDArray[np.bool_]"
    anonymity: Anonymity

    @property
    def left_out(self) -> float:
        """The share of rows that were left out."""
        return float((~self.kept).mean())


def measure(
    frame: "pd.DataFrame", quasi: Sequence[str], sensitive: str, counts: "Counts | None" = None
) -> Anonymity:
    """k, l and t of a table of numbers (NaN: missing) with at least one row.

    A missing quasi-identifier is a value like others. ``counts``: how many patients each row stands
    for; one each if None.
    """
    import numpy as np

    patients = np.ones(len(frame), dtype=np.int64) if counts is None else counts
    classes = np.zeros(len(frame), dtype=np.int64)
    for name in quasi:
        classes = _joined(classes, _coded(frame[name].to_numpy(dtype=float)))
    outcomes = _coded(frame[sensitive].to_numpy(dtype=float))
    table = np.bincount(
        classes * (outcomes.max() + 1) + outcomes,
        weights=patients,
        minlength=int(classes.max() + 1) * int(outcomes.max() + 1),
    ).reshape(classes.max() + 1, -1)
    sizes, total = table.sum(axis=1), patients.sum()
    apart = np.cumsum(table / sizes[:, None] - table.sum(axis=0) / total, axis=1)
    distance = np.abs(apart).sum(axis=1) / max(1, table.shape[1] - 1)
    return Anonymity(
        k=int(sizes.min()), l=int((table > 0).sum(axis=1).min()), t=float(distance.max()),
        alone=float(sizes[sizes == 1].sum() / total),
    )  # fmt: skip


def enforce(
    frame: "pd.DataFrame", ladders: Ladders, sensitive: str, k: int, most_left_out: float,
    largest: Mapping[str, float] | None = None,
) -> Generalised:  # fmt: skip
    """The table that loses least precision among those in which each patient is like k-1 others.

    ``frame`` holds numbers (NaN: missing). At most the share ``most_left_out`` of the rows is left
    out. A binned value becomes the middle of its bin's whole numbers: 50 to 59 becomes 54.5.
    ``largest``: numbers beyond which there is none, where a bin ends too: ages of 80 to 90, in bins
    of 40 years, become 85.

    Raises:
        KNotReached: if the table has fewer than k rows, or the ladders are too many.
    """
    import numpy as np

    if len(frame) < k:
        raise KNotReached(
            f"the table has fewer than {k} rows, so no patient is like {k - 1} others",
            f"it reaches {size_band(len(frame)) or 1}: ask for no more, or bring more patients",
        )
    names = list(ladders)
    values = [np.unique(frame[name].to_numpy(dtype=float), return_inverse=True) for name in names]
    exact = np.zeros(len(frame), dtype=np.int64)
    for _, codes in values:
        exact = _joined(exact, codes)
    _, first, counts = np.unique(exact, return_index=True, return_counts=True)
    distinct = [
        [_coded(_binned(known, width))[codes[first]] for width in _widths(ladders[name])]
        for name, (known, codes) in zip(names, values, strict=True)
    ]
    node = _least_coarse(distinct, counts, k, int(most_left_out * len(frame)))
    small = _sizes([levels[rung] for levels, rung in zip(distinct, node, strict=True)], counts) < k
    kept = ~small[exact]
    coarse = frame.loc[kept].copy()
    widths = {}
    for name, rung in zip(names, node, strict=True):
        widths[name] = _widths(ladders[name])[rung]
        bins = _binned(coarse[name].to_numpy(dtype=float), widths[name])
        coarse[name] = _middle(bins, widths[name], (largest or {}).get(name, math.inf))
    return Generalised(coarse, widths, kept, measure(coarse, names, sensitive))


def check_ladder(widths: Sequence[float]) -> bool:
    """Whether widths grow, each a multiple of the one before: else bins would not nest."""
    return all(width > 0 for width in widths) and all(
        second > first and second % first == 0 for first, second in pairwise(widths)
    )


def _up(share: float) -> int:
    """A share in per cent, up to the next multiple of 5."""
    return min(100, 5 * math.ceil(share * 20 - 1e-9))


def _widths(ladder: Sequence[float]) -> tuple[float | None, ...]:
    return (0.0, *ladder, None)


def _binned(values: "NDArray[np.float64]", width: float | None) -> "NDArray[np.float64]":
    import numpy as np

    if width is None:
        return np.full(len(values), np.nan)
    return np.floor(values / width) if width else values


def _middle(
    bins: "NDArray[np.float64]", width: float | None, largest: float
) -> "NDArray[np.float64]":
    import numpy as np

    if not width:
        return bins
    first = bins * width
    return np.asarray((first + np.minimum(first + width - 1, largest)) / 2, dtype=np.float64)


def _coded(values: "NDArray[np.float64]") -> "Codes":
    """Values as whole numbers from 0 on, a missing one as one of them."""
    import numpy as np

    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def _joined(first: "Codes", second: "Codes") -> "Codes":
    """Codes of the pairs that there are, from 0 on."""
    import numpy as np

    span = int(second.max(initial=0)) + 1
    together = first * span + second
    size = (int(first.max(initial=0)) + 1) * span
    codes: Codes
    if size > 4 * len(together) + 1_000:
        codes = np.unique(together, return_inverse=True)[1].astype(np.int64)
    else:  # dense: no sort needed
        there = np.bincount(together, minlength=size) > 0
        codes = (np.cumsum(there) - 1)[together].astype(np.int64)
    return codes


def _sizes(columns: "Sequence[Codes]", counts: "Counts") -> "Counts":
    """For each distinct combination the number of rows in its class."""
    import numpy as np

    classes = np.zeros(len(counts), dtype=np.int64)
    for codes in columns:
        classes = _joined(classes, codes)
    return np.bincount(classes, weights=counts).astype(np.int64)[classes]


def _left_out(columns: "Sequence[Codes]", counts: "Counts", k: int) -> int:
    """How many rows are in classes below k."""
    return int(counts[_sizes(columns, counts) < k].sum())


def _nodes(distinct: "Sequence[Sequence[Codes]]") -> Iterator[tuple[int, ...]]:
    """The lattice by the precision lost, the least first."""
    heights = [max(1, len(levels) - 1) for levels in distinct]
    every = product(*(range(len(levels)) for levels in distinct))
    yield from sorted(
        every, key=lambda node: sum(r / h for r, h in zip(node, heights, strict=True))
    )


def _least_coarse(
    distinct: "Sequence[Sequence[Codes]]", counts: "Counts", k: int, allowed: int
) -> tuple[int, ...]:
    """The first node that reaches k; the last one, without quasi-identifiers, always does."""
    size = 1
    for levels in distinct:
        size *= len(levels)
    if size > MOST_NODES:
        raise KNotReached(
            f"the quasi-identifiers span {size} generalisations, more than {MOST_NODES}",
            "shorten their ladders",
        )
    failing = {
        ((a, i), (b, j))
        for a, b in combinations(range(len(distinct)), 2)
        for i, first in enumerate(distinct[a])
        for j, second in enumerate(distinct[b])
        if _left_out([first, second], counts, k) > allowed
    }
    for node in _nodes(distinct):
        if any(pair in failing for pair in combinations(enumerate(node), 2)):
            continue
        chosen = [levels[rung] for levels, rung in zip(distinct, node, strict=True)]
        if _left_out(chosen, counts, k) <= allowed:
            return node
    raise AssertionError("one class of all rows is at least k")
