"""A cohort's budget as a picture: a bar for a terminal, an SVG for a report."""

from collections.abc import Sequence
from html import escape
from textwrap import wrap
from typing import Final

from hospital_agent.budget_view import CohortView, covers

_WIDTH, _LEFT, _BAR, _ROW, _LETTERS = 760, 20, 720, 22, 110
# Okabe and Ito's colours: told apart by people who do not see red from green.
_COLOURS: Final = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")


def bar(view: CohortView, width: int = 40) -> str:
    """Spent ``#``, reserved ``=``, left ``.``; what is there shows, however little it is."""
    spent = _cells(view.spent, width)
    reserved = min(_cells(view.reserved, width), width - spent)
    return "[" + "#" * spent + "=" * reserved + "." * (width - spent - reserved) + "]"


def svg(views: Sequence[CohortView]) -> str:
    """All cohorts, one bar each: what each job spent, in full colour; what it reserved, paler;
    and below what an epsilon covers.
    """
    parts: list[str] = []
    top = 16
    for view in views:
        top = _cohort(parts, view, top) + 24
    for line in (line for text in covers(views) for line in wrap(text, _LETTERS)):
        parts.append(_text(_LEFT, top, line))
        top += 16
    title = "Privacy budget: spent, reserved and left, by cohort and job"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{max(top, 60)}" '
        f'role="img" font-family="sans-serif" font-size="12" fill="#222">\n'
        f"<title>{title}</title>\n"
        f'<rect width="100%" height="100%" fill="#fff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _cohort(parts: list[str], view: CohortView, top: int) -> int:
    status = view.status
    parts.append(_text(_LEFT, top + 4, f"{view.patients}: cohort {status.cohort[:12]}…", bold=True))
    summary = (
        f"epsilon spent {status.epsilon_spent}, limit {status.epsilon_limit} at delta "
        f"{status.delta} ({view.accountant}); a next job may take "
        f"{status.epsilon_left_for_a_next_job}"
    )
    parts.append(_text(_LEFT, top + 22, summary))
    y, x = top + 32, float(_LEFT)
    parts.append(_rect(_LEFT, y, _BAR, "#e6e6e6", "left"))
    for pale in (False, True):
        for number, part in enumerate(view.parts):
            share = part.reserved if pale else part.spent
            label = f"{part.job.job}: {'reserved' if pale else 'spent'}, {share:.1%}"
            if share > 0:
                colour = _COLOURS[number % len(_COLOURS)]
                parts.append(_rect(x, y, share * _BAR, colour, label, 0.45 if pale else 1.0))
                x += share * _BAR
    y += 36
    for number, part in enumerate(view.parts):
        parts.append(_rect(_LEFT, y - 10, 12, _COLOURS[number % len(_COLOURS)], "", height=12))
        legend = (
            f"{part.job.job}: {part.job.rounds_charged} rounds charged ({part.spent:.1%}), "
            f"{part.job.rounds_reserved} reserved ({part.reserved:.1%})"
        )
        parts.append(_text(_LEFT + 20, y, legend))
        y += _ROW
    return y


def _cells(share: float, width: int) -> int:
    return 0 if share <= 0 else min(width, max(1, round(share * width)))


def _text(x: float, y: float, content: str, bold: bool = False) -> str:
    weight = ' font-weight="bold"' if bold else ""
    return f'<text x="{x}" y="{y}"{weight}>{escape(content)}</text>'


def _rect(
    x: float, y: float, width: float, colour: str, label: str, opacity: float = 1.0,
    height: int = 20,
) -> str:  # fmt: skip
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{height}" fill="{colour}" '
        f'opacity="{opacity}"><title>{escape(label)}</title></rect>'
    )
