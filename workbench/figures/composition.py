"""Which heads feed which: composition of their weights as a graph over the layers."""

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

KINDS = {"Q": style.BLUE, "K": style.ORANGE, "V": style.GREEN}
"""Colour of each kind of composition: what the later head asks, what it is found by, what it moves.
"""

SHALLOW = 12
"""Layers that are all drawn, whether or not they have an edge."""
POINTS, BEND = 17, 0.28
"""Points of a line, and how far one up a column bends aside, in heads for a layer."""


def composition_graph(
    edges: Sequence[tuple[str, str, str, float]],
    *,
    n_layers: int,
    n_heads: int,
    chance: float,
    title: str = "",
) -> go.Figure:
    """Heads as dots, layers upwards; a line from each earlier head to the later one that reads it.

    `edges` are (earlier, later, kind, score) as `Composition.to_frame` gives them, wider lines for
    higher scores; heads without an edge are small and grey. Of a deep model only layers with an
    edge are drawn.
    """
    top = max((score for *_, score in edges), default=1.0)
    ends = {layer_of(name) for a, b, *_ in edges for name in (a, b)}
    layers = sorted(ends) if n_layers > SHALLOW and ends else list(range(n_layers))
    rows = {layer: row for row, layer in enumerate(layers)}

    def place(name: str) -> tuple[int, int]:
        """Where a head stands: its number across, its layer's row up."""
        return int(name.partition("H")[2]), rows[layer_of(name)]

    found = style.figure(title=title, height=int(np.clip(58 * len(layers) + 120, 360, 860)))
    named = set()
    for kind, colour in KINDS.items():
        lines = [(place(a), place(b), a, b, score) for a, b, k, score in edges if k == kind]
        for (x0, y0), (x1, y1), *_, score in lines:
            x, y = bow((x0, y0), (x1, y1))
            found.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": style.translucent(colour, 0.75), "width": 0.8 + 3.2 * score / top},
                hoverinfo="skip",
                showlegend=False,
            )
        if lines:
            found.add_scatter(
                x=[bow(a, b)[0][POINTS // 2] for a, b, *_ in lines],
                y=[bow(a, b)[1][POINTS // 2] for a, b, *_ in lines],
                mode="markers",
                marker={"color": colour, "size": 7},
                name=f"{kind}-composition",
                customdata=[[a, b, score] for *_, a, b, score in lines],
                hovertemplate=f"<b>%{{customdata[0]}} → %{{customdata[1]}}</b>, {kind}<br>"
                f"%{{customdata[2]:.3f}} (chance about {chance:.3f})<extra></extra>",
            )
        named |= {name for line in lines for name in line[2:4]}
    found.add_scatter(
        **_heads([style.head_name(i, j) for i in layers for j in range(n_heads)], named, place)
    )
    for name in sorted(named):
        x, y = place(name)
        label = {
            "showarrow": False,
            "yshift": 15,
            "borderpad": 1,
            "bgcolor": "rgba(255,255,255,0.8)",
        }
        found.add_annotation(x=x, y=y, text=name, font={"size": 11, "color": style.INK}, **label)
    found.update_xaxes(
        title_text="head",
        dtick=1 if n_heads <= 16 else 4,
        range=[-0.6, n_heads - 0.4],
        showgrid=False,
    )
    ticks = {"tickvals": list(rows.values()), "ticktext": [str(layer) for layer in layers]}
    words = "layer" if len(layers) == n_layers else "layer (others have no such pair)"
    found.update_yaxes(title_text=words, range=[-0.6, len(layers) - 0.2], **ticks)
    return found


def bow(start: tuple[int, int], end: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A line from head to head, bent the more the nearer they stand to one column, so that it
    passes other heads by.
    """
    t = np.linspace(0, 1, POINTS)
    aside = BEND * abs(end[1] - start[1]) ** 0.5 / (1 + abs(end[0] - start[0]))
    x, y = (a + (b - a) * t for a, b in zip(start, end, strict=True))
    return x + aside * 4 * t * (1 - t), y


def layer_of(name: str) -> int:
    """3 of L3H1."""
    return int(name.removeprefix("L").partition("H")[0])


def _heads(heads: list[str], named: set[str], place: Callable[[str], tuple[int, int]]) -> dict:
    return {
        "x": [place(h)[0] for h in heads],
        "y": [place(h)[1] for h in heads],
        "mode": "markers",
        "marker": {
            "size": [11 if h in named else 4 for h in heads],
            "color": [style.INK if h in named else style.RULE for h in heads],
        },
        "hovertext": heads,
        "hoverinfo": "text",
        "showlegend": False,
        "cliponaxis": False,
    }
