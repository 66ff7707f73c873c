"""What fine-tuning changed, drawn: lines over the layers, a map of the matrices, and maps over a
run's checkpoints.
"""

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
    """Lines over the layers, or over a run's steps, with bands of their 95 % intervals.

    Args:
        frame: Columns stage (0: the embedding, i: after layer i - 1; or a step), `line` (its name),
            `value`, low, high, n.
        line: The column that says which line a row belongs to.
        value: The column that is drawn.
        title: Of the y axis.
        limits: Of the y axis.
        mark: A level to draw as a dotted line, such as guessing, and its name.
        height: In pixels.
        across: What the stages are.
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
            hovertemplate=f"{across}: %{{x}}<br><b>%{{y:.3f}}</b>, 95 % %{{customdata[0]:.3f}} to "
            f"%{{customdata[1]:.3f}}, n = %{{customdata[2]}}<extra>{style.escaped(str(name))}</extra>",
        )
    if mark is not None:
        figure.add_hline(y=mark[0], line={"color": style.SOFT, "width": 1, "dash": "dot"})
        figure.add_annotation(
            x=0, xref="paper", xanchor="left", y=mark[0], yanchor="top", text=mark[1], showarrow=False,
            font={"size": 11, "color": style.SOFT},
        )  # fmt: skip
    most = int(frame["stage"].max())
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
    """A text as it reads, `per_row` tokens a line, each coloured by its number; one without a
    number stays grey.

    Numbers from 0 up run from white to blue, others from red over white at 0 to blue.

    Args:
        tokens: Of the text.
        values: One number a token; NaN for none.
        name: What the numbers are.
        per_row: Tokens a line.
        title: Above the figure.
    """
    rows = -(-len(tokens) // per_row)
    known = values[np.isfinite(values)]
    most = (float(np.abs(known).max()) if len(known) else 0.0) or 1.0
    signed = bool((known < 0).any())
    z, text, said = np.full((rows, per_row), np.nan), np.full((rows, per_row), "", object), []
    for i, (token, value) in enumerate(zip(tokens, values, strict=True)):
        shown = style.visible(token)
        z[divmod(i, per_row)] = value
        text[divmod(i, per_row)] = style.escaped(shown if len(shown) <= 11 else f"{shown[:10]}…")
        said.append(
            f"{i}, {style.escaped(shown)}: "
            + ("no prediction" if np.isnan(value) else f"<b>{value:+.3f}</b>")
        )
    hover = np.array([*said, *[""] * (rows * per_row - len(said))], object).reshape(rows, per_row)
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
    """Layer by matrix; read off the weights, so there is no interval. Cells without a matrix stay
    grey.

    Args:
        values: One number a matrix.
        names: Of the columns.
        name: What the numbers are.
        spelt: How the hover spells a number.
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
    """One measure of every head or layer over a run's checkpoints.

    Args:
        values: One number a place and checkpoint.
        places: Heads or layers, from top to bottom.
        steps: Of the checkpoints.
        name: What the numbers are.
        what: What the rows are: head, layer.
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
"""The scale reaches at least to here, so that a map of next to nothing looks like next to nothing.
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
