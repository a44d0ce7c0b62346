"""Accuracy on FLamby's heart-disease benchmark as a picture (SVG): its rows, and ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

from tests.benchmarks import flamby
from tests.benchmarks.models_report import NAMES, short

_WIDTH, _LEFT, _RIGHT, _TOP, _ROW = 860, 250, 690, 92, 26
_LOW, _HIGH = 0.60, 0.90
# Of Okabe and Ito's colours: told apart by people who do not see red from green.
_BLUE, _ORANGE, _GREY, _PALE = "#0072b2", "#d55e00", "#767676", "#e6e6e6"
_RUN_HERE: Final = {
    "pooled training": "pooled", "each hospital alone": "local", "FedAvg, FedProx": "fedavg",
}  # fmt: skip
_OURS: Final = ("nodp", "eps3", "eps1", "eps05", "alone")


@dataclass(frozen=True)
class _Line:
    name: str
    colour: str
    value: float
    run: bool
    deviation: float | None = None
    interval: Sequence[float] | None = None


def svg(data: dict[str, Any]) -> str:
    """FLamby's rows above, ours below, best first; data: the content of `models.FIGURES`."""
    theirs = [
        _reproduced("pooled, tested on its scaling", data["flamby"]["pooled"], "own_average"),
        *(_flamby_row(row, data["flamby"]) for row in flamby.PUBLISHED),
    ]
    rows = data["heart"]["rows"]
    ours = [
        _Line(NAMES[name], _BLUE, row["average"], True, row["average_sd"], row["average_interval"])
        for name, row in rows.items()
        if name in _OURS
    ]
    groups = (("FLamby", theirs), ("MedPoLe", sorted(ours, key=lambda row: -row.value)))
    height = _TOP + _ROW * (len(theirs) + len(ours) + 2) + 44
    title = "Heart disease, FLamby's split: accuracy averaged over the four hospitals"
    parts = [f"<title>{escape(title)}</title>", _text(20, 26, title, bold=True), *_legend()]
    parts += _axis(height - 44)
    y = _TOP
    for name, lines in groups:
        parts.append(_text(20, y + 4, name, bold=True))
        for line in lines:
            y += _ROW
            parts += _drawn(line, y)
        y += _ROW
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" '
        f'width="{_WIDTH}" height="{height}" role="img" font-family="sans-serif" '
        f'font-size="13" fill="#222">\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n'
        "</svg>\n"
    )


def _flamby_row(row: flamby.Published, data: dict[str, Any]) -> _Line:
    here = data.get(_RUN_HERE.get(row.name, ""))
    if here is None:
        return _Line(row.name, _ORANGE, row.average, False)
    return _reproduced(row.name, here, "average")


def _reproduced(name: str, here: dict[str, Any], what: str) -> _Line:
    return _Line(name, _ORANGE, here[what], True, here[f"{what}_sd"], here[f"{what}_interval"])


def _legend() -> list[str]:
    y = 52
    return [
        _circle(30, y, _ORANGE, hollow=True),
        _text(42, y + 4, "as published"),
        _circle(150, y, _ORANGE),
        _circle(164, y, _BLUE),
        _text(176, y + 4, "run here, mean of the seeds"),
        _stroke(372, 398, y, _GREY, 7),
        _text(406, y + 4, "± their standard deviation"),
        _stroke(592, 618, y, _GREY, 1.5),
        _text(626, y + 4, "95 % over the test patients"),
    ]


def _axis(bottom: int) -> list[str]:
    parts = []
    for step in range(7):
        value = _LOW + 0.05 * step
        x = _x(value)
        parts.append(
            f'<line x1="{x:.1f}" y1="{_TOP - 12}" x2="{x:.1f}" y2="{bottom}" stroke="{_PALE}"/>'
        )
        parts.append(_text(x, bottom + 20, f"{value:.2f}"[1:], anchor="middle"))
    return parts


def _drawn(line: _Line, y: int) -> list[str]:
    parts = [_text(_LEFT - 14, y + 4, line.name, anchor="end")]
    if line.interval is not None:
        parts.append(_stroke(_x(line.interval[0]), _x(line.interval[1]), y, line.colour, 1.5))
    if line.deviation is not None:
        low, high = line.value - line.deviation, line.value + line.deviation
        parts.append(_stroke(_x(low), _x(high), y, line.colour, 7, opacity=0.45))
    parts.append(_circle(_x(line.value), y, line.colour, hollow=not line.run))
    said = short(line.value)
    if line.interval is not None:
        said += f" ({short(line.interval[0])}–{short(line.interval[1])})"
    parts.append(_text(_RIGHT + 20, y + 4, said))
    return parts


def _x(value: float) -> float:
    return _LEFT + (min(max(value, _LOW), _HIGH) - _LOW) / (_HIGH - _LOW) * (_RIGHT - _LEFT)


def _text(x: float, y: float, content: str, *, bold: bool = False, anchor: str = "start") -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}"{weight}>{escape(content)}</text>'


def _stroke(x1: float, x2: float, y: int, colour: str, width: float, opacity: float = 1.0) -> str:
    return (
        f'<line x1="{x1:.1f}" y1="{y}" x2="{x2:.1f}" y2="{y}" stroke="{colour}" '
        f'stroke-width="{width}" opacity="{opacity}"/>'
    )


def _circle(x: float, y: int, colour: str, hollow: bool = False) -> str:
    fill = "#fff" if hollow else colour
    return f'<circle cx="{x:.1f}" cy="{y}" r="5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
