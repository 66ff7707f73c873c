"""Which heads feed which: composition of their weights as a graph over the layers."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

KINDS = {"Q": style.BLUE, "K": style.ORANGE, "V": style.GREEN}
"""Colour of each kind of composition: what the later head asks, what it is found by, what it moves."""


def composition_graph(
    edges: Sequence[tuple[str, str, str, float]], *, n_layers: int, n_heads: int, chance: float, title: str = ""
) -> go.Figure:
    """Heads as dots, layers upwards; a line from each earlier head to the later one that reads it.

    `edges` are (earlier, later, kind, score) as `Composition.to_frame` gives them, wider lines for higher scores;
    heads without an edge are small and grey.
    """
    top = max((score for *_, score in edges), default=1.0)
    found = style.figure(title=title, height=int(np.clip(26 * n_layers + 120, 360, 860)))
    named = set()
    for kind, colour in KINDS.items():
        lines = [(place(a), place(b), a, b, score) for a, b, k, score in edges if k == kind]
        for (x0, y0), (x1, y1), *_, score in lines:
            found.add_scatter(
                x=[x0, x1],
                y=[y0, y1],
                mode="lines",
                line={"color": style.translucent(colour, 0.75), "width": 0.8 + 3.2 * score / top},
                hoverinfo="skip",
                showlegend=False,
            )
        if lines:
            found.add_scatter(
                x=[(a[0] + b[0]) / 2 for a, b, *_ in lines],
                y=[(a[1] + b[1]) / 2 for a, b, *_ in lines],
                mode="markers",
                marker={"color": colour, "size": 7},
                name=f"{kind}-composition",
                customdata=[[a, b, score] for *_, a, b, score in lines],
                hovertemplate=f"<b>%{{customdata[0]}} → %{{customdata[1]}}</b>, {kind}<br>"
                f"%{{customdata[2]:.3f}} (chance about {chance:.3f})<extra></extra>",
            )
        named |= {name for line in lines for name in line[2:4]}
    found.add_scatter(**_heads(n_layers, n_heads, named))
    found.update_xaxes(title_text="head", dtick=1 if n_heads <= 16 else 4, range=[-0.6, n_heads - 0.4], showgrid=False)
    found.update_yaxes(title_text="layer", dtick=1 if n_layers <= 12 else 4, range=[-0.6, n_layers - 0.2])
    return found


def place(name: str) -> tuple[int, int]:
    """Where a head stands: its number across, its layer up."""
    layer, _, head = name.removeprefix("L").partition("H")
    return int(head), int(layer)


def _heads(n_layers: int, n_heads: int, named: set[str]) -> dict:
    heads = [style.head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    return {
        "x": [place(h)[0] for h in heads],
        "y": [place(h)[1] for h in heads],
        "mode": "markers+text",
        "marker": {
            "size": [11 if h in named else 4 for h in heads],
            "color": [style.INK if h in named else style.RULE for h in heads],
        },
        "text": [h if h in named else "" for h in heads],
        "textposition": "top center",
        "textfont": {"size": 11, "color": style.INK},
        "hovertext": heads,
        "hoverinfo": "text",
        "showlegend": False,
        "cliponaxis": False,
    }
