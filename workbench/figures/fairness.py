"""Figures of fairness: a metric by category with its intervals, and the parts that carry it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style
from workbench.figures.patching import part_map

ROW = 30
"""Height of a category in pixels."""
LONGEST = 40
"""Characters of a category on an axis."""


def by_category(scores: Sequence[Any], base: str, tuned: str = "") -> go.Figure:
    """One metric of one task by category, a dot with its 95 % interval for each model.

    Args:
        scores: Records with `task`, `metric`, `category`, `even`, `base` and `tuned`.
        base: Name of the first model.
        tuned: Name of the second; "" for none.
    """
    rows = np.arange(len(scores), dtype=float)
    figure = style.figure(height=130 + ROW * (1 + bool(tuned)) * len(scores) // (1 + bool(tuned)))
    sides = [(base, "base"), (tuned, "tuned")] if tuned else [(base, "base")]
    for number, (name, side) in enumerate(sides):
        estimates = [getattr(one, side) for one in scores]
        shift = (number - (len(sides) - 1) / 2) * 0.3
        figure.add_trace(_dots(estimates, rows + shift, name, style.LINES[number]))
    first = scores[0]
    if first.even is not None:
        figure.add_vline(x=first.even, line={"color": style.SOFT, "width": 1, "dash": "dot"})
    names = [style.escaped(one.category[:LONGEST]) for one in scores]
    figure.update_yaxes(tickvals=rows, ticktext=names, range=[len(rows) - 0.5, -0.5])
    even = "" if first.even is None else f"; {first.even:g} is even"
    figure.update_xaxes(title_text=f"{first.task}: {first.metric.replace('_', ' ')}{even}")
    figure.update_layout(legend=style.LEGEND_AT_BOTTOM)
    return figure


def _dots(estimates: Sequence[Any], rows: np.ndarray, name: str, colour: str) -> go.Scatter:
    """A dot with its interval for each category."""
    values = [one.value for one in estimates]
    return go.Scatter(
        x=values,
        y=rows,
        mode="markers",
        name=style.escaped(name),
        marker={"size": 10, "color": colour},
        error_x={
            "array": [one.high - one.value for one in estimates],
            "arrayminus": [one.value - one.low for one in estimates],
            "width": 3,
            "thickness": 1.5,
            "color": colour,
        },
        customdata=[one.n for one in estimates],
        hovertemplate="<b>%{x:.3f}</b>, n = %{customdata}<extra></extra>",
    )


def carrier_map(effect: Float[np.ndarray, "layer part"], preference: float, n: int) -> go.Figure:
    """What is lost of the preference for stereotyping sentences without each head and MLP.

    Args:
        effect: By layer and part; the last part is the MLP.
        preference: Of the whole model, in nats.
        n: Pairs of which the map is the mean.
    """
    return part_map(
        effect,
        preference - effect,
        title=f"Nats of the preference that each part carries, mean of {n} pairs",
        label="nats carried",
        measured="preference left",
    )
