"""The portal's charts: Altair, in the colours of Okabe and Ito, with a tooltip on every mark.

Okabe and Ito's palette can be told apart with every common kind of colour blindness; black and
yellow are left out, because one of them is lost on a dark or on a light page. Beyond seven
hospitals colours repeat with another dash. (M. Okabe and K. Ito, "Color universal design", 2008.)
"""

from collections.abc import Sequence
from typing import Any, Literal

import altair as alt
import pandas as pd

from ui import words
from ui.figures import LEARNER, OTHER, REJECTED

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
DASHES = ((1, 0), (6, 3), (2, 2))
MODELS = {
    words.MODELS["federated"]: (PALETTE[0], "circle"),
    words.MODELS["calibrated"]: (PALETTE[2], "triangle-up"),
    words.MODELS["alone"]: (PALETTE[1], "diamond"),
    words.MODELS["majority"]: (PALETTE[3], "square"),
}
MOST_MARKED_ROUNDS = 60
HEIGHT = 300
LEGEND_ROW = 22


def score_chart(proofs: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each proof's score by round. Scores are often equal: marks lie inside one another."""
    scored = proofs.dropna(subset=["score"])
    shape = alt.Shape("outcome:N", title=None, legend=_legend(3, "gray", "bottom")).scale(
        domain=[OTHER, REJECTED, LEARNER], range=["circle", "cross", "diamond"]
    )
    x, colour = _rounds(), _hospital(hospitals, 2)
    y = alt.Y("score:Q", title="Score (AUROC, in steps of .02)").scale(zero=False, padding=16)
    tooltip = [
        *_place(),
        alt.Tooltip("score:Q", title="Score (AUROC)", format=".2f"),
        alt.Tooltip("outcome:N", title="Proof"),
        alt.Tooltip("reason:N", title="Outcome"),
    ]
    lines, points = _nested(scored.replace({"outcome": {LEARNER: OTHER}}), hospitals, x, y, colour)
    learners = alt.Chart(scored[scored["outcome"] == LEARNER])
    # On top of all, and hollow: no equal score hides who the learner was.
    size = 1200 if _opacity(scored) else 120
    ring = learners.mark_point(size=size, strokeWidth=2.5, filled=False, opacity=1).encode(
        x=x, y=y, color=colour, shape=shape, tooltip=tooltip
    )
    marked = [point.encode(shape=shape, tooltip=tooltip) for point in points]
    rows = -(-len(hospitals) // 2) + 1
    return _layered("Score of each hospital's proof by round", rows, *lines, *marked, ring)


def epsilon_chart(spends: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Epsilon after each reveal. Hospitals often spend alike: lines lie inside one another."""
    x = _rounds("step", "Round")
    y = alt.Y("epsilon:Q", title="Epsilon so far").scale(zero=True)
    tooltip = [
        *_place(),
        alt.Tooltip("epsilon:Q", title="Epsilon so far", format=".3f"),
        alt.Tooltip("delta:N", title="Delta"),
        alt.Tooltip("noise:N", title="Noise multiplier"),
    ]
    lines, points = _nested(spends, hospitals, x, y, _hospital(hospitals, 2))
    marked = [point.encode(tooltip=tooltip) for point in points]
    rows = -(-len(hospitals) // 2)
    return _layered("Epsilon of each hospital after each round", rows, *lines, *marked)


def estimate_chart(estimates: pd.DataFrame, title: str) -> alt.LayerChart:
    """Each hospital's released numbers with their intervals, one line for each model."""
    models = [model for model in MODELS if model in set(estimates["model"])]
    hospitals = sorted(set(estimates["hospital"]))
    scale: dict[str, Any] = {"domain": models}
    colour = alt.Color("model:N", title=None, legend=_legend(2)).scale(
        **scale, range=[MODELS[model][0] for model in models]
    )
    shape = alt.Shape("model:N", title=None, legend=_legend(2)).scale(
        **scale, range=[MODELS[model][1] for model in models]
    )
    y = alt.Y("hospital:N", title=None, sort=hospitals, axis=alt.Axis(labelLimit=120))
    offset = alt.YOffset("model:N", sort=models)
    tooltip = [
        alt.Tooltip("hospital:N", title="Hospital"),
        alt.Tooltip("model:N", title="Model"),
        alt.Tooltip("value:Q", title=title, format=".2f"),
        alt.Tooltip("low:Q", title="From", format=".2f"),
        alt.Tooltip("high:Q", title="To", format=".2f"),
    ]
    base = alt.Chart(estimates).encode(y=y, yOffset=offset, color=colour)
    axis = alt.Axis(tickCount=5, format=".1f")
    x = alt.X("low:Q", title=f"{title}, with 95 % interval", axis=axis).scale(domain=[0, 1])
    lines = base.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q", tooltip=tooltip)
    points = base.mark_point(size=90, filled=True, opacity=1).encode(
        x="value:Q", shape=shape, tooltip=tooltip
    )
    height = 120 + 20 * len(models) * len(hospitals)
    description = f"{title} on each hospital's test patients, by model"
    return alt.LayerChart(layer=[lines, points], height=height, description=description)


def gain_chart(gains: pd.DataFrame) -> alt.LayerChart:
    """Each hospital's gain with its interval, beside the line of no difference."""
    hospitals = sorted(set(gains["hospital"]))
    tooltip = [
        alt.Tooltip("hospital:N", title="Hospital"),
        alt.Tooltip("says:N", title="Federated model"),
        alt.Tooltip("value:Q", title="Cases of 100", format="+d"),
        alt.Tooltip("low:Q", title="From", format="+d"),
        alt.Tooltip("high:Q", title="To", format="+d"),
    ]
    y = alt.Y("hospital:N", title=None, sort=hospitals, axis=alt.Axis(labelLimit=120))
    signed = "datum.value > 0 ? '+' + datum.label : datum.label"
    axis = alt.Axis(values=list(range(-100, 101, 25)), labelExpr=signed, labelOverlap=True)
    title = "Cases found of 100: fewer (−) or more (+), with 95 % interval"
    x = alt.X("low:Q", title=title, axis=axis).scale(domain=[-100, 100])
    base = alt.Chart(gains).encode(y=y, color=alt.value(PALETTE[0]), tooltip=tooltip)
    none = alt.Chart(pd.DataFrame({"at": [0]})).mark_rule(strokeDash=[4, 4], color="gray")
    return alt.LayerChart(
        layer=[
            none.encode(x="at:Q"),
            base.mark_rule(strokeWidth=2.5).encode(x=x, x2="high:Q"),
            base.mark_point(size=90, filled=True, opacity=1).encode(x="value:Q"),
        ],
        height=80 + 32 * len(hospitals),
        description="Cases of 100 that the federated model finds more than each hospital's own",
    )


def shapley_chart(proofs: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each proof's Shapley value by round."""
    title = "Shapley value (AUROC)"
    tooltip = [
        *_place(),
        alt.Tooltip("shapley:Q", title=title, format=".4f"),
        alt.Tooltip("reason:N", title="Outcome"),
    ]
    y = alt.Y("shapley:Q", title=title)
    return _lines("Shapley value of each hospital's proof by round", proofs.dropna(
        subset=["shapley"]), hospitals, y, tooltip)  # fmt: skip


def credit_chart(credits: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each hospital's running sum of credits."""
    tooltip = [
        *_place(),
        alt.Tooltip("total:Q", title="Credits so far", format=","),
        alt.Tooltip("earned:Q", title="Earned in this round", format=","),
    ]
    y = alt.Y("total:Q", title="Credits so far")
    return _lines("Credits of each hospital so far", credits, hospitals, y, tooltip)


def _lines(
    description: str, rows: pd.DataFrame, hospitals: Sequence[str], y: alt.Y,
    tooltip: Sequence[alt.Tooltip],
) -> alt.LayerChart:  # fmt: skip
    """One line a hospital, for half a page's width."""
    chart = alt.Chart(rows).encode(x=_rounds(), y=y, color=_hospital(hospitals, 2))
    lines = chart.mark_line(strokeWidth=2).encode(strokeDash=_dash(hospitals, 2))
    points = chart.mark_point(size=70, filled=True, opacity=_opacity(rows)).encode(tooltip=tooltip)
    return _layered(description, -(-len(hospitals) // 2), lines, points)


def _nested(
    rows: pd.DataFrame, hospitals: Sequence[str], x: alt.X, y: alt.Y, colour: alt.Color
) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """Lines and points of each hospital, the first the widest, so that equal ones stay visible."""
    last = len(hospitals) - 1
    step = min(1.0, 4 / max(1, last))
    lines, points = [], []
    for position, hospital in enumerate(hospitals):
        wider = step * (last - position)
        own = alt.Chart(rows[rows["hospital"] == hospital]).encode(x=x, y=y, color=colour)
        line = own.mark_line(strokeWidth=2 + 3 * wider)
        lines.append(line.encode(strokeDash=_dash(hospitals, 2)) if step < 1 else line)
        size = (8 + 5 * wider) ** 2
        points.append(own.mark_point(size=size, filled=True, opacity=_opacity(rows)))
    return lines, points


def _opacity(rows: pd.DataFrame) -> int:
    """Over many rounds points are there for their tooltips only."""
    return int(rows["round"].nunique() <= MOST_MARKED_ROUNDS)


def _place() -> list[alt.Tooltip]:
    return [alt.Tooltip("hospital:N", title="Hospital"), alt.Tooltip("round:Q", title="Round")]


def _rounds(field: str = "round", title: str = "Round") -> alt.X:
    axis = alt.Axis(tickMinStep=1, format="d", grid=False)
    return alt.X(f"{field}:Q", title=title, axis=axis).scale(nice=False, padding=20)


def _legend(
    columns: int, colour: Any = alt.Undefined, orient: Literal["top", "bottom"] = "top"
) -> alt.Legend:
    # A symbol without a colour of its own would be black, which a dark page swallows.
    return alt.Legend(
        orient=orient,
        columns=columns,
        symbolSize=100,
        symbolFillColor=colour,
        symbolStrokeColor=colour,
    )


def _hospital(hospitals: Sequence[str], columns: int) -> alt.Color:
    colours = [PALETTE[position % len(PALETTE)] for position in range(len(hospitals))]
    return alt.Color("hospital:N", title=None, legend=_legend(columns)).scale(
        domain=list(hospitals), range=colours
    )


def _dash(hospitals: Sequence[str], columns: int) -> alt.StrokeDash:
    dashes = [DASHES[position // len(PALETTE) % len(DASHES)] for position in range(len(hospitals))]
    # With the colours' own legend: two that differ cannot be drawn as one.
    return alt.StrokeDash("hospital:N", title=None, legend=_legend(columns)).scale(
        domain=list(hospitals), range=[list(dash) for dash in dashes]
    )


def _layered(description: str, legend_rows: int, *charts: alt.Chart) -> alt.LayerChart:
    return alt.LayerChart(
        layer=list(charts), height=HEIGHT + LEGEND_ROW * legend_rows, description=description
    )
