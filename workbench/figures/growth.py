"""How the time of a patching map grows with tokens, layers, width and pairs."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures import style

NAMES = {
    "tokens": "tokens of a prompt",
    "layers": "layers",
    "width": "width of the stream",
    "pairs": "pairs of prompts",
}
LINES = {
    "ours_s": "measured",
    "alone_s": "one pair after the other",
    "floor_s": "its arithmetic alone",
}


def growth(frame: pd.DataFrame, *, height: int = 320) -> go.Figure:
    """A panel for each axis: seconds over its size, both on logarithmic axes.

    Args:
        frame: Rows of `workbench bench growth`: axis, size, ours_s, floor_s and, for pairs,
            alone_s.
        height: In pixels.
    """
    axes = [axis for axis in NAMES if axis in set(frame["axis"])]
    figure = make_subplots(rows=1, cols=len(axes), shared_yaxes=True, horizontal_spacing=0.03)
    shown: set[str] = set()
    for column, axis in enumerate(axes, 1):
        rows = frame.loc[frame["axis"] == axis].sort_values("size")
        for number, (name, words) in enumerate(LINES.items()):
            if name not in rows or rows[name].isna().all():
                continue
            figure.add_scatter(
                x=rows["size"],
                y=rows[name],
                mode="lines+markers",
                name=words,
                legendgroup=name,
                showlegend=name not in shown,
                line=dict(
                    color=style.LINES[number], dash="dot" if name == "floor_s" else "solid", width=2
                ),
                hovertemplate=f"%{{x}} {axis}: %{{y:.3g}} s<extra>{words}</extra>",
                row=1,
                col=column,
            )
            shown.add(name)
        ticks = rows["size"].tolist()
        figure.update_xaxes(
            type="log", tickvals=ticks, title_text=NAMES[axis], row=1, col=column, tickangle=0
        )
    figure.update_yaxes(type="log", dtick=1, exponentformat="none")
    figure.update_yaxes(title_text="seconds", row=1, col=1)
    figure.update_layout(
        height=height,
        margin=dict(l=60, r=10, t=10, b=50),
        legend=dict(orientation="h", y=1.02, yanchor="bottom"),
    )
    return figure
