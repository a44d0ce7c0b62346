"""The portal's charts: Altair, in the colours of Okabe and Ito, with a tooltip on every mark.

Okabe and Ito's palette can be told apart with every common kind of colour blindness; black and
yellow are left out, because one of them is lost on a dark or on a light page. Beyond seven
hospitals colours repeat with another dash. (M. Okabe and K. Ito, "Color universal design", 2008.)
"""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from ui.figures import LEARNER, OTHER, REJECTED

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
DASHES = ((1, 0), (6, 3), (2, 2))
MOST_MARKED_ROUNDS = 60
HEIGHT = 320


def score_chart(proofs: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each proof's score by round; the mark says whether it was accepted, or the learner's."""
    scored = proofs.dropna(subset=["score"])
    outcome = alt.Shape("outcome:N", title="Proof", legend=_legend("gray")).scale(
        domain=[OTHER, LEARNER, REJECTED], range=["circle", "diamond", "cross"]
    )
    y = alt.Y("score:Q", title="Score (AUROC, in steps of .02)").scale(zero=False, padding=16)
    tooltip = [
        alt.Tooltip("score:Q", title="Score (AUROC)", format=".2f"),
        alt.Tooltip("outcome:N", title="Proof"),
        alt.Tooltip("reason:N", title="Outcome"),
    ]
    return _nested(
        "Score of each hospital's proof by round", scored, hospitals, _rounds(), y, tooltip, outcome
    )


def shapley_chart(proofs: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each proof's Shapley value by round."""
    y = alt.Y("shapley:Q", title="Shapley value (AUROC)")
    tooltip = [
        alt.Tooltip("shapley:Q", title="Shapley value (AUROC)", format=".4f"),
        alt.Tooltip("reason:N", title="Outcome"),
    ]
    valued = proofs.dropna(subset=["shapley"])
    title = "Shapley value of each hospital's proof by round"
    return _nested(title, valued, hospitals, _rounds(), y, tooltip)


def credit_chart(credits: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Each hospital's running sum of credits."""
    y = alt.Y("total:Q", title="Credits so far")
    tooltip = [
        alt.Tooltip("total:Q", title="Credits so far", format=","),
        alt.Tooltip("earned:Q", title="Earned in this round", format=","),
    ]
    return _nested("Credits of each hospital so far", credits, hospitals, _rounds(), y, tooltip)


def epsilon_chart(spends: pd.DataFrame, hospitals: Sequence[str]) -> alt.LayerChart:
    """Epsilon after each reveal."""
    x = _rounds("step", "Round, over all jobs of this task")
    y = alt.Y("epsilon:Q", title="Epsilon so far").scale(zero=True)
    tooltip = [
        alt.Tooltip("job:N", title="Job"),
        alt.Tooltip("epsilon:Q", title="Epsilon so far", format=".3f"),
        alt.Tooltip("delta:N", title="Delta"),
        alt.Tooltip("noise:N", title="Noise multiplier"),
    ]
    return _nested("Epsilon of each hospital after each round", spends, hospitals, x, y, tooltip)


def _nested(
    description: str, rows: pd.DataFrame, hospitals: Sequence[str], x: alt.X, y: alt.Y,
    tooltip: Sequence[alt.Tooltip], shape: alt.Shape | None = None,
) -> alt.LayerChart:  # fmt: skip
    """One line a hospital. Earlier ones are wider, so that equal values lie inside one another."""
    colour, dash = _hospital(hospitals), _dash(hospitals)
    named = [alt.Tooltip("hospital:N", title="Hospital"), alt.Tooltip("round:Q", title="Round")]
    marked = rows["round"].nunique() <= MOST_MARKED_ROUNDS
    lines, points = [], []
    for position, hospital in enumerate(hospitals):
        behind = (len(hospitals) - 1 - position) if len(hospitals) <= len(PALETTE) else 0
        own = alt.Chart(rows[rows["hospital"] == hospital]).encode(x=x, y=y, color=colour)
        lines.append(own.mark_line(strokeWidth=2 + 2 * behind).encode(strokeDash=dash))
        point = own.mark_point(
            size=(8 + 4 * behind) ** 2, filled=True, opacity=1 if marked else 0
        ).encode(tooltip=[*named, *tooltip])
        points.append(point if shape is None else point.encode(shape=shape))
    return alt.LayerChart(layer=[*lines, *points], height=HEIGHT, description=description)


def _rounds(field: str = "round", title: str = "Round") -> alt.X:
    axis = alt.Axis(tickMinStep=1, format="d", grid=False)
    return alt.X(f"{field}:Q", title=title, axis=axis).scale(nice=False, padding=20)


def _legend(colour: str | None = None) -> alt.Legend:
    # A symbol without a colour of its own would be black, which a dark page swallows.
    fill = {} if colour is None else {"symbolFillColor": colour, "symbolStrokeColor": colour}
    return alt.Legend(orient="top", columns=4, symbolSize=100, **fill)


def _hospital(hospitals: Sequence[str]) -> alt.Color:
    colours = [PALETTE[position % len(PALETTE)] for position in range(len(hospitals))]
    return alt.Color("hospital:N", title="Hospital", legend=_legend()).scale(
        domain=list(hospitals), range=colours
    )


def _dash(hospitals: Sequence[str]) -> alt.StrokeDash:
    dashes = [DASHES[position // len(PALETTE) % len(DASHES)] for position in range(len(hospitals))]
    return alt.StrokeDash("hospital:N", title="Hospital", legend=_legend()).scale(
        domain=list(hospitals), range=[list(dash) for dash in dashes]
    )
