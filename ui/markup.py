"""HTML that several pages are made of: chips, cards, tables. All text is escaped here.

No colour says anything alone: a chip has an icon and a word. On a narrow screen a table's rows
become cards (`style.css`).
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum
from html import escape
from pathlib import Path

import streamlit as st

STYLE = Path(__file__).with_name("style.css")


class Html(str):
    """Text that is HTML already."""


class Tone(StrEnum):
    """What a chip wants of whoever reads it."""

    GOOD = "good"
    BUSY = "busy"
    WARN = "warn"
    BAD = "bad"
    QUIET = "quiet"


_ICONS = {
    Tone.GOOD: "check_circle", Tone.BUSY: "progress_activity", Tone.WARN: "warning",
    Tone.BAD: "cancel", Tone.QUIET: "radio_button_unchecked",
}  # fmt: skip
_COMMAND = re.compile(r"`([^`]+)`")
_SHORT = 24
Cell = str | int | float | None


def html(value: Cell) -> Html:
    """A value as HTML, what stands in backticks as code; nothing is shown as a dash."""
    if isinstance(value, Html):
        return value
    if value is None or value == "":
        return Html('<span class="mp-none">–</span>')
    text = escape(f"{value:,}" if isinstance(value, int) else str(value))
    return Html(_COMMAND.sub(r'<code class="mp-mono">\1</code>', text))


def icon(name: str) -> Html:
    """One of the icons that come with the server; a reader aloud passes over it."""
    return Html(f'<span class="mp-icon" aria-hidden="true">{escape(name)}</span>')


def chip(word: str, tone: Tone, symbol: str | None = None) -> Html:
    """A state: icon and word."""
    return Html(
        f'<span class="mp-chip mp-{tone}">{icon(symbol or _ICONS[tone])}{html(word)}</span>'
    )


def mono(text: str, shown: int | None = None) -> Html:
    """A hash, or its beginning with the whole in the tooltip."""
    short = text if shown is None else text[:shown]
    kind = "mp-mono mp-short" if len(short) <= _SHORT else "mp-mono"
    return Html(f'<code class="{kind}" title="{escape(text)}">{escape(short)}</code>')


def link(text: Cell, where: str) -> Html:
    """A link inside the portal."""
    return Html(f'<a class="mp-link" href="{escape(where)}" target="_self">{html(text)}</a>')


def download(text: str, where: str, primary: bool = False) -> Html:
    """A link, like a button, to a file."""
    kind = "mp-button mp-primary" if primary else "mp-button"
    return Html(
        f'<a class="{kind}" href="{escape(where)}" target="_self" download>'
        f"{icon('download')}{html(text)}</a>"
    )


def metrics(cards: Iterable[tuple[str, Cell] | tuple[str, Cell, Cell]]) -> Html:
    """Numbers side by side: label, value, and a word below."""
    shown = "".join(
        f'<div class="mp-metric"><dt>{html(label)}</dt><dd>{html(value)}</dd>'
        + (f"<small>{html(more[0])}</small></div>" if more else "</div>")
        for label, value, *more in cards
    )
    return Html(f'<dl class="mp-metrics">{shown}</dl>')


def table(
    label: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], numbers: Sequence[str] = ()
) -> Html:
    """A table; ``numbers`` names the columns that are set to the right."""
    right = dict.fromkeys(numbers, ' class="mp-number"')
    head = "".join(
        f'<th scope="col"{right.get(name, "")}>{html(name) if name else ""}</th>'
        for name in columns
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td data-label="{escape(name)}"{right.get(name, "")}><span>{html(cell)}</span></td>'
            for name, cell in zip(columns, row, strict=True)
        )
        + "</tr>"
        for row in rows
    )
    return Html(
        f'<div class="mp-scroll" role="region" tabindex="0" aria-label="{escape(label)}">'
        f'<table class="mp-table"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def facts(pairs: Mapping[str, Cell]) -> Html:
    """Names and values, one below the other."""
    shown = "".join(f"<dt>{html(name)}</dt><dd>{html(value)}</dd>" for name, value in pairs.items())
    return Html(f'<dl class="mp-facts">{shown}</dl>')


def bullets(lines: Iterable[Cell]) -> Html:
    """A list."""
    return Html(f'<ul class="mp-list">{"".join(f"<li>{html(line)}</li>" for line in lines)}</ul>')


def notice(title: str, text: Cell, tone: Tone = Tone.QUIET, symbol: str = "info") -> Html:
    """A box that says something: what is not there and what to do, or what to look at."""
    return Html(
        f'<div class="mp-notice mp-{tone}" role="note">{icon(symbol)}<div><b>{html(title)}</b> '
        f"{html(text)}</div></div>"
    )


def small(text: Cell) -> Html:
    """What stands below a table or a chart."""
    return Html(f'<p class="mp-small">{html(text)}</p>')


def joined(*parts: Cell) -> Html:
    """Pieces one after another."""
    return Html("".join(html(part) for part in parts))


def put(*parts: Html) -> None:
    """Puts HTML onto the page."""
    if body := "".join(parts):
        st.html(body)
