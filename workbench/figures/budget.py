"""Costs of several things in several places, and a scaling law with its interval."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

ROW = 22
"""Height of a thing in pixels."""
POINTS = 80
"""Of a law's line."""
BEYOND = 1.3
"""Times the largest size to which a law is drawn."""
UNITS = (
    (1e-3, "1 ms"),
    (1, "1 s"),
    (60, "1 min"),
    (3600, "1 h"),
    (86400, "1 day"),
    (31_557_600, "1 year"),
)
"""Ticks of an axis of time."""


def costs(lines: Any) -> go.Figure | None:
    """A dot at the seconds of each thing and place, on an axis by powers; None where none is known.

    Args:
        lines: Columns what, on, seconds.
    """
    known = lines[lines["seconds"].notna()]
    if known.empty:
        return None
    names = list(dict.fromkeys(known["what"]))
    places = list(dict.fromkeys(known["on"]))
    dots = []
    for number, place in enumerate(places):
        part = known[known["on"] == place]
        dots.append(
            go.Scatter(
                x=part["seconds"],
                y=[style.escaped(name) for name in part["what"]],
                name=place,
                mode="markers",
                marker={"color": style.LINES[number % len(style.LINES)], "size": 10},
                hovertemplate="%{y}, " + place + ": %{x:.3~g} s<extra></extra>",
            )
        )
    figure = style.figure(dots, height=130 + ROW * len(names))
    figure.update_xaxes(
        type="log",
        title="time (estimated)",
        tickvals=[seconds for seconds, _ in UNITS],
        ticktext=[words for _, words in UNITS],
    )
    figure.update_yaxes(autorange="reversed")
    return figure


def scaling(law: Any) -> go.Figure:
    """Runs, the law through them, the interval of one run, and what is predicted.

    Args:
        law: A `ScalingLaw`; one with tokens is drawn at the most tokens of its runs.
    """
    sizes = np.array(law.parameters)
    last = max(sizes.max(), law.at) * BEYOND
    x = np.geomspace(sizes.min() / BEYOND, last, POINTS)
    tokens = np.full(POINTS, max(law.tokens)) if law.tokens else None
    figure = style.figure(height=420)
    low, high = law.band(x)
    style.add_band(figure, x, low, high, colour=style.BLUE, name="law")
    figure.add_scatter(
        x=x,
        y=law.curve(x, tokens),
        mode="lines",
        name="law, and 95 % of runs",
        legendgroup="law",
        line={"color": style.BLUE, "width": 2},
        hovertemplate="%{x:.3~s}: %{y:.3f}<extra>law</extra>",
    )
    figure.add_scatter(
        x=sizes,
        y=law.loss,
        mode="markers",
        name="runs",
        marker={"color": style.INK, "size": 8},
        hovertemplate="%{x:.3~s}: %{y:.3f}<extra>run</extra>",
    )
    if law.at == law.at:
        figure.add_scatter(
            x=[law.at],
            y=[law.predicted],
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [law.high - law.predicted],
                "arrayminus": [law.predicted - law.low],
            },
            mode="markers",
            name="predicted",
            marker={"color": style.ORANGE, "size": 10, "symbol": "diamond"},
            hovertemplate="%{x:.3~s}: %{y:.3f}<extra>predicted</extra>",
        )
    figure.update_xaxes(type="log", title="parameters without embeddings", exponentformat="SI")
    figure.update_yaxes(title="loss (nats a token)")
    figure.update_layout(legend={"x": 0, "xanchor": "left"}, margin={"t": 36})
    return figure
