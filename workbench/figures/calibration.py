"""The reliability diagram: how often a model is right at each level of its confidence."""

from collections.abc import Mapping
from typing import Any

import plotly.graph_objects as go

from workbench.figures import style


def reliability(bins: Mapping[str, Any]) -> go.Figure:
    """Accuracy over confidence, one line a model, with 95 % intervals; the diagonal is calibrated.

    Args:
        bins: By model, a frame with columns confidence, accuracy, low, high, n.
    """
    figure = style.figure(height=420)
    figure.add_trace(
        go.Scatter(
            x=[0, 1],
            y=[0, 1],
            mode="lines",
            name="calibrated",
            line=dict(color=style.SOFT, width=1, dash="dot"),
            hoverinfo="skip",
        )
    )
    for number, (model, table) in enumerate(bins.items()):
        colour = style.LINES[number % len(style.LINES)]
        figure.add_trace(
            go.Scatter(
                x=table["confidence"],
                y=table["accuracy"],
                mode="lines+markers",
                name=model,
                marker=dict(size=9, color=colour),
                line=dict(color=colour, width=2),
                error_y=dict(
                    type="data",
                    symmetric=False,
                    array=table["high"] - table["accuracy"],
                    arrayminus=table["accuracy"] - table["low"],
                    color=colour,
                    thickness=1.5,
                    width=0,
                ),
                customdata=table[["n"]],
                hovertemplate="confidence %{x:.2f}, right %{y:.2f}, n %{customdata[0]}<extra>"
                + model
                + "</extra>",
            )
        )
    figure.update_xaxes(title="Confidence in its choice", range=[0, 1.02], gridcolor=style.RULE)
    figure.update_yaxes(title="Share that is right", range=[-0.02, 1.05], gridcolor=style.RULE)
    figure.update_layout(legend=dict(x=0, xanchor="left"), margin=dict(t=48))
    return figure
