"""The tables of docs/benchmarks.md, made of the figures that the benchmarks stored."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.benchmarks import flamby

Data = dict[str, Any]

NAMES: Final = {
    "nodp": "federated, no noise",
    "eps3": "federated, epsilon 3",
    "eps1": "federated, epsilon 1",
    "eps05": "federated, epsilon .5",
    "pooled": "all patients in one table*",
    "recalibrated": "epsilon 1, recalibrated by each hospital**",
    "alone": "each hospital's own model",
}
_RUN_HERE: Final = {
    "pooled training": "pooled",
    "each hospital alone": "local",
    "majority": "majority",
    "FedAvg, FedProx": "fedavg",
}


def write(document: Path, name: str, content: str) -> None:
    """Put `content` between the document's two markers of that name.

    Raises ValueError if the document does not have them.
    """
    text = document.read_text()
    if len(_between(name).findall(text)) != 1:
        raise ValueError(f"{document.name} does not have the markers of {name}")
    document.write_text(_between(name).sub(lambda found: found[1] + content + found[3], text))


def read(document: Path, name: str) -> str:
    """What stands between the document's two markers of that name."""
    (found,) = _between(name).findall(document.read_text())
    return str(found[1])


def _between(name: str) -> re.Pattern[str]:
    begin, end = (re.escape(f"<!-- {word} {name} -->\n") for word in ("begin", "end"))
    return re.compile(f"({begin})(.*?)({end})", re.DOTALL)


def render(data: Data) -> str:
    """All tables of the area `models`, as Markdown."""
    parts = [
        _asked(data), _flamby(data["flamby"]), _heart(data["heart"]),
        _hospitals(data["heart"]["hospitals"]), _splits(data),
    ]  # fmt: skip
    return "\n" + "\n".join(parts)


def _asked(data: Data) -> str:
    """What was set as a goal before, and whether it is reached."""
    heart, splits, breast = data["heart"]["rows"], data["resplits"]["rows"], data["breast"]["rows"]
    best = max(data["flamby"]["pooled"]["own_average"], *(r.average for r in flamby.PUBLISHED))
    goals: list[tuple[str, float, float]] = [
        ("FLamby's split, no noise: average of 4 at least", heart["nodp"]["average"], 0.825),
        ("epsilon 3: at least", heart["eps3"]["average"], 0.82),
        ("epsilon 1: at least", heart["eps1"]["average"], 0.805),
        ("epsilon 1: above FLamby's best row, on its own scaling", heart["eps1"]["average"], best),
        ("re-splits, epsilon 1: average of 4 at least", splits["eps1"]["average"], 0.79),
        ("re-splits, epsilon 1: AUROC at least", splits["eps1"]["auroc"], 0.86),
        (
            "re-splits, epsilon 1: accuracy lost to the noise at most",
            splits["eps1"]["average_lost"],
            -0.01,
        ),
        (
            "re-splits, epsilon 1: AUROC lost to the noise at most",
            splits["eps1"]["auroc_lost"],
            -0.01,
        ),
        ("breast cancer, epsilon 1: accuracy lost at most", breast["eps1"]["average_lost"], -0.012),
        ("breast cancer, epsilon 1: AUROC lost at most", breast["eps1"]["auroc_lost"], -0.006),
    ]
    rows = []
    for what, value, limit in goals:
        reached = value >= limit if limit > 0 else value <= -limit
        rows.append([what, short(abs(limit)), short(value), "yes" if reached else "**no**"])
    return table(["goal", "set", "measured", "reached"], rows)


def _flamby(data: Data) -> str:
    rows = []
    for published in flamby.PUBLISHED:
        cells = [published.name, short(published.average), "", _short(published.pooled), "", "", ""]
        if here := data.get(_RUN_HERE.get(published.name, "")):
            cells[2] = short(here["average"])
            if "average_sd" in here:
                cells[2] += f" ± {short(here['average_sd'])}"
                cells[5] = short(here["own_average"])
            if published.pooled is not None:
                cells[4], cells[6] = short(here["pooled"]), short(here["own_pooled"])
        rows.append(cells)
    head = [
        "FLamby's rows", "average of 4, published", "run here", "all patients, published",
        "run here", "own scaling: average of 4", "all patients",
    ]  # fmt: skip
    return table(head, rows)


