"""The report's markup: text that is not markup already is escaped in `join`."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from html import escape


class Html(str):
    """Markup; what is not of this class is escaped."""


class Figure(str):
    """The text of a number."""


def joined(*parts: object) -> Html:
    """Parts as markup; what is not markup already is escaped."""
    return Html("".join(p if isinstance(p, Html) else escape(str(p)) for p in parts))


def tag_of(tag: str, *parts: object, **attributes: object) -> Html:
    """An element; ``class_`` and ``aria_label`` are written as in HTML."""
    given = (
        f' {name.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for name, value in attributes.items()
    )
    return Html(f"<{tag}{''.join(given)}>{joined(*parts)}</{tag}>")


def section_of(title: str, *parts: object, **attributes: object) -> Html:
    """A section under its title."""
    return joined(tag_of("section", tag_of("h2", title), *parts, **attributes), Html("\n"))


def remark(strong: str, rest: str = "") -> Html:
    """A warning that stands out."""
    return tag_of("p", tag_of("strong", strong), rest, class_="note warning")


def facts_of(*facts: tuple[str, object], **attributes: object) -> Html:
    """Names and values."""
    pairs = (
        tag_of("div", tag_of("dt", name), tag_of("dd", _shown(value))) for name, value in facts
    )
    return tag_of("dl", *pairs, **attributes)


def table_of(
    caption: str, head: Sequence[object], rows: Sequence[Sequence[object]], *total: object
) -> Html:
    """A table that scrolls by itself where it is too wide; ``total`` is its last row."""
    if not rows:
        return tag_of("p", f"{caption}: none.")
    looks = [_look(value) for value in rows[0]]
    titles = (tag_of("th", t, scope="col", class_=k) for t, k in zip(head, looks, strict=True))
    lines = [_row(row, "row") for row in rows]
    if total and len(rows) > 1:
        lines.append(_row(("All", *total), "total"))
    table = tag_of(
        "table", tag_of("caption", tag_of("span", caption)), tag_of("thead", tag_of("tr", *titles)),
        Html("\n"), tag_of("tbody", *lines),
    )  # fmt: skip
    return tag_of("div", table, class_="scroll", role="region", tabindex=0, aria_label=caption)


def _row(row: Sequence[object], look: str) -> Html:
    cells = (tag_of("td", _shown(value), class_=_look(value)) for value in row[1:])
    return joined(tag_of("tr", tag_of("th", row[0], scope="row"), *cells, class_=look), Html("\n"))


def _look(value: object) -> str:
    number = isinstance(value, int | Figure)
    return "number" if number else "bar" if str(value).startswith("<svg") else "text"


def _shown(value: object) -> object:
    return f"{value:,}" if isinstance(value, int) else value


def bar_of(parts: Sequence[tuple[str, int | Fraction]], most: int | Fraction) -> Html:
    """A bar of parts (look, size); ``most`` fills the whole width."""
    drawn, x = [], Fraction(0)
    for look, size in parts:
        start, x = round(x), x + Fraction(size * 1000) / (most or 1)
        drawn.append(tag_of("rect", class_=look, x=start, y=0, width=round(x) - start, height=1))
    shape = {"viewBox": "0 0 1000 1", "preserveAspectRatio": "none", "aria_hidden": "true"}
    return tag_of("svg", *drawn, **shape)


def legend_of(looks: Mapping[str, str]) -> Html:
    """What a chart's colours mean."""
    keys = (joined(tag_of("span", class_=f"key {look}"), name) for name, look in looks.items())
    return tag_of("span", *keys, class_="legend")


def rounded_up(decimal: str) -> Figure:
    """Three digits: never less than was declared."""
    thousandths = -(-Fraction(decimal) * 1000 // 1)
    return Figure(f"{thousandths // 1000:,}.{thousandths % 1000:03}")


def natural_order(name: str) -> list[tuple[int, str]]:
    """``hospital-2`` before ``hospital-10``."""
    return [(len(part) if part.isdigit() else 0, part) for part in re.split("([0-9]+)", name)]


def utc(seconds: int) -> str:
    """Unix seconds as a date and time."""
    try:
        return f"{datetime(1970, 1, 1) + timedelta(seconds=seconds)} UTC"
    except OverflowError:
        return f"{seconds} s after 1970"
