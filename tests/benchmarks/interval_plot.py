"""Block intervals as a picture: how often each length came, and what share was no longer."""

import math
from collections.abc import Callable, Sequence
from html import escape
from statistics import fmean, stdev
from typing import Final

_WIDTH, _HEIGHT = 760, 660
_LEFT, _RIGHT, _PANEL = 64, 736, 210
_TOPS = (96, 386)
_BINS_A_MEAN = 10
# Okabe and Ito's colours: told apart by people who do not see red from green.
_LEARNING, _WORK, _IDEAL = "#0072b2", "#e69f00", "#555"
_NAMES: Final = ((_LEARNING, "Proof of Learning"), (_WORK, "proof of work"))

Point = tuple[float, float]


def svg(learned: Sequence[float], worked: Sequence[float]) -> str:
    """Two panels over the same seconds: histogram above, empirical distribution below.

    learned, worked: seconds between blocks, of Proof of Learning and of proof of work. The dashed
    line is the exponential distribution of the mean of ``worked``: what proof of work tends to.
    """
    mean = fmean(worked)
    width = mean / _BINS_A_MEAN
    end = width * math.ceil(max(*learned, *worked) / width + 1e-9)
    series = (learned, worked)
    parts = [_title(series), *_legend(series)]

    counts = [_counts(values, width, round(end / width)) for values in series]
    most = max(map(max, counts))
    top = _nice_end(most)
    across, up = _scale(0, end, _LEFT, _RIGHT), _scale(0, top, _TOPS[0] + _PANEL, _TOPS[0])
    parts += _axes(across, up, end, top, f"blocks per {width:.2g} s", "{:g}")
    for (colour, _), counted in zip(_NAMES, counts, strict=True):
        steps = [
            (across(edge * width), up(count))
            for bin, count in enumerate(counted) for edge in (bin, bin + 1)
        ]  # fmt: skip
        parts.append(_area([(across(0), up(0)), *steps, (across(end), up(0))], colour))
    expected = [len(worked) * width / mean * math.exp(-i * end / 200 / mean) for i in range(201)]
    curve = [(across(i * end / 200), up(value)) for i, value in enumerate(expected)]
    parts.append(_line(curve, _IDEAL, dashed=True))

    up = _scale(0, 100, _TOPS[1] + _PANEL, _TOPS[1])
    parts += _axes(across, up, end, 100, "share of blocks made by then", "{:g} %")
    for (colour, _), values in zip(_NAMES, series, strict=True):
        parts.append(_line(_distribution(values, across, up, end), colour))
    curve = [
        (across(i * end / 200), up(100 - 100 * math.exp(-i * end / 200 / mean)))
        for i in range(201)
    ]  # fmt: skip
    parts.append(_line(curve, _IDEAL, dashed=True))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="13" fill="#222">\n<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _title(series: Sequence[Sequence[float]]) -> str:
    blocks = " and ".join(sorted({str(len(values)) for values in series}))
    name = "Seconds from one block to the next"
    return f"<title>{name}</title>\n" + _text(_LEFT, 26, f"{name}, {blocks} blocks each", size=16)


def _legend(series: Sequence[Sequence[float]]) -> list[str]:
    parts = []
    for x, (colour, name), values in zip((_LEFT, _LEFT + 280), _NAMES, series, strict=True):
        mean = fmean(values)
        label = f"{name}: mean {mean:.2f} s, CV {stdev(values) / mean:.2f}"
        parts.append(f'<rect x="{x}" y="43" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(x + 18, 54, label, size=12))
    x = _LEFT + 536
    parts.append(_line([(x, 49), (x + 20, 49)], _IDEAL, dashed=True))
    parts.append(_text(x + 26, 54, "exponential, CV 1", size=12))
    return parts


def _axes(
    across: Callable[[float], float], up: Callable[[float], float], end: float, top: float,
    label: str, form: str,
) -> list[str]:  # fmt: skip
    parts = [_text(_LEFT, up(top) - 10, label, size=12)]
    for value in _ticks(top):
        parts.append(_line([(_LEFT, up(value)), (_RIGHT, up(value))], "#ddd", 1))
        parts.append(_text(_LEFT - 8, up(value) + 4, form.format(value), "end", 12))
    for value in _ticks(end):
        x = across(value)
        parts.append(_line([(x, up(0)), (x, up(0) + 5)], "#222", 1))
        parts.append(_text(x, up(0) + 20, f"{value:g}", "middle", 12))
    parts.append(_line([(_LEFT, up(0)), (_RIGHT, up(0))], "#222", 1))
    parts.append(_text((_LEFT + _RIGHT) / 2, up(0) + 40, "seconds since the last block", "middle"))
    return parts


def _counts(values: Sequence[float], width: float, bins: int) -> list[int]:
    counts = [0] * bins
    for value in values:
        counts[min(int(value / width), bins - 1)] += 1
    return counts


def _distribution(
    values: Sequence[float], across: Callable[[float], float], up: Callable[[float], float],
    end: float,
) -> list[Point]:  # fmt: skip
    points = [(across(0), up(0))]
    for place, value in enumerate(sorted(values)):
        points += [(across(value), up(100 * place / len(values)))]
        points += [(across(value), up(100 * (place + 1) / len(values)))]
    return [*points, (across(end), up(100))]


def _scale(low: float, high: float, start: float, stop: float) -> Callable[[float], float]:
    return lambda value: start + (value - low) / (high - low) * (stop - start)


def _step(end: float) -> float:
    """A step of 1, 2 or 5 times a power of ten: at most five of them."""
    power = 10.0 ** math.floor(math.log10(end / 5))
    return next(power * times for times in (1, 2, 5, 10) if end <= 5 * power * times * (1 + 1e-9))


def _ticks(end: float) -> list[float]:
    step = _step(end)
    return [round(step * i, 9) for i in range(math.floor(end / step + 1e-9) + 1)]


def _nice_end(most: float) -> float:
    return _step(most) * math.ceil(most / _step(most))


def _text(x: float, y: float, content: str, anchor: str = "start", size: int = 13) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">'
        f"{escape(content)}</text>"
    )


def _line(points: Sequence[Point], colour: str, width: float = 1.8, dashed: bool = False) -> str:
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return (
        f'<polyline points="{_joined(points)}" fill="none" stroke="{colour}" '
        f'stroke-width="{1.2 if dashed else width}"{dashes}/>'
    )


def _area(points: Sequence[Point], colour: str) -> str:
    return (
        f'<polygon points="{_joined(points)}" fill="{colour}" fill-opacity="0.35" '
        f'stroke="{colour}" stroke-width="1.2"/>'
    )


def _joined(points: Sequence[Point]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
