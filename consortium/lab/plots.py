"""The lab's outcome as pictures (SVG): what was caught, the harm to the model, what it earned."""

from collections.abc import Sequence
from html import escape
from typing import Final

from consortium.lab.catalogue import BY_NAME
from consortium.lab.summary import WITHIN, Row

_WIDTH, _LEFT, _PLOT, _ROW, _TOP = 860, 170, 440, 24, 64
# Of Okabe and Ito's colours: told apart by people who do not see red from green.
_BLUE, _ORANGE, _GREY, _PALE = "#0072b2", "#d55e00", "#767676", "#e6e6e6"
_MOST_PAID: Final = 3.0


def caught(rows: Sequence[Row], title: str) -> str:
    """A bar an attack: the share of its trials that were answered with a code that is expected."""
    shown = [row for row in rows if row.attack in BY_NAME and BY_NAME[row.attack].codes]
    parts = _axis([(i / 4, f"{25 * i} %") for i in range(5)], len(shown))
    for place, row in enumerate(shown):
        y, share = _y(place), row.caught / row.trials if row.trials else 0.0
        parts.append(_text(_LEFT - 10, y + 4, row.attack, anchor="end"))
        parts.append(_rect(_LEFT, y - 7, _PLOT, _PALE))
        parts.append(_rect(_LEFT, y - 7, share * _PLOT, _BLUE))
        codes = [code for code in row.codes if code in BY_NAME[row.attack].codes]
        said = f"{row.caught} of {row.trials}" + (f"  {codes[0]}" if codes else "")
        parts.append(_text(_LEFT + _PLOT + 12, y + 4, said))
    legend = [_text(_LEFT, 44, "share of the trials that were answered with the expected code")]
    return _svg(title, legend + parts, len(shown))


def harm(rows: Sequence[Row], title: str) -> str:
    """A line an attack: how far AUROC falls with nothing defended, and as it is."""
    shown = [row for row in rows if row.lost_off is not None and row.lost_on is not None]
    most = max([0.02, *(abs(row.lost_off or 0) for row in shown)])
    step = next(s for s in (0.01, 0.02, 0.05, 0.1, 0.2) if most / s <= 6)
    count = int(most / step) + 1

    def x(lost: float) -> float:
        return min(1.0, (lost + step) / ((count + 1) * step))

    ticks = [(x(i * step), _short(i * step, 2) if i else "0") for i in range(-1, count + 1)]
    parts = _axis(ticks, len(shown))
    limit = _LEFT + x(WITHIN) * _PLOT
    parts.append(_line(limit, _TOP - 8, limit, _y(len(shown)) - 10, _GREY, dashes="4 3"))
    for place, row in enumerate(shown):
        y = _y(place)
        off, on = (_LEFT + x(v or 0) * _PLOT for v in (row.lost_off, row.lost_on))
        parts.append(_text(_LEFT - 10, y + 4, row.attack, anchor="end"))
        parts.append(_line(off, y, on, y, _PALE, 4))
        if row.lost_absent is not None:
            away = _LEFT + x(row.lost_absent) * _PLOT
            parts.append(_line(away, y - 7, away, y + 7, _GREY, 2))
        parts.append(_circle(off, y, _ORANGE, hollow=True))
        parts.append(_circle(on, y, _BLUE))
        said = f"{_short(row.lost_off)} undefended, {_short(row.lost_on)} defended"
        parts.append(_text(_LEFT + _PLOT + 12, y + 4, said))
    legend = [
        _circle(_LEFT, 40, _ORANGE, hollow=True), _text(_LEFT + 10, 44, "nothing defended"),
        _circle(_LEFT + 130, 40, _BLUE), _text(_LEFT + 140, 44, "as it is"),
        _line(_LEFT + 220, 33, _LEFT + 220, 47, _GREY, 2),
        _text(_LEFT + 228, 44, "the hospital stays away"),
        _line(_LEFT + 390, 33, _LEFT + 390, 47, _GREY, dashes="4 3"),
        _text(_LEFT + 398, 44, f"{_short(WITHIN, 2)} of AUROC lost; means of the runs"),
    ]  # fmt: skip
    return _svg(title, legend + parts, len(shown))


def pay(rows: Sequence[Row], title: str) -> str:
    """A row of dots an attack, one a run: the cheat's learning credits over the honest mean."""
    shown = [row for row in rows if row.earned]
    ticks = [(i / _MOST_PAID, str(i)) for i in range(int(_MOST_PAID) + 1)]
    parts = _axis(ticks, len(shown))
    one = _LEFT + _PLOT / _MOST_PAID
    parts.append(_line(one, _TOP - 8, one, _y(len(shown)) - 10, _GREY, dashes="4 3"))
    for place, row in enumerate(shown):
        y = _y(place)
        parts.append(_text(_LEFT - 10, y + 4, row.attack, anchor="end"))
        for number, earned in enumerate(sorted(row.earned)):
            x = _LEFT + min(earned, _MOST_PAID) / _MOST_PAID * _PLOT
            parts.append(_circle(x, y + (number % 5 - 2) * 2, _BLUE, 3, opacity=0.5))
        said = f"below mean {row.below_mean}, above none {row.not_above} of {row.runs}"
        parts.append(_text(_LEFT + _PLOT + 12, y + 4, said))
    legend = [_text(_LEFT, 44, "the cheat's learning credits over the honest hospitals' mean, a "
                               "dot a run; at 3: 3 or more")]  # fmt: skip
    return _svg(title, legend + parts, len(shown))


def _y(place: int) -> int:
    return _TOP + 10 + place * _ROW


def _axis(ticks: Sequence[tuple[float, str]], rows: int) -> list[str]:
    bottom = _y(rows) - 10
    parts = []
    for share, label in ticks:
        x = _LEFT + share * _PLOT
        parts.append(_line(x, _TOP - 8, x, bottom, _PALE))
        parts.append(_text(x, bottom + 16, label, anchor="middle", colour=_GREY))
    return parts


def _short(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)


def _svg(title: str, parts: Sequence[str], rows: int) -> str:
    height = _y(rows) + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" role="img" '
        f'font-family="sans-serif" font-size="12" fill="#222">\n<title>{escape(title)}</title>\n'
        f'<rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join([_text(20, 22, title, bold=True), *parts])
        + "\n</svg>\n"
    )


def _text(
    x: float, y: float, content: str, *, bold: bool = False, anchor: str = "start",
    colour: str = "#222",
) -> str:  # fmt: skip
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y}" text-anchor="{anchor}" fill="{colour}"{weight}>'
        f"{escape(content)}</text>"
    )


def _rect(x: float, y: float, width: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="14" fill="{colour}"/>'


def _line(
    x1: float, y1: float, x2: float, y2: float, colour: str, width: int = 1, dashes: str = ""
) -> str:
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<line x1="{x1:.1f}" y1="{y1}" x2="{x2:.1f}" y2="{y2}" stroke="{colour}" '
        f'stroke-width="{width}"{dashed}/>'
    )


def _circle(
    x: float, y: float, colour: str, radius: int = 5, hollow: bool = False, opacity: float = 1.0
) -> str:
    fill = "#fff" if hollow else colour
    return (
        f'<circle cx="{x:.1f}" cy="{y}" r="{radius}" fill="{fill}" stroke="{colour}" '
        f'stroke-width="2" opacity="{opacity}"/>'
    )
