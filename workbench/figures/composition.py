"""Which heads feed which: composition of their weights as a graph over the layers."""

from collections.abc import Callable, Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

KINDS = {"Q": style.BLUE, "K": style.ORANGE, "V": style.GREEN}
"""Colours: the earlier head feeds the later head's queries, keys or values."""

SHALLOW = 12
"""In a model of at most this many layers all are drawn, whether or not they have an edge."""
POINTS = 17
"""Points of a line."""
BEND = 0.28
"""Sideways bend of a vertical line, in head spacings, for a distance of one layer."""


def composition_graph(
    edges: Sequence[tuple[str, str, str, float]],
    *,
    n_layers: int,
    n_heads: int,
    chance: float,
    title: str = "",
) -> go.Figure:
    """Heads as dots, layers upwards; a line from each earlier head to the later one that reads it.

    Heads without an edge are small and grey. Of a deep model only layers with an edge are drawn.

    Args:
        edges: (earlier, later, kind, score), as rows of `Composition.to_frame`; a higher score is
            a wider line.
        n_layers: Of the model.
        n_heads: Heads a layer.
        chance: Score of random matrices, for the hover.
        title: Of the figure.
    """
    top = max((score for *_, score in edges), default=1.0)
    ends = {layer_of(name) for a, b, *_ in edges for name in (a, b)}
    layers = sorted(ends) if n_layers > SHALLOW and ends else list(range(n_layers))
    rows = {layer: row for row, layer in enumerate(layers)}

    def place(name: str) -> tuple[int, int]:
        """Place (x, y) of a head: its number, and its layer's row."""
        return int(name.partition("H")[2]), rows[layer_of(name)]

    figure = style.figure(title=title, height=int(np.clip(58 * len(layers) + 120, 360, 860)))
    named = set()
    for kind, colour in KINDS.items():
        of_kind = [(earlier, later, score) for earlier, later, k, score in edges if k == kind]
        lines = [bow(place(earlier), place(later)) for earlier, later, _ in of_kind]
        for (x, y), (*_, score) in zip(lines, of_kind, strict=True):
            figure.add_scatter(
                x=x,
                y=y,
                mode="lines",
                line={"color": style.translucent(colour, 0.75), "width": 0.8 + 3.2 * score / top},
                hoverinfo="skip",
                showlegend=False,
            )
        if lines:  # a dot in the middle of each line, with the hover
            figure.add_scatter(
                x=[x[POINTS // 2] for x, _ in lines],
                y=[y[POINTS // 2] for _, y in lines],
                mode="markers",
                marker={"color": colour, "size": 7},
                name=f"{kind}-composition",
                customdata=[list(edge) for edge in of_kind],
                hovertemplate=f"<b>%{{customdata[0]}} → %{{customdata[1]}}</b>, {kind}<br>"
                f"%{{customdata[2]:.3f}} (chance about {chance:.3f})<extra></extra>",
            )
        named |= {name for earlier, later, _ in of_kind for name in (earlier, later)}
    figure.add_scatter(
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
        figure.add_annotation(x=x, y=y, text=name, font={"size": 11, "color": style.INK}, **label)
    figure.update_xaxes(
        title_text="head",
        dtick=1 if n_heads <= 16 else 4,
        range=[-0.6, n_heads - 0.4],
        showgrid=False,
    )
    ticks = {"tickvals": list(rows.values()), "ticktext": [str(layer) for layer in layers]}
    words = "layer" if len(layers) == n_layers else "layer (others have no such pair)"
    figure.update_yaxes(title_text=words, range=[-0.6, len(layers) - 0.2], **ticks)
    return figure


def bow(start: tuple[int, int], end: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Points (x, y) of a line between two heads, bent so that it does not cross those between.

    The line bends more the closer the two are to being in one column.
    """
    t = np.linspace(0, 1, POINTS)
    aside = BEND * abs(end[1] - start[1]) ** 0.5 / (1 + abs(end[0] - start[0]))
    x, y = (a + (b - a) * t for a, b in zip(start, end, strict=True))
    return x + aside * 4 * t * (1 - t), y


def layer_of(name: str) -> int:
    """The layer in a head's name: 3 for "L3H1"."""
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