def _heart(data: Data) -> str:
    rows = [
        [
            NAMES[name], _with(row, "average"), f"± {short(row['average_sd'])}",
            short(row["accuracy"]), short(row["balanced"]), _with(row, "auroc"),
            short(row["auroc_hospitals"]), short(row["ece"]),
        ]
        for name, row in data["rows"].items()
    ]  # fmt: skip
    rows.append(["majority", short(data["majority"]), *[""] * 6])
    head = [
        "ours, FLamby's split", "average of 4 (95 % over patients)", "20 seeds", "all patients",
        "balanced", "AUROC (95 % over patients)", "AUROC, mean of hospitals", "ECE",
    ]  # fmt: skip
    return table(head, rows)


def _hospitals(data: Sequence[Data]) -> str:
    rows = []
    for hospital in data:
        cells = [f"{hospital['title']} ({hospital['patients']})"]
        cells += [short(hospital[name]["accuracy"]) for name in ("alone", "nodp", "eps1")]
        cells.append(_short(hospital["alone"].get("auroc")))
        cells += [
            f"{signed(hospital[name]['gain'])} ({_signed_range(hospital[name]['gain_interval'])})"
            if "gain" in hospital[name]
            else "n/a"
            for name in ("nodp", "eps1")
        ]
        rows.append(cells)
    head = [
        "hospital (test patients)", "accuracy alone", "federated", "epsilon 1", "AUROC alone",
        "federated, gained (95 % over patients)", "epsilon 1, gained",
    ]  # fmt: skip
    return table(head, rows)


def _splits(data: Data) -> str:
    rows = []
    for title, part in (
        (f"heart, {data['resplits']['splits']} re-splits", data["resplits"]),
        (f"breast cancer, {data['breast']['splits']} splits", data["breast"]),
    ):
        for name, row in part["rows"].items():
            cells = [
                title, NAMES[name], _with(row, "average"), short(row["accuracy"]),
                _with(row, "auroc"), short(row["auroc_hospitals"]), short(row["ece"]), "", "",
            ]  # fmt: skip
            if "average_lost" in row:
                cells[-2:] = [_with(row, "average_lost"), _with(row, "auroc_lost")]
            rows.append(cells)
            title = ""
    head = [
        "", "model", "average of 4 (95 % over splits)", "all patients", "AUROC (95 % over splits)",
        "AUROC, mean of hospitals", "ECE", "accuracy lost to noise", "AUROC lost to noise",
    ]  # fmt: skip
    text = table(head, rows)
    gains = [
        [
            name,
            *(f"{signed(g['gain'])} ({_signed_range(g['gain_interval'])})" for g in row.values()),
        ]
        for part in (data["resplits"], data["breast"])
        for name, row in part["gains"].items()
    ]
    head = [
        "AUROC gained over the own model (95 % over splits)",
        "no noise",
        "epsilon 3",
        "epsilon 1",
    ]
    below = [
        f"{name} (no noise, {title})"
        for title, part in (("re-splits", data["resplits"]), ("breast cancer", data["breast"]))
        for name, row in part["gains"].items()
        if row["nodp"]["gain_interval"][1] < 0
    ]
    verdict = f"Below its own model, beyond the interval: {', '.join(below) or 'none'}.\n"
    return "\n".join([text, table(head, gains), verdict])


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def short(value: float) -> str:
    """Three decimals without the zero before the point: .813."""
    text = f"{abs(value):.3f}"
    return ("−" if value < 0 and float(text) > 0 else "") + (text[1:] if text[0] == "0" else text)


def signed(value: float) -> str:
    """As `short`, with a plus where it is positive."""
    text = short(value)
    return text if text.startswith("−") or float(text) == 0 else f"+{text}"


def _short(value: float | None) -> str:
    return "" if value is None else short(value)


def _with(row: Data, name: str) -> str:
    low, high = row[f"{name}_interval"]
    return f"{short(row[name])} ({short(low)}–{short(high)})"


def _signed_range(interval: Sequence[float]) -> str:
    return f"{signed(interval[0])} to {signed(interval[1])}"
