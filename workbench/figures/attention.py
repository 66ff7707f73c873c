"""Figures of attention patterns: the atlas of all heads as one image, and one head in full."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float, UInt8
from PIL import Image
from plotly.colors import sample_colorscale, unlabel_rgb

from workbench.figures import style

WIDTH = 1200
"""Pixels across the atlas's image, about twice its width on the screen: sharp, and bounded."""
SCREEN = 530
"""Pixels across the atlas on the screen."""
LEVELS, FUTURE, BLANK = 250, 254, 255
"""The palette: 0..LEVELS for attention, one entry for keys after the query, one for between heads.
"""


@dataclass(frozen=True)
class Atlas:
    """All heads as thumbnails in one indexed PNG, on a grid whose step is 1.

    Layers run down; deep models continue in a further block of columns at the right. `cell` is the
    pixels of a step, `unit` those of a thumbnail, `side` the positions it shows: fewer where the
    prompt is long.
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
        """Heads side by side, with one empty step between blocks."""
        blocks = -(-self.n_layers // self.rows)
        return blocks * (self.n_heads + 1) - 1

    def place(self, layer: int, head: int) -> tuple[int, int]:
        """Where a head's thumbnail has its centre."""
        block, row = divmod(layer, self.rows)
        return block * (self.n_heads + 1) + head, row


