"""Figures about a model as a whole."""

from collections.abc import Mapping

import plotly.graph_objects as go

from workbench.figures import style


def parameters(counts: Mapping[str, int]) -> go.Figure:
    """Bars: the number of parameters of each component."""
    total = sum(counts.values())
    names = list(counts)
    bars = go.Bar(
        x=list(counts.values()),
        y=names,
        orientation="h",
        marker_color=[style.LINES[i % len(style.LINES)] for i in range(len(names))],
        text=[f"{n:,} ({n / total:.0%})" for n in counts.values()],
        textposition="auto",
        hovertemplate="%{y}: %{x:,} parameters<extra></extra>",
    )
    figure = style.figure(
        [bars], title=f"Where the {total:,} parameters are", height=70 + 42 * len(names)
    )
    figure.update_xaxes(visible=False)
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
