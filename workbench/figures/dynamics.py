"""Training dynamics: loss above, head scores and benchmarks below, over training tokens."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from workbench.figures import style

NAMES = {
    "induction_score": "best induction head",
    "previous_token_score": "best previous-token head",
}


def dynamics(
    frame: pd.DataFrame, *, rise: tuple[int, int] | None = None, height: int = 560
) -> go.Figure:
    """Two panels over training tokens on a logarithmic axis.

    Args:
        frame: Columns tokens, measure, value, low, high, head (a name or nothing); the measure
            `validation_loss` has no interval and goes to the upper panel.
        rise: (from, to) in tokens, to shade: where the induction score rose most.
        height: In pixels.
    """
    figure = make_subplots(
        rows=2, cols=1, shared_xaxes=True, row_heights=[0.4, 0.6], vertical_spacing=0.06
    )
    losses = frame.loc[frame["measure"] == "validation_loss"].sort_values("tokens")
    figure.add_scatter(
        x=losses["tokens"],
        y=losses["value"],
        mode="lines+markers",
        name="validation loss",
        line=dict(color=style.LINES[0], width=2),
        hovertemplate="%{y:.3f} nats at %{x:,} tokens<extra></extra>",
        row=1,
        col=1,
    )
    others = [m for m in frame["measure"].unique() if m != "validation_loss"]
    for number, measure in enumerate(others, 1):
        rows = frame.loc[frame["measure"] == measure].sort_values("tokens")
        heads = rows["head"].fillna("") if "head" in rows else [""] * len(rows)
        figure.add_scatter(
            x=rows["tokens"],
            y=rows["value"],
            customdata=list(zip(heads, rows["low"], rows["high"], strict=True)),
            error_y=dict(
                array=rows["high"] - rows["value"],
                arrayminus=rows["value"] - rows["low"],
                thickness=1,
                width=2,
            ),
            mode="lines+markers",
            name=NAMES.get(measure, f"{measure}, accuracy"),
            line=dict(color=style.LINES[number % len(style.LINES)], width=2),
            hovertemplate=(
                "%{customdata[0]} %{y:.3f} (%{customdata[1]:.3f} to %{customdata[2]:.3f}) "
                "at %{x:,} tokens"
            ),
            row=2,
            col=1,
        )
    if rise:
        figure.add_vrect(x0=rise[0], x1=rise[1], fillcolor="#888", opacity=0.12, line_width=0)
    figure.update_xaxes(type="log")
    figure.update_xaxes(title="training tokens", row=2, col=1)
    figure.update_yaxes(title="nats a token", row=1, col=1)
    figure.update_yaxes(title="score or accuracy", range=[0, 1.02], row=2, col=1)
    base = style.figure(height=height)
    figure.update_xaxes(base.layout.xaxis)
    figure.update_yaxes(base.layout.yaxis)
    figure.update_layout(
        base.layout,
        height=height,
        hovermode="closest",
        legend=dict(orientation="h", y=1.08, x=0, xanchor="left"),
    )
    return figure
