"""Figures of circuits: faithfulness by size, and the strongest edges as a graph."""

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from workbench.figures import style


def size_curve(curve: Sequence[Any], chosen: int) -> go.Figure:
    """Faithfulness by size with 95 % intervals: the circuit, its complement, and random edges.

    Args:
        curve: Records with `edges` (a count) and the estimates `faithfulness`, `without`, `random`
            and `chosen_on`.
        chosen: The chosen size, marked by a dotted line.
    """
    lines = []
    for name, words, colour in (
        ("faithfulness", "only the circuit", style.BLUE),
        ("without", "all but the circuit", style.ORANGE),
        ("random", "random edges of equal number", style.SOFT),
        ("chosen_on", "the circuit, on the pairs that chose it", style.INK),
    ):
        estimates = [getattr(size, name) for size in curve]
        lines.append(
            go.Scatter(
                x=[size.edges for size in curve],
                y=[e.value for e in estimates],
                error_y={
                    "array": [e.high - e.value for e in estimates],
                    "arrayminus": [e.value - e.low for e in estimates],
                    "width": 3,
                    "thickness": 1,
                },
                mode="lines+markers",
                name=words,
                line={"color": colour},
                hovertemplate="%{x} edges: <b>%{y:.3f}</b><extra>" + words + "</extra>",
            )
        )
    figure = style.figure(lines, title="How much of the clean run a circuit restores", height=360)
    sizes = [size.edges for size in curve]
    figure.update_xaxes(
        title_text="edges in the circuit",
        type="log",
        tickvals=sizes,
        ticktext=list(map(str, sizes)),
    )
    figure.update_layout(margin={"t": 72}, legend={"y": 1.0})
    figure.update_yaxes(title_text="0 corrupted run, 1 clean run")
    figure.add_hline(y=1, line={"color": style.RULE, "width": 1})
    figure.add_vline(x=chosen, line={"color": style.SOFT, "width": 1, "dash": "dot"})
    return figure


def edge_graph(edges: Sequence[tuple[str, str, float]], n_layers: int) -> go.Figure:
    """Edges as lines between components: layers go up, heads across; blue supports the answer.

    Args:
        edges: (sender, receiver, score).
        n_layers: Of the model.
    """
    width = max((abs(score) for *_, score in edges), default=1.0) or 1.0
    places: dict[str, tuple[float, float]] = {}
    for sender, receiver, _ in edges:
        for name in (sender, receiver.partition(".")[0]):
            places[name] = _place(name, n_layers)
    lines = [
        _line(places[s], places[r.partition(".")[0]], s, r, score, width) for s, r, score in edges
    ]
    nodes = go.Scatter(
        x=[x for x, _ in places.values()],
        y=[y for _, y in places.values()],
        mode="markers+text",
        text=list(places),
        textposition="middle right",
        textfont={"size": 10},
        marker={"size": 9, "color": style.INK},
        hoverinfo="text",
        showlegend=False,
    )
    figure = style.figure(
        [*lines, nodes], title="The strongest edges", height=max(360, 24 * n_layers)
    )
    across = [x for x, _ in places.values()] or [0.0]
    span = max(across) - min(across) or 1.0
    figure.update_xaxes(
        visible=False, range=[min(across) - 0.04 * span, max(across) + 0.16 * span]
    )  # room for names
    figure.update_yaxes(title_text="layer", showgrid=True, range=[-1.6, n_layers + 0.6])
    return figure


def _place(name: str, n_layers: int) -> tuple[float, float]:
    if name == "embed":
        return 0.0, -1.0
    if name == "logits":
        return 0.0, float(n_layers)
    if name.startswith("MLP"):
        return -2.0, float(name.removeprefix("MLP ")) + 0.3
    layer, _, head = name.removeprefix("L").partition("H")
    return float(head), float(layer)


def _line(
    start: tuple, end: tuple, sender: str, receiver: str, score: float, width: float
) -> go.Scatter:
    return go.Scatter(
        x=[start[0], end[0]],
        y=[start[1], end[1]],
        mode="lines",
        line={
            "color": style.translucent(style.BLUE if score > 0 else style.RED, 0.75),
            "width": 0.6 + 4 * abs(score) / width,
        },
        hovertext=f"{sender} → {receiver}: {score:+.3f}",
        hoverinfo="text",
        showlegend=False,
    )
