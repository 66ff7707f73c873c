"""Figures of small pictures: rows of them, attention drawn on one, and maps of their places."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, Int

from workbench.figures import style
from workbench.figures.patches import OVER, small_maps

BLACKEST = 16
"""The darkest grey level."""
CELL = 44
"""Pixels on the screen of a pixel of a single picture."""
SMALL = 13
"""The same in a row of pictures."""


def gallery(
    images: Int[np.ndarray, "image row column"],
    names: Sequence[str],
    *,
    title: str = "",
    given: int = 0,
    across: int = 5,
) -> go.Figure:
    """Small pictures in rows, each with a name below it.

    Args:
        images: Grey levels, 0 (paper) to 16 (ink).
        names: One for each picture.
        title: Of the figure.
        given: Rows of pixels from the top that were given; a line below them says so.
        across: Pictures in a row.
    """
    n, side, _ = images.shape
    step = side + 2
    down = -(-n // across)
    canvas = np.full((down * (step + 1), min(n, across) * step - 2), np.nan)
    places = [(i // across * (step + 1), i % across * step) for i in range(n)]
    for image, (top, left) in zip(images, places, strict=True):
        canvas[top : top + side, left : left + side] = image
    heat = _grey(canvas, hovertemplate="level %{z:.0f} of 16<extra></extra>", hoverongaps=False)
    words = go.Scatter(
        x=[left + side / 2 - 0.5 for _, left in places],
        y=[top + side + 0.3 for top, _ in places],
        text=[style.escaped(name) for name in names],
        mode="text",
        textfont={"size": 12, "color": style.SOFT},
        hoverinfo="skip",
        showlegend=False,
    )
    lines = [
        _line(left - 0.5, left + side - 0.5, top + given - 0.5)
        for top, left in places
        if 0 < given < side
    ]
    height = round(down * (step + 1) * SMALL) + (44 if title else 8)
    figure = style.figure([heat, words], title=title, height=height, shapes=lines)
    _square(figure, [-0.6, across * step - 2], [down * (step + 1) - 0.6, -0.6])
    figure.update_layout(margin={"l": 8, "r": 8, "t": 40 if title else 4, "b": 4})
    return figure


def attention_on(
    image: Int[np.ndarray, "row column"],
    attention: Float[np.ndarray, "row column"],
    pixel: int,
    *,
    title: str = "",
) -> go.Figure:
    """A picture in grey with the attention from one pixel over it in orange.

    The pixel is framed; pixels after it, which it cannot see, are hatched by a cross. Each pixel
    has an invisible point whose `customdata` is its number, so that a click on it is recognised.

    Args:
        image: Grey levels, 0 (paper) to 16 (ink).
        attention: From the pixel to each pixel; NaN for those it cannot see.
        pixel: Its number in reading order.
        title: Of the figure.
    """
    side = len(image)
    most = float(np.nanmax(attention)) or 1.0
    over = go.Heatmap(
        z=attention,
        zmin=0,
        zmax=most,
        colorscale=OVER,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar("attention"),
        hoverinfo="skip",
    )
    later = np.argwhere(np.isnan(attention))
    unseen = go.Scatter(
        x=later[:, 1],
        y=later[:, 0],
        mode="markers",
        marker={"symbol": "x-thin", "size": 8, "line": {"width": 1, "color": style.SOFT}},
        hoverinfo="skip",
        showlegend=False,
    )
    words = [
        "cannot be seen" if np.isnan(value) else f"attention {value:.3f}"
        for value in attention.ravel()
    ]
    points = _points(side, image, words)
    traces = [_grey(image, xgap=1, ygap=1, hoverinfo="skip"), over, unseen, points]
    return _picture(traces, side, pixel, title)


def head_maps(
    maps: Float[np.ndarray, "layer head row column"], *, chosen: tuple[int, int], title: str = ""
) -> go.Figure:
    """The attention from one pixel by every head, as small pictures; layers run down.

    Args:
        maps: Attention from the pixel to each pixel; NaN for those it cannot see.
        chosen: Layer and number of the head that gets a frame.
        title: Of the figure.
    """
    n_layers, n_heads = maps.shape[:2]
    return small_maps(
        maps,
        rows=[f"L{layer}" for layer in range(n_layers)],
        columns=[f"H{head}" for head in range(n_heads)],
        chosen=chosen,
        title=title,
    )


def place_map(
    similarity: Float[np.ndarray, "row column"], pixel: int, *, title: str = ""
) -> go.Figure:
    """The similarity of one pixel's position with all others; each pixel can be clicked.

    Args:
        similarity: Cosines, -1 to 1.
        pixel: The pixel, which gets a frame.
        title: Of the figure.
    """
    heat = go.Heatmap(
        z=similarity,
        zmin=-1,
        zmax=1,
        colorscale=style.DIVERGING,
        xgap=1,
        ygap=1,
        colorbar=style.colour_bar("cosine"),
        hoverinfo="skip",
    )
    words = [f"cosine {value:+.3f}" for value in similarity.ravel()]
    side = len(similarity)
    return _picture([heat, _points(side, None, words)], side, pixel, title)


def all_places(similarity: Float[np.ndarray, "pixel other"]) -> go.Figure:
    """The map of every pixel, laid out as the pixels are: 8 by 8 maps of 8 by 8."""
    side = round(len(similarity) ** 0.5)
    step = side + 1
    canvas = np.full((side * step - 1, side * step - 1), np.nan)
    for pixel, row in enumerate(similarity):
        top, left = (step * part for part in divmod(pixel, side))
        canvas[top : top + side, left : left + side] = row.reshape(side, side)
    heat = go.Heatmap(
        z=canvas,
        zmin=-1,
        zmax=1,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar("cosine"),
        hoverinfo="skip",
    )
    title = "Similarity of every position with all others"
    figure = style.figure([heat], title=title, height=420)
    _square(figure, [-0.6, side * step - 1.4], [side * step - 1.4, -0.6])
    figure.update_layout(margin={"l": 8, "r": 8, "t": 40, "b": 4})
    return figure


def class_bars(
    probability: Float[np.ndarray, " digit"], *, label: int | None = None, title: str = ""
) -> go.Figure:
    """The probability of each digit.

    Args:
        probability: Of digits 0 to 9.
        label: The true digit, whose bar has another colour; None where it is not known.
        title: Of the figure.
    """
    digits = [str(i) for i in range(len(probability))]
    colours = [style.ORANGE if i == label else style.BLUE for i in range(len(probability))]
    bars = go.Bar(
        x=digits,
        y=probability,
        marker={"color": colours},
        hovertemplate="%{x}: %{y:.4f}<extra></extra>",
    )
    figure = style.figure([bars], title=title, height=260)
    figure.update_xaxes(title_text="digit", type="category")
    figure.update_yaxes(title_text="probability", range=[0, 1.02])
    return figure


def confusion(
    labels: Int[np.ndarray, " image"], predicted: Int[np.ndarray, " image"], *, title: str = ""
) -> go.Figure:
    """How often each digit is read as which.

    Args:
        labels: The true digits.
        predicted: What each image was read as.
        title: Of the figure.
    """
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (labels, predicted), 1)
    heat = go.Heatmap(
        z=counts,
        colorscale=style.ATTENTION,
        zmin=0,
        xgap=1,
        ygap=1,
        text=counts,
        texttemplate="%{text}",
        colorbar=style.colour_bar("images"),
        hovertemplate="%{y} read as %{x}: %{z} images<extra></extra>",
    )
    figure = style.figure([heat], title=title, height=440)
    figure.update_xaxes(title_text="read as", dtick=1, showgrid=False, constrain="domain")
    figure.update_yaxes(
        title_text="true digit",
        dtick=1,
        showgrid=False,
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
    )
    return figure


def _grey(values: Any, **more: Any) -> go.Heatmap:
    """A picture in grey, ink dark on paper."""
    return go.Heatmap(
        z=values, zmin=0, zmax=BLACKEST, colorscale=style.INKED, showscale=False, **more
    )


def _points(side: int, image: Any, words: Sequence[str]) -> go.Scatter:
    """An invisible point on every pixel, to be clicked and hovered over."""
    row, column = np.divmod(np.arange(side * side), side)
    levels = [""] * side * side if image is None else [f", level {v}" for v in np.ravel(image)]
    hover = [
        f"pixel {i} (row {r}, column {c}){level}<br>{word}"
        for i, (r, c, level, word) in enumerate(zip(row, column, levels, words, strict=True))
    ]
    return go.Scatter(
        x=column,
        y=row,
        mode="markers",
        marker={"size": CELL - 8, "opacity": 0, "symbol": "square", "color": style.ORANGE},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=list(range(side * side)),
        hovertext=hover,
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )


def _picture(traces: Sequence[Any], side: int, pixel: int, title: str) -> go.Figure:
    """Traces of one picture with the frame of a pixel, rows and columns numbered."""
    row, column = divmod(pixel, side)
    frame = {
        "type": "rect",
        "x0": column - 0.5,
        "x1": column + 0.5,
        "y0": row - 0.5,
        "y1": row + 0.5,
        "line": {"color": style.BLUE, "width": 3},
    }
    figure = style.figure(traces, title=title, height=side * CELL + 80, shapes=[frame])
    _square(figure, [-0.55, side - 0.45], [side - 0.45, -0.55])
    figure.update_xaxes(visible=True, dtick=1, title_text="column")
    figure.update_yaxes(visible=True, dtick=1, title_text="row")
    return figure


def _square(figure: go.Figure, x: list[float], y: list[float]) -> None:
    """Axes with square cells over these ranges, in place."""
    figure.update_xaxes(visible=False, range=x, showgrid=False, constrain="domain")
    figure.update_yaxes(
        visible=False,
        range=y,
        showgrid=False,
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
    )


def _line(left: float, right: float, y: float) -> dict[str, Any]:
    """A dotted line below the given rows."""
    line = {"color": style.ORANGE, "width": 2, "dash": "dot"}
    return {"type": "line", "x0": left, "x1": right, "y0": y, "y1": y, "line": line}
