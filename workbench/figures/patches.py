"""Figures of patches: numbers drawn over a picture or a spectrogram, and rows of small maps."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style

LONGEST = 400
"""Pixels on the screen of a picture's longer side."""
OVER = [
    [0.0, style.translucent(style.ORANGE, 0.0)],
    [0.1, style.translucent(style.ORANGE, 0.35)],
    [1.0, style.translucent(style.ORANGE, 0.95)],
]
"""Colour scale of attention that lies over a grey picture: transparent is 0."""
BOTH = [
    [0.0, style.translucent(style.RED, 0.95)],
    [0.5, style.translucent(style.RED, 0.0)],
    [0.5, style.translucent(style.BLUE, 0.0)],
    [1.0, style.translucent(style.BLUE, 0.95)],
]
"""Colour scale of effects over a picture: red below 0, blue above."""


class Canvas(NamedTuple):
    """What is drawn of a signal, and how patches lie on it.

    - `image`: `[row, column]` from 0 to 1 (of a picture brightness, or ink for digits; of a sound
      the spectrogram, low frequencies in row 0), or `[row, column, 3]` in colour
    - `origin`: row and column of the middle of the first patch
    - `step`: distance of patches in rows and columns
    - `rising`: whether row 0 is at the bottom, as of a spectrogram
    - `inked`: whether 1 is dark
    """

    image: Float[np.ndarray, "row column *colour"]
    origin: tuple[float, float]
    step: tuple[float, float]
    rising: bool = False
    inked: bool = False


def over_canvas(
    canvas: Canvas,
    values: Float[np.ndarray, "row column"],
    *,
    names: Sequence[str],
    first: int = 0,
    chosen: int | None = None,
    signed: bool = False,
    label: str = "attention",
    title: str = "",
) -> go.Figure:
    """A picture with a number a patch over it; each patch can be clicked.

    The `customdata` of a patch is its position: `first` for the first one.

    Args:
        canvas: The picture, or a sound's spectrogram.
        values: One number a patch.
        names: The name of each patch, in reading order.
        first: Position of the first patch.
        chosen: Position of the patch that gets a frame; None for none.
        signed: Whether the numbers may be below 0.
        label: What the numbers are.
        title: Of the figure.
    """
    rows, columns = values.shape
    down = canvas.origin[0] + canvas.step[0] * np.arange(rows)
    across = canvas.origin[1] + canvas.step[1] * np.arange(columns)
    most = float(np.nanmax(np.abs(values))) or 1.0
    over = go.Heatmap(
        z=values,
        x=across,
        y=down,
        zmin=-most if signed else 0,
        zmax=most,
        colorscale=BOTH if signed else OVER,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar(label),
        hoverinfo="skip",
    )
    y, x = (part.ravel() for part in np.meshgrid(down, across, indexing="ij"))
    number = "{:+.3f}" if signed else "{:.3f}"
    # A point takes a click anywhere on a square patch.
    size = max(8, 0.8 * LONGEST * min(canvas.step) / max(canvas.image.shape[:2]))
    points = go.Scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"size": size, "opacity": 0, "symbol": "square", "color": style.ORANGE},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=list(range(first, first + values.size)),
        hovertext=[
            f"{name}<br>{label} {number.format(value)}"
            for name, value in zip(names, values.ravel(), strict=True)
        ],
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    shapes = []
    if chosen is not None and first <= chosen < first + values.size:
        shapes = [_frame(canvas, divmod(chosen - first, columns))]
    return _on(canvas, [over, points], shapes, title)


def bare(canvas: Canvas, *, title: str = "") -> go.Figure:
    """A picture, or a sound's spectrogram, with nothing over it."""
    return _on(canvas, [], [], title)


def _on(
    canvas: Canvas, traces: Sequence[Any], shapes: Sequence[dict[str, Any]], title: str
) -> go.Figure:
    """Traces over a canvas, with axes that fit it."""
    height, width = canvas.image.shape[:2]
    if canvas.rising:
        size = 340
    else:
        size = round(LONGEST * min(1.0, height / width)) + 90
    figure = style.figure([_ground(canvas), *traces], title=title, height=size, shapes=shapes)
    y = [-0.5, height - 0.5] if canvas.rising else [height - 0.5, -0.5]
    figure.update_xaxes(range=[-0.5, width - 0.5], showgrid=False, zeroline=False)
    figure.update_yaxes(range=y, showgrid=False, zeroline=False, constraintoward="top")
    if canvas.rising:
        figure.update_xaxes(title_text="time, frames of 10 ms")
        figure.update_yaxes(title_text="frequency, mel bands")
    else:
        figure.update_xaxes(visible=False, constrain="domain")
        figure.update_yaxes(visible=False, scaleanchor="x", constrain="domain")
    return figure


def _ground(canvas: Canvas) -> Any:
    """The picture itself, as a trace."""
    if canvas.image.ndim == 3:
        return go.Image(z=np.rint(canvas.image * 255).astype(np.uint8), hoverinfo="skip")
    scale = style.INKED if canvas.inked or canvas.rising else [*reversed(_turned(style.INKED))]
    return go.Heatmap(
        z=canvas.image,
        zmin=0,
        zmax=1,
        colorscale=scale,
        showscale=False,
        hoverinfo="skip",
    )


def _turned(scale: Sequence[Sequence[Any]]) -> list[list[Any]]:
    return [[1.0 - place, colour] for place, colour in scale]


