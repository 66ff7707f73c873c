"""Figures of what fine-tuning changed: lines over layers, and maps of heads, matrices and steps."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style
from workbench.statistics.words import bracketed


def stage_lines(
    frame: pd.DataFrame,
    *,
    line: str,
    value: str,
    title: str,
    limits: tuple[float, float] | None = None,
    mark: tuple[float, str] | None = None,
    height: int = 330,
    across: str = "after so many layers",
) -> go.Figure:
    """Lines over layers, or over a run's steps, with their 95 % intervals as bands.

    Args:
        frame: Columns stage (0: the embedding, i: after layer i - 1; or a step), low, high, n, and
            the columns named by `line` and `value`.
        line: The column with the name of a row's line.
        value: The column to draw.
        title: Of the y axis.
        limits: Of the y axis.
        mark: (level, name) of a dotted line to draw, such as chance.
        height: In pixels.
        across: Title of the x axis.
    """
    figure = style.figure(height=height)
    for number, (name, rows) in enumerate(frame.groupby(line, sort=False)):
        colour = style.LINES[number % len(style.LINES)]
        x, low, high = (rows[c].to_numpy(float) for c in ("stage", "low", "high"))
        style.add_band(figure, x, low, high, colour=colour, name=str(name))
        figure.add_scatter(
            x=x,
            y=rows[value],
            name=str(name),
            legendgroup=str(name),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            marker={"size": 6},
            customdata=rows[["low", "high", "n"]].to_numpy(),
            hovertemplate=(
                f"{across}: %{{x}}<br><b>%{{y:.3f}}</b>, 95 % %{{customdata[0]:.3f}} to "
                "%{customdata[1]:.3f}, n = %{customdata[2]}"
                f"<extra>{style.escaped(str(name))}</extra>"
            ),
        )
    if mark is not None:
        figure.add_hline(y=mark[0], line={"color": style.SOFT, "width": 1, "dash": "dot"})
        figure.add_annotation(
            text=mark[1],
            x=0,
            xref="paper",
            xanchor="left",
            y=mark[0],
            yanchor="top",
            showarrow=False,
            font={"size": 11, "color": style.SOFT},
        )
    most = int(frame["stage"].to_numpy().max())
    figure.update_xaxes(title=across, dtick=max(1, most // 10), range=[-0.2, most + 0.2])
    figure.update_yaxes(title=title, range=limits)
    figure.update_layout(legend={"x": 0, "xanchor": "left"}, margin={"t": 36})
    return figure


def token_grid(
    tokens: Sequence[str],
    values: Float[np.ndarray, " pos"],
    *,
    name: str,
    per_row: int = 12,
    title: str = "",
) -> go.Figure:
    """A text's tokens in reading order, each coloured by its number; grey if it has none.

    Numbers from 0 up run from white to blue; signed ones from red over white at 0 to blue.

    Args:
        tokens: Of the text.
        values: One number a token; NaN for none.
        name: What the numbers are.
        per_row: Tokens a line.
        title: Of the figure.
    """
    rows = -(-len(tokens) // per_row)
    known = values[np.isfinite(values)]
    most = (float(np.abs(known).max()) if len(known) else 0.0) or 1.0
    signed = bool((known < 0).any())
    z = np.full((rows, per_row), np.nan)
    text = np.full((rows, per_row), "", object)
    hover = np.full((rows, per_row), "", object)
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        shown = style.visible(token)
        cell = divmod(i, per_row)
        z[cell] = value
        text[cell] = style.escaped(shown if len(shown) <= 11 else f"{shown[:10]}…")
        number = "no prediction" if np.isnan(value) else f"<b>{value:+.3f}</b>"
        hover[cell] = f"{i}, {style.escaped(shown)}: {number}"
    heat = go.Heatmap(
        z=z,
        zmin=-most if signed else 0,
        zmax=most,
        colorscale=style.DIVERGING if signed else style.SEQUENTIAL,
        colorbar=style.colour_bar(name),
        text=text,
        texttemplate="%{text}",
        textfont={"size": 11},
        customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
        xgap=2,
        ygap=4,
    )
    figure = style.figure(
        [heat], title=title, height=max(190, 30 * rows + 70), plot_bgcolor=style.PANEL
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False, range=[rows - 0.5, -0.5])
    figure.update_layout(margin={"l": 16, "b": 12})
    return figure


def matrix_map(
    values: Float[np.ndarray, "layer matrix"],
    names: Sequence[str],
    *,
    name: str,
    spelt: str = ".3f",
) -> go.Figure:
    """A map of layer by weight matrix; grey where a layer lacks a matrix.

    The numbers come from weights alone, so they have no interval.

    Args:
        values: One number a matrix; NaN for none.
        names: Of the columns.
        name: What the numbers are.
        spelt: Number format in the hover.
    """
    most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    heat = go.Heatmap(
        z=values,
        x=list(names),
        zmin=0,
        zmax=most or 1,
        colorscale=style.SEQUENTIAL,
        colorbar=style.colour_bar(name),
        xgap=2,
        ygap=2,
        hovertemplate=f"<b>layer %{{y}}, %{{x}}</b><br>{name} %{{z:{spelt}}}<extra></extra>",
    )
    n_layers = len(values)
    figure = style.figure(
        [heat], height=max(260, min(720, 26 * n_layers + 130)), plot_bgcolor=style.PANEL
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(
        title="layer", autorange="reversed", dtick=max(1, n_layers // 16), showgrid=False
    )
    return figure


def over_time(
    values: Float[np.ndarray, "place step"],
    places: Sequence[str],
    steps: Sequence[int],
    *,
    name: str,
    what: str,
) -> go.Figure:
    """A map of one measure: heads or layers down, a run's checkpoints across.

    Args:
        values: The measure at each place and checkpoint.
        places: Names of the heads or layers, from top to bottom.
        steps: Of the checkpoints.
        name: What the numbers are.
        what: What the rows are: head or layer.
    """
    most = float(np.nanmax(values)) if np.isfinite(values).any() else 0.0
    heat = go.Heatmap(
        z=values,
        x=[f"{step:,}" for step in steps],
        y=list(places),
        zmin=0,
        zmax=most or 1,
        colorscale=style.SEQUENTIAL,
        colorbar=style.colour_bar(name),
        hovertemplate=f"<b>{what} %{{y}}</b> at step %{{x}}<br>{name} %{{z:.3f}}<extra></extra>",
    )
    figure = style.figure([heat], height=max(260, min(760, 15 * len(places) + 110)))
    figure.update_xaxes(title="step", type="category", showgrid=False)
    figure.update_yaxes(title=what, type="category", autorange="reversed", showgrid=False)
    return figure


FAINT = 0.1
"""The colour scale reaches at least this far, so that a tiny change does not look like a large one.
"""

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
    """A map, layer by head, of how much each head changed; intervals are in the hover.

    Args:
        mean: The change averaged over samples.
        low: Lower end of its 95 % interval.
        high: Upper end.
        n: Samples; 0 for numbers from weights alone, which have no interval.
        chosen: A (layer, head) to mark.
        title: Of the figure.
        name: What the numbers are.
        signed: Whether the numbers may be negative; colours are then centred at 0.
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
    # Without a maximum hover distance a click anywhere in a cell hits the point at its centre.
    figure = style.figure(
        [heat, _points(mean, low, high, n)],
        title=title,
        height=height,
        hovermode="closest",
        hoverdistance=-1,
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
    figure.update_xaxes(
        title="head",
        dtick=max(1, n_heads // 16),
        showgrid=False,
        zeroline=False,
        constrain="domain",
    )
    figure.update_yaxes(title="layer", dtick=max(1, n_layers // 16), showgrid=False, zeroline=False)
    figure.update_xaxes(range=[-0.5, n_heads - 0.5])
    figure.update_yaxes(range=[n_layers - 0.5, -0.5])
    return figure


def _points(mean: Grid, low: Grid, high: Grid, n: int) -> go.Scatter:
    """Invisible points whose `customdata` is the head's name, so that a click is recognised."""
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
