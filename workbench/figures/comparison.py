"""How far each head's attention moved between two models."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style
from workbench.statistics.words import bracketed

FAINT = 0.1
"""The scale reaches at least to here, so that a map of next to nothing looks like next to nothing."""

Grid = Float[np.ndarray, "layer head"]


def head_map(
    mean: Grid,
    low: Grid,
    high: Grid,
    *,
    n: int,
    chosen: tuple[int, int] | None = None,
    title: str = "",
    name: str = "Jensen-Shannon distance",
    signed: bool = False,
) -> go.Figure:
    """Layer x head heat map of how far each head changed; the interval is in the hover.

    Args:
        mean: The change averaged over samples.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Samples; 0 for what is read off the weights and has no interval.
        chosen: A (layer, head) to mark.
        title: Above the map.
        name: What is drawn.
        signed: Whether it has a direction: drawn about 0, and not from 0 up.
    """
    n_layers, n_heads = mean.shape
    most = max(float(np.nanmax(np.abs(mean))), FAINT)
    heat = go.Heatmap(
        z=mean,
        colorscale=style.DIVERGING if signed else style.SEQUENTIAL,
        zmin=-most if signed else 0,
        zmax=most,
        xgap=2,
        ygap=2,
        colorbar=style.colour_bar(name),
        hoverinfo="skip",
    )
    height = max(260, min(720, 34 * n_layers + 130))
    # Without a greatest distance a click anywhere in a cell finds the point in its middle.
    figure = style.figure(
        [heat, _points(mean, low, high, n)], title=title, height=height, hovermode="closest", hoverdistance=-1
    )
    if chosen is not None:
        layer, head = chosen
        figure.add_shape(
            type="rect",
            x0=head - 0.5,
            x1=head + 0.5,
            y0=layer - 0.5,
            y1=layer + 0.5,
            line=dict(color=style.LINES[1], width=3),
        )
    figure.update_xaxes(title="head", dtick=max(1, n_heads // 16), showgrid=False, zeroline=False, constrain="domain")
    figure.update_yaxes(title="layer", dtick=max(1, n_layers // 16), showgrid=False, zeroline=False)
    figure.update_xaxes(range=[-0.5, n_heads - 0.5])
    figure.update_yaxes(range=[n_layers - 0.5, -0.5])
    return figure


def _points(mean: Grid, low: Grid, high: Grid, n: int) -> go.Scatter:
    """An invisible point a head, whose `customdata` is its name, so that a click can be told."""
    layer, head = (axis.ravel() for axis in np.indices(mean.shape))
    spans = [f"<br>95 % {bracketed(a, b)}<br>n = {n}" if n else "" for a, b in _ends(low, high)]
    return go.Scatter(
        x=head,
        y=layer,
        mode="markers",
        marker={"opacity": 0, "size": 20, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[style.head_name(int(i), int(j)) for i, j in zip(layer, head, strict=True)],
        text=[f"{value:.3f}{span}" for value, span in zip(mean.ravel(), spans, strict=True)],
        hovertemplate="<b>%{customdata}</b>: %{text}<extra></extra>",
        showlegend=False,
    )


def _ends(low: Grid, high: Grid) -> list[tuple[float, float]]:
    return list(zip(low.ravel().tolist(), high.ravel().tolist(), strict=True))