def _frame(canvas: Canvas, patch: tuple[int, int]) -> dict[str, Any]:
    middle = [canvas.origin[i] + canvas.step[i] * patch[i] for i in (0, 1)]
    return {
        "type": "rect",
        "x0": middle[1] - canvas.step[1] / 2,
        "x1": middle[1] + canvas.step[1] / 2,
        "y0": middle[0] - canvas.step[0] / 2,
        "y1": middle[0] + canvas.step[0] / 2,
        "line": {"color": style.BLUE, "width": 3},
    }


def small_maps(
    maps: Float[np.ndarray, "down across row column"],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    chosen: tuple[int, int] | None = None,
    signed: bool = False,
    rising: bool = False,
    label: str = "attention",
    title: str = "",
) -> go.Figure:
    """Small maps in rows and columns, all on one colour scale.

    Args:
        maps: The maps; NaN is left empty.
        rows: A name for each row of maps.
        columns: A name for each column of maps.
        chosen: Row and column of the map that gets a frame.
        signed: Whether the numbers may be below 0.
        rising: Whether the first row of a map is at its bottom.
        label: What the numbers are.
        title: Of the figure.
    """
    n_down, n_across, height, width = maps.shape
    turned = maps[:, :, ::-1] if rising else maps
    gap = max(1, round(max(height, width) / 8))
    step = (height + gap, width + gap)
    canvas = np.full((n_down * step[0] - gap, n_across * step[1] - gap), np.nan)
    for i, j in np.ndindex(n_down, n_across):
        top = i * step[0]
        left = j * step[1]
        canvas[top : top + height, left : left + width] = turned[i, j]
    most = float(np.nanmax(np.abs(maps))) or 1.0
    heat = go.Heatmap(
        z=canvas,
        zmin=-most if signed else 0,
        zmax=most,
        colorscale=style.DIVERGING if signed else style.ATTENTION,
        colorbar=style.colour_bar(label),
        hovertemplate="%{z:.3f}<extra></extra>",
        hoverongaps=False,
    )
    shapes = []
    if chosen is not None:
        top, left = (step[i] * chosen[i] for i in (0, 1))
        edge = gap * 0.8
        shapes = [
            {
                "type": "rect",
                "x0": left - edge,
                "x1": left + width - 1 + edge,
                "y0": top - edge,
                "y1": top + height - 1 + edge,
                "line": {"color": style.ORANGE, "width": 2},
            }
        ]
    figure = style.figure(
        [heat], title=title, height=n_down * (105 if n_down > 1 else 150) + 70, shapes=shapes
    )
    middle = ((height - 1) / 2, (width - 1) / 2)
    figure.update_xaxes(
        visible=True,
        range=[-gap, canvas.shape[1] + gap - 1],
        tickvals=[j * step[1] + middle[1] for j in range(n_across)],
        ticktext=list(columns),
        showgrid=False,
        constrain="domain",
    )
    figure.update_yaxes(
        visible=True,
        range=[canvas.shape[0] + gap - 1, -gap],
        tickvals=[i * step[0] + middle[0] for i in range(n_down)],
        ticktext=list(rows),
        showgrid=False,
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
    )
    return figure


def reading(
    probability: Float[np.ndarray, "row label"], labels: Sequence[str], *, title: str = ""
) -> go.Figure:
    """The probability of every class read after each layer.

    Args:
        probability: Row 0 is the embedding.
        labels: Names of the classes.
        title: Of the figure.
    """
    rows = ["embedding", *(f"L{i}" for i in range(len(probability) - 1))]
    heat = go.Heatmap(
        z=probability,
        x=[style.escaped(name) for name in labels],
        y=rows,
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar("probability"),
        hovertemplate="%{y}, class %{x}: %{z:.4f}<extra></extra>",
    )
    figure = style.figure([heat], title=title, height=110 + 34 * len(rows))
    figure.update_xaxes(title_text="class", type="category", showgrid=False)
    figure.update_yaxes(title_text="after", autorange="reversed", showgrid=False)
    return figure


def ranked_classes(
    labels: list[str], probability: Float[np.ndarray, " label"], *, most: int = 10
) -> go.Figure:
    """The likeliest classes as bars, the likeliest on top."""
    order = np.argsort(-np.asarray(probability))[:most]
    bars = go.Bar(
        x=probability[order],
        y=[style.escaped(labels[i]) for i in order],
        orientation="h",
        marker={"color": style.BLUE},
        hovertemplate="%{y}: %{x:.4f}<extra></extra>",
    )
    figure = style.figure([bars], title="The likeliest classes", height=90 + 26 * len(order))
    figure.update_xaxes(title_text="probability", range=[0, 1.02])
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def by_layer(
    value: Sequence[float], low: Sequence[float], high: Sequence[float], *, chance: float
) -> go.Figure:
    """Accuracy of the classifier put after each layer, with intervals; a dotted line is chance."""
    rows = ["embedding", *(f"L{i}" for i in range(len(value) - 1))]
    v = np.asarray(value)
    points = go.Scatter(
        x=rows,
        y=v,
        mode="lines+markers",
        line={"color": style.BLUE},
        error_y={"type": "data", "array": np.asarray(high) - v, "arrayminus": v - np.asarray(low)},
        hovertemplate="after %{x}: %{y:.3f}<extra></extra>",
    )
    title = "Accuracy, with the classifier put after each layer"
    figure = style.figure([points], title=title, height=280)
    figure.add_hline(y=chance, line={"color": style.SOFT, "dash": "dot", "width": 1.5})
    figure.update_yaxes(title_text="accuracy", range=[0, 1.03])
    figure.update_xaxes(title_text="after", type="category")
    return figure