class AtlasPainter:
    """Draws an atlas layer by layer, so that patterns need not be kept; longer prompts shrink by
    taking maxima.
    """

    def __init__(self, n_layers: int, n_heads: int, n_pos: int):
        rows = _rows(n_layers, n_heads)
        most = max(12, min(160, WIDTH // Atlas("", n_layers, n_heads, rows, 0, 0, 0).columns))
        side = min(n_pos, most)
        unit = side * max(1, most // side)
        self.gap = max(2, unit // 16)
        self.atlas = Atlas("", n_layers, n_heads, rows, unit, unit + self.gap, side)
        size = (rows * self.atlas.cell + self.gap, self.atlas.columns * self.atlas.cell + self.gap)
        self.image = np.full(size, BLANK, np.uint8)
        self.future = np.triu(np.ones((side, side), bool), 1)

    def add(self, layer: int, pattern: Float[np.ndarray, "head query key"]) -> None:
        """Draw one layer's heads."""
        unit, cell, side = self.atlas.unit, self.atlas.cell, self.atlas.side
        levels = (np.sqrt(_shrink(pattern, side).clip(0, 1)) * LEVELS).round().astype(np.uint8)
        levels[:, self.future] = FUTURE
        levels = levels.repeat(unit // side, 1).repeat(unit // side, 2)
        for head, thumbnail in enumerate(levels):
            x, y = (self.gap + cell * i for i in self.atlas.place(layer, head))
            self.image[y : y + unit, x : x + unit] = thumbnail

    def finish(self) -> Atlas:
        """The picture of all layers."""
        return replace(self.atlas, uri=_png(self.image))


def atlas_image(pattern: Float[np.ndarray, "layer head query key"]) -> Atlas:
    """Draw all heads; a prompt of more positions than a thumbnail has pixels shrinks by taking
    maxima.
    """
    painter = AtlasPainter(*pattern.shape[:3])
    for layer, heads in enumerate(pattern):
        painter.add(layer, heads)
    return painter.finish()


def _rows(n_layers: int, n_heads: int) -> int:
    """Layers below each other, so that the atlas comes as near to a square as whole blocks allow."""
    blocks = range(1, n_layers + 1)
    return min(
        (-(-n_layers // b) for b in blocks),
        key=lambda r: abs(np.log(r / (-(-n_layers // r) * (n_heads + 1)))),
    )


def _shrink(
    pattern: Float[np.ndarray, "head query key"], side: int
) -> Float[np.ndarray, "head {side} {side}"]:
    pattern, n_pos = np.asarray(pattern, np.float32), pattern.shape[-1]
    if side == n_pos:
        return pattern
    starts = np.arange(side) * n_pos // side
    return np.maximum.reduceat(np.maximum.reduceat(pattern, starts, axis=1), starts, axis=2)


def _png(image: UInt8[np.ndarray, "y x"]) -> str:
    """The indexed image as a data URI, attention in the colours of `style.SEQUENTIAL`."""
    shades = sample_colorscale(style.SEQUENTIAL, np.linspace(0, 1, LEVELS + 1).tolist())
    palette = np.full((256, 3), 255, np.uint8)
    palette[: LEVELS + 1] = [unlabel_rgb(shade) for shade in shades]
    palette[FUTURE] = [int(style.PANEL[i : i + 2], 16) for i in (1, 3, 5)]
    picture = Image.fromarray(image)
    picture.putpalette(palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def atlas(
    pattern: Float[np.ndarray, "layer head query key"] | Atlas,
    *,
    title: str = "",
    chosen: tuple[int, int] | None = None,
    hover: Sequence[str] | None = None,
) -> go.Figure:
    """All heads at a glance. `hover` is one text a head, layer by layer; the names alone without
    it.

    Each head has an invisible point whose `customdata` is its name, so that a click can be told.
    """
    image = pattern if isinstance(pattern, Atlas) else atlas_image(pattern)
    step, gap = 1 / image.cell, image.cell - image.unit
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
        # A selected point is a frame: Plotly draws it at a click, so the figure itself need not
        # change.
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 0}},
        selectedpoints=None if chosen is None else [heads.index(chosen)],
        customdata=names,
        hovertext=list(hover) if hover is not None else names,
        hovertemplate="%{hovertext}<extra></extra>",
        showlegend=False,
    )
    top = 30 if title else 4
    edge = 0.5 + gap * step / 2
    across, down = image.columns + 2 * edge - 0.55, image.rows + 2 * edge - 0.65
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
    """Layer names left of each block and head names above it; one trace, since annotations are
    slow.
    """
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


SCALES = {
    "attention": (style.ATTENTION, style.SHARES),
    "attention x |v W_O|": (style.SEQUENTIAL, None),
    "difference": (style.DIVERGING, None),
}
"""What a head's map can show: its colours and the ticks of its bar."""


def head(
    pattern: Float[np.ndarray, "query key"],
    tokens: Sequence[str],
    *,
    title: str = "",
    height: int = 570,
    kind: str = "attention",
    sought: Sequence[int] = (),
) -> go.Figure:
    """One head in full: queries (destinations) down, keys (sources) across; later keys stay grey.

    `kind` is one of `SCALES`; the positions `sought` are marked along both axes.
    """
    names = style.labels(tokens)
    n_pos = len(names)
    shown = np.where(np.tri(n_pos, dtype=bool), pattern, np.nan).astype(np.float32)
    scale, ticks = SCALES[kind]
    top = 1.0 if kind == "attention" else float(np.nanmax(np.abs(shown))) or 1.0
    heat = go.Heatmap(
        z=shown,
        x=names,
        y=names,
        zmin=-top if kind == "difference" else 0,
        zmax=top,
        colorscale=scale,
        # Inside, at the top right: no query attends to later keys, so nothing is ever drawn there.
        colorbar=style.colour_bar(
            kind, len=0.4, x=0.99, xanchor="right", y=0.99, yanchor="top", tickvals=ticks
        ),
        showscale=n_pos > 3,
        hoverongaps=False,
        xgap=1 if n_pos <= 48 else 0,
        ygap=1 if n_pos <= 48 else 0,
        hovertemplate=f"from query <b>%{{y}}</b><br>to key <b>%{{x}}</b><br>{kind} <b>%{{z:.3f}}</b><extra></extra>",
    )
    traces: list = [heat]
    if sought:
        marks = [names[i] for i in sought]
        marker = {"color": style.ORANGE, "size": 9, "symbol": "diamond"}
        traces.append(
            go.Scatter(
                x=marks, y=marks, mode="markers", marker=marker, hoverinfo="skip", showlegend=False
            )
        )
    found = style.figure(traces, title=title, height=height, plot_bgcolor=style.PANEL)
    every = {"dtick": 1} if n_pos <= 40 else {}
    axis = {
        "tickfont": {"size": 11 if n_pos <= 30 else 9},
        "showgrid": False,
        "type": "category",
        **every,
    }
    found.update_xaxes(title_text="key (source)", tickangle=-60, constrain="domain", **axis)
    found.update_yaxes(
        title_text="query (destination)",
        autorange="reversed",
        scaleanchor="x",
        constrain="domain",
        constraintoward="top",
        **axis,
    )
    for i in sought:
        for side in ("x", "y"):
            along = {f"{side}0": i - 0.5, f"{side}1": i + 0.5, f"{side}ref": side}
            other = "y" if side == "x" else "x"
            across = {f"{other}0": 0, f"{other}1": 1, f"{other}ref": "paper"}
            fill = style.translucent(style.ORANGE, 0.12)
            found.add_shape(
                type="rect", line={"width": 0}, fillcolor=fill, layer="above", **along, **across
            )
    return found


def for_export(
    patterns: Float[np.ndarray, "layer head query key"] | Atlas,
    chosen: tuple[int, int],
    pattern: Float[np.ndarray, "query key"],
    tokens: Sequence[str],
) -> list[go.Figure]:
    """All heads with one framed, and that one in full, as a page of their own shows them below each
    other.
    """
    name = style.head_name(*chosen)
    one = head(
        pattern, tokens, title=f"{name}: what each token (row) attends to (column)", height=760
    )
    return [atlas(patterns, title="All heads", chosen=chosen), one.update_layout(width=780)]
