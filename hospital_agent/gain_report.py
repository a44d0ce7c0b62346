"""What a hospital gains by a job, for people there: a sentence, a table, and what was let out.

All from the exact results (`hospital_agent.evaluation.exactly`), which never leave. Nothing is said
of fewer test patients of a class than the policy's ``fewest_of_a_class``, here too.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from consortium.intervals import auroc_interval, share_interval
from consortium.rounds.evaluation import ALONE, CALIBRATED, FEDERATED, gain_of, models_of
from ledger.records import Evaluation
from privacy.release import may_leave

MORE, FEWER, NO_DIFFERENCE, NOT_TOLD = "more", "fewer", "no difference", "not told"
_MODELS: Final = (ALONE, FEDERATED, CALIBRATED)
_MEASURES: Final = {
    "auroc": "AUROC", "accuracy": "accuracy", "sensitivity": "sensitivity",
    "specificity": "specificity", "calibration": "calibration error",
}  # fmt: skip
_NAME, _CELL = 19, 18


def shown(exact: Mapping[str, Any], fewest: int) -> dict[str, Any]:
    """The exact results without any number about too few test patients: None instead."""
    counts = _counted(exact, fewest)
    rest = dict(exact)
    for model in _MODELS:
        rest[model] = {
            name: value if may_leave(name, *counts) else None
            for name, value in exact[model].items()
        }
    rest["positives"], rest["negatives"] = (count or None for count in counts)
    if not may_leave("majority", *counts):
        rest |= {"majority": None, "gain": None, "ranking": None}
    return rest


def outcome(exact: Mapping[str, Any], fewest: int) -> str:
    """`MORE`, `FEWER`, `NO_DIFFERENCE` or `NOT_TOLD`: by the interval in whole cases of 100."""
    gain = shown(exact, fewest)["gain"]
    if gain is None:
        return NOT_TOLD
    low, high = _bounds(gain["more"])
    return MORE if low > 0 else FEWER if high < 0 else NO_DIFFERENCE


def sentence(exact: Mapping[str, Any], fewest: int) -> str:
    """What the hospital gains, in one plain sentence."""
    found = outcome(exact, fewest)
    if found == NOT_TOLD:
        return f"What you gain cannot be told: {_why_not(exact, fewest)}."
    more = exact["gain"]["more"]
    value, (low, high) = round(more["value"] * 100), _bounds(more)
    if found == NO_DIFFERENCE:
        finds = f"{_number(value)} of 100 cases" if value else "as many cases"
        return (
            "No difference between the federated model and your own can be told from this number "
            f"of patients: on yours it finds {finds} at the same false alarms (95 % interval "
            f"{_number(low)} to {_number(high)})."
        )
    ends = sorted((abs(low), abs(high)))
    return (
        f"On your patients the federated model finds {_number(value)} of 100 cases at the same "
        f"false alarms than your own (95 % interval {ends[0]} to {ends[1]})."
    )


def lines(exact: Mapping[str, Any], fewest: int, released: Evaluation | None) -> list[str]:
    """The exact table, and what was let out, each line at most 80 characters."""
    seen = shown(exact, fewest)
    sizes = [
        f"fewer than {fewest}" if seen[name] is None else str(seen[name])
        for name in ("positives", "negatives")
    ]
    rows = [
        f"Test patients: {sizes[0]} with the outcome, {sizes[1]} without. Exactly:",
        "",
        *_table({m: _exact_cells(seen, m) for m in _MEASURES}),
        "",
    ]
    gain, ranking = seen["gain"], seen["ranking"]
    if gain is not None:
        alarms = gain["false_alarms"]
        rows += [
            f"Cases found of 100, where {alarms} of {sizes[1]} are false alarms: "
            f"{100 * gain['alone']:.0f} alone, {100 * gain['federated']:.0f} federated.",
        ]
    if ranking is not None:
        rows += [
            f"AUROC, federated less alone: {ranking['value']:+.3f} "
            f"({ranking['low']:+.2f} to {ranking['high']:+.2f}).",
        ]
    own = exact["calibration"]
    rows += [
        f"Own calibration: {own['slope']:.2f} times the federated logit {own['intercept']:+.2f}; "
        "never leaves.",
        "",
    ]
    if released is None:
        return [*rows, "Nothing of it was let out."]
    if released.noised:
        return [*rows, "Let out, with noise: the federated model's AUROC and accuracy, no gain."]
    let_out = gain_of(released)
    said = "nothing"
    if let_out is not None and let_out.low is not None and let_out.high is not None:
        said = f"{_signed(let_out.value)} ({_signed(let_out.low)} to {_signed(let_out.high)})"
    models = models_of(released)
    return [
        *rows,
        f"Let out, in bands; cases found more of 100: {said}.",
        "",
        *_table({m: [_banded(models[model][m]) for model in _MODELS] for m in _MEASURES}),
    ]


def _counted(exact: Mapping[str, Any], fewest: int) -> tuple[int, int]:
    positives, negatives = (
        exact[name] if exact[name] >= fewest else 0 for name in ("positives", "negatives")
    )
    return positives, negatives


def _bounds(more: Mapping[str, float]) -> tuple[int, int]:
    """The interval in cases of 100, rounded outward; 1e-9: what a share of 100 may be off by."""
    return math.floor(more["low"] * 100 + 1e-9), math.ceil(more["high"] * 100 - 1e-9)


def _number(cases: int) -> str:
    return f"{abs(cases)} {'fewer' if cases < 0 else 'more'}" if cases else "0"


def _signed(share: float) -> str:
    return f"{round(100 * share):+d}" if share else "0"


def _why_not(exact: Mapping[str, Any], fewest: int) -> str:
    counts = _counted(exact, fewest)
    few = [name for name, count in zip(("with", "without"), counts, strict=True) if not count]
    if few:
        return (
            f"there are fewer than {fewest} test patients {' and '.join(few)} the outcome, and "
            "nothing is said of so few"
        )
    return (
        "your own model raises the alarm for every test patient without the outcome, so that no "
        "model could raise as many and find more; compare AUROC and specificity"
    )


def _table(rows: Mapping[str, list[str]]) -> list[str]:
    heads = ["", "", "federated, with"], ["alone", "federated", "own calibration"]
    named = [("", head) for head in heads]
    named += [(_MEASURES[name], cells) for name, cells in rows.items()]
    return [
        f"{name:<{_NAME}}{''.join(f'{cell:>{_CELL}}' for cell in cells)}".rstrip()
        for name, cells in named
    ]


def _exact_cells(seen: Mapping[str, Any], measure: str) -> list[str]:
    return [_exact(seen, measure, seen[model][measure]) for model in _MODELS]


def _exact(seen: Mapping[str, Any], measure: str, value: float | None) -> str:
    if value is None:
        return "n/a"
    if measure == "calibration":
        return f"{value:.3f}"
    positives, negatives = seen["positives"] or 0, seen["negatives"] or 0
    if measure == "auroc":
        low, high = auroc_interval(value, positives, negatives)
    else:
        of_class = {"sensitivity": positives, "specificity": negatives}
        low, high = share_interval(value, of_class.get(measure, positives + negatives))
    return f"{value:.3f} ({low:.2f}–{high:.2f})"


def _banded(value: int | None) -> str:
    return "n/a" if value is None else f"{value / 10_000:.2f}"
