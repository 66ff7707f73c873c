"""Figures of attention patterns: an atlas of all heads as one image, and one head in detail."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from PIL import Image
from plotly.colors import hex_to_rgb, sample_colorscale, unlabel_rgb

from workbench.figures import style

WIDTH = 1200
"""Width of the atlas's image in pixels, about twice its width on the screen: sharp, but bounded."""
SCREEN = 530
"""Width of the atlas on the screen in pixels."""
LEVELS = 250
"""Palette entries 0 to this one are attention from 0 to 1."""
FUTURE = 254
"""Palette entry of keys after the query."""
BLANK = 255
"""Palette entry of the gaps between heads."""


@dataclass(frozen=True)
class Atlas:
    """All heads as thumbnails in one PNG with a palette, on a grid whose step is 1.

    Layers run down; deep models continue in further blocks of columns at the right.

    Attributes:
        uri: The image as a data URI.
        n_layers: Layers of the model.
        n_heads: Heads a layer.
        rows: Layers below each other, before the next block.
        unit: Pixels of a thumbnail.
        cell: Pixels of a grid step: a thumbnail and a gap.
        side: Positions that a thumbnail shows; fewer than the prompt's where that is long.
    """

    uri: str
    n_layers: int
    n_heads: int
    rows: int
    unit: int
    cell: int
    side: int

    @property
    def columns(self) -> int:
        """Grid columns: the heads of all blocks, with one empty step between blocks."""
        blocks = -(-self.n_layers // self.rows)
        return blocks * (self.n_heads + 1) - 1

    def place(self, layer: int, head: int) -> tuple[int, int]:
        """Grid place (x, y) of a head's centre."""
        block, row = divmod(layer, self.rows)
        return block * (self.n_heads + 1) + head, row


def atlas_image(pattern: Float[np.ndarray, "layer head query key"]) -> Atlas:
    """The atlas of all heads.

    Long prompts are shrunk by taking maxima, so that single strong keys remain visible.
    """
    n_layers, n_heads, n_pos, _ = pattern.shape
    rows = _rows(n_layers, n_heads)
    most = max(12, min(160, WIDTH // Atlas("", n_layers, n_heads, rows, 0, 0, 0).columns))
    side = min(n_pos, most)
    unit = side * max(1, most // side)
    gap = max(2, unit // 16)
    blank = Atlas("", n_layers, n_heads, rows, unit, unit + gap, side)
    size = (rows * blank.cell + gap, blank.columns * blank.cell + gap)
    image = np.full(size, BLANK, np.uint8)
    for layer, heads in enumerate(pattern):
        for head, thumbnail in enumerate(_thumbnails(heads, side, unit)):
            x, y = (gap + blank.cell * i for i in blank.place(layer, head))
            image[y : y + unit, x : x + unit] = thumbnail
    return replace(blank, uri=_png(image))


def _thumbnails(
    pattern: Float[np.ndarray, "head query key"], side: int, unit: int
) -> UInt8[np.ndarray, "head {unit} {unit}"]:
    """One layer's heads as palette entries."""
    levels = (np.sqrt(_shrink(pattern, side).clip(0, 1)) * LEVELS).round().astype(np.uint8)
    levels[:, np.triu(np.ones((side, side), bool), 1)] = FUTURE
    return levels.repeat(unit // side, 1).repeat(unit // side, 2)


def _rows(n_layers: int, n_heads: int) -> int:
    """Layers below each other that make the atlas as nearly square as whole blocks allow."""
    blocks = range(1, n_layers + 1)
    return min(
        (-(-n_layers // b) for b in blocks),
        key=lambda r: abs(np.log(r / (-(-n_layers // r) * (n_heads + 1)))),
    )


def _shrink(
    pattern: Float[np.ndarray, "head query key"], side: int
) -> Float[np.ndarray, "head {side} {side}"]:
    pattern = np.asarray(pattern, np.float32)
    n_pos = pattern.shape[-1]
    if side == n_pos:
        return pattern
    starts = np.arange(side) * n_pos // side
    return np.maximum.reduceat(np.maximum.reduceat(pattern, starts, axis=1), starts, axis=2)


def _png(image: UInt8[np.ndarray, "y x"]) -> str:
    """The palette image as a data URI, attention in the colours of `style.SEQUENTIAL`."""
    return _uri(Image.fromarray(image), style.SEQUENTIAL, style.PANEL, "#ffffff")


def repainted(uri: str, scale: Sequence[Sequence[Any]], panel: str, paper: str) -> str:
    """An atlas's image in other colours.

    Args:
        uri: Of the `Atlas`.
        scale: Plotly's colour scale of attention from 0 to 1.
        panel: Colour of the keys after a query, as "#rrggbb".
        paper: Colour between the heads.
    """
    picture = Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))
    return _uri(picture, scale, panel, paper)


def _uri(picture: Image.Image, scale: Sequence[Sequence[Any]], panel: str, paper: str) -> str:
    shades = sample_colorscale(scale, np.linspace(0, 1, LEVELS + 1).tolist())
    palette = np.tile(np.array(hex_to_rgb(paper), np.uint8), (256, 1))
    palette[: LEVELS + 1] = [unlabel_rgb(shade) for shade in shades]
    palette[FUTURE] = hex_to_rgb(panel)
    picture.putpalette(palette.tobytes())
    return png_uri(picture)


def png_uri(picture: Image.Image) -> str:
    """A picture as the data URI of a PNG."""
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def atlas(
    pattern: Float[np.ndarray, "layer head query key"] | Atlas,
    *,
    title: str = "",
    chosen: tuple[int, int] | None = None,
) -> go.Figure:
    """All heads as thumbnails.

    Each head has an invisible point whose `customdata` is its name, so that a click on it is
    recognised.

    Args:
        pattern: Attention of all heads, or an atlas made from it.
        title: Of the figure.
        chosen: A (layer, head) that gets a frame.
    """
    image = pattern if isinstance(pattern, Atlas) else atlas_image(pattern)
    step = 1 / image.cell
    gap = image.cell - image.unit
    first = (0.5 - gap - image.unit / 2) * step
    heads = [(i, j) for i in range(image.n_layers) for j in range(image.n_heads)]
    places = np.array([image.place(*h) for h in heads])
    names = [style.head_name(*h) for h in heads]
    picture = go.Image(
        source=image.uri, x0=first, y0=first, dx=step, dy=step, zsmooth="fast", hoverinfo="skip"
    )
    side = min(88.0, SCREEN / (image.columns + 0.6))
    points = go.Scatter(
        x=places[:, 0],
        y=places[:, 1],
        mode="markers",
        marker={
            "size": side * image.unit * step + 6,
            "opacity": 0,
            "symbol": "square-open",
            "color": style.ORANGE,
            "line": {"width": 3},
        },
        # A selected point is a frame: Plotly draws it on a click without a new figure.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0}},
        selectedpoints=None if chosen is None else [heads.index(chosen)],
        customdata=names,
        hovertext=names,
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    top = 30 if title else 4
    edge = 0.5 + gap * step / 2
    across = image.columns + 2 * edge - 0.55
    down = image.rows + 2 * edge - 0.65
    return style.figure(
        [picture, _names(image), points],
        title=title,
        width=round(across * side) + 8,
        height=round(down * side) + top + 4,
        hoverdistance=-1,
        margin={"l": 4, "r": 4, "t": top, "b": 4},
        xaxis={"visible": False, "range": [-edge - 0.45, image.columns - 1 + edge]},
        yaxis={
            "visible": False,
            "range": [image.rows - 1 + edge, -edge - 0.35],
            "scaleanchor": "x",
            "constraintoward": "top",
        },
    )


def _names(image: Atlas) -> go.Scatter:
    """Layer names left of each block and head names above it, as one trace for speed."""
    layers = [(*image.place(layer, 0), f"L{layer}") for layer in range(image.n_layers)]
    tops = [
        (*image.place(layer, head), f"H{head}")
        for layer in range(0, image.n_layers, image.rows)
        for head in range(image.n_heads)
    ]
    return go.Scatter(
        x=[x - 0.56 for x, _, _ in layers] + [x for x, _, _ in tops],
        y=[y for _, y, _ in layers] + [y - 0.54 for _, y, _ in tops],
        text=[name for *_, name in layers + tops],
        textposition=["middle left"] * len(layers) + ["top center"] * len(tops),
        textfont={"size": 10, "color": style.SOFT},
        mode="text",
        unselected={"textfont": {"color": style.SOFT}},  # else they pale when a head is selected
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )


def head(
    pattern: Float[np.ndarray, "query key"],
    tokens: Sequence[str],
    *,
    title: str = "",
    height: int = 570,
) -> go.Figure:
    """One head's map: queries (destinations) down, keys (sources) across; later keys stay grey.

    Args:
        pattern: The head's attention.
        tokens: Of the positions.
        title: Of the figure.
        height: In pixels.
    """
    names = style.labels(tokens)
    n_pos = len(names)
    shown = np.where(np.tri(n_pos, dtype=bool), pattern, np.nan).astype(np.float32)
    heat = go.Heatmap(
        z=shown,
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        # Inside, at the top right: no query attends to later keys, so nothing is ever drawn there.
        colorbar=style.colour_bar(
            "attention",
            len=0.4,
            x=0.99,
            xanchor="right",
            y=0.99,
            yanchor="top",
            tickvals=style.SHARES,
        ),
        showscale=n_pos > 3,
        hoverongaps=False,
        xgap=1 if n_pos <= 48 else 0,
        ygap=1 if n_pos <= 48 else 0,
        hovertemplate=(
            "from query <b>%{y}</b><br>to key <b>%{x}</b><br>"
            "attention <b>%{z:.3f}</b><extra></extra>"
        ),
    )
    figure = style.figure([heat], title=title, height=height, plot_bgcolor=style.PANEL)
    every = {"dtick": 1} if n_pos <= 40 else {}
    axis = {
        "tickfont": {"size": 11 if n_pos <= 30 else 9},
        "showgrid": False,
        "type": "category",
        **every,
    }
    figure.update_xaxes(title_text="key (source)", tickangle=-60, constrain="domain", **axis)
    figure.update_yaxes(
        title_text="query (destination)",
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        **axis,
    )
    return figure
