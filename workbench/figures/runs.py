"""Training curves of several runs: training loss faint and binned, validation loss with markers."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style

POINTS = 400
"""Points that a line is binned to; more would not be visible, and slow to draw."""

AXES = {"step": "Steps", "minutes": "Minutes", "tokens": "Tokens"}
NAMES = {
    "loss": "loss (nats a token)",
    "tokens_per_s": "tokens a second",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "mfu": "share of the measured matrix rate",
    "memory_gb": "peak memory (GB)",
    "epsilon": "epsilon spent",
}


def curves(
    runs: Mapping[str, pd.DataFrame],
    *,
    name: str = "loss",
    x: str = "step",
    tokens_a_step: Mapping[str, int] | None = None,
    height: int = 380,
) -> go.Figure:
    """One metric of several runs on one axis.

    Args:
        runs: For each run's label the rows it logged: columns step, name, value, time.
        name: The metric; with `loss`, the run's `validation_loss` is drawn too.
        x: step, minutes or tokens.
        tokens_a_step: For each label, for `x="tokens"`; runs that lack it are left out.
        height: Of the figure, in pixels.
    """
    figure = style.figure(height=height, uirevision=f"{name} {x}", hovermode="x unified")
    rows: Any
    for number, (label, rows) in enumerate(runs.items()):
        colour = style.LINES[number % len(style.LINES)]
        scale = _scale(rows, x, (tokens_a_step or {}).get(label))
        if scale is None:
            continue
        before = f"{label}, " if len(runs) > 1 else ""
        line = binned(rows[rows["name"] == name], POINTS)
        held = rows[rows["name"] == "validation_loss"] if name == "loss" else rows.iloc[:0]
        figure.add_scatter(
            x=scale(line),
            y=line["value"],
            name=f"{before}training" if len(held) else label,
            legendgroup=label,
            mode="lines",
            line=dict(color=colour, width=1.5),
            opacity=0.45 if len(held) else 1.0,
            hovertemplate="%{y:.4g} at %{x:,.6~g}",
        )
        if len(held):
            figure.add_scatter(
                x=scale(held),
                y=held["value"],
                name=f"{before}validation",
                legendgroup=label,
                mode="lines+markers",
                line=dict(color=colour, width=2.5),
                marker=dict(size=6),
                hovertemplate="%{y:.4f} at %{x:,.6~g}",
            )
    figure.update_xaxes(title=AXES[x], rangemode="tozero")
    figure.update_yaxes(title=NAMES.get(name, name))
    figure.update_layout(legend=dict(x=0, xanchor="left"), margin=dict(t=36))
    return figure


def binned(rows: Any, points: int) -> Any:
    """Rows averaged in at most `points` bins of equal count, in the same order."""
    if len(rows) <= points:
        return rows
    bins = np.arange(len(rows)) * points // len(rows)
    return rows[["step", "value", "time"]].groupby(bins).mean()


def _scale(rows: pd.DataFrame, x: str, tokens: int | None) -> Callable[[pd.DataFrame], Any] | None:
    """A function from rows to places on the x axis; None where a run has no such places."""
    if x == "minutes":
        began = rows["time"].min()
        return lambda part: (part["time"] - began) / 60
    if x == "tokens":
        return (lambda part: part["step"] * tokens) if tokens else None
    return lambda part: part["step"]
