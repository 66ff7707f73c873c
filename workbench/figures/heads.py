"""Figures of head scores with intervals: a map of all heads, and the highest ones ranked."""

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style
from workbench.statistics import FEWEST


def score_map(
    mean: Float[np.ndarray, "layer head"],
    low: Float[np.ndarray, "layer head"],
    high: Float[np.ndarray, "layer head"],
    *,
    name: str,
    n: int,
    unit: str = "",
    height: int = 380,
) -> go.Figure:
    """A map of one score, layer by head; 95 % intervals are in the hover.

    Args:
        mean: The score, averaged over sequences.
        low: Lower end of its interval.
        high: Upper end.
        name: Of the score.
        n: Sequences.
        unit: Such as bits or tokens; colours then reach to the largest value. A score without one
            is a share from 0 to 1, or from -1 to 1 if any is negative.
        height: In pixels.
    """
    n_layers, n_heads = mean.shape
    signed = float(np.nanmin(mean)) < 0
    shares = style.DIVERGING if signed else style.ATTENTION
    heat = go.Heatmap(
        z=mean,
        zmin=-1 if signed else 0,
        zmax=float(mean.max()) if unit else 1,
        colorscale=style.SEQUENTIAL if unit else shares,
        colorbar=style.colour_bar(f"{name}, {unit}" if unit else name),
        customdata=np.stack([low, high], axis=-1),
        xgap=1,
        ygap=1,
        hovertemplate=(
            f"<b>L%{{y}}H%{{x}}</b><br>{name} %{{z:.3f}}<br>{_interval(n)}<extra></extra>"
        ),
    )
    figure = style.figure(
        [heat], title=f"{name[:1].upper()}{name[1:]} of every head, {_of(n)}", height=height
    )
    figure.update_xaxes(title_text="head", dtick=1 if n_heads <= 16 else 4, showgrid=False)
    figure.update_yaxes(
        title_text="layer", autorange="reversed", dtick=1 if n_layers <= 12 else 4, showgrid=False
    )
    return figure


def ranked(
    mean: Float[np.ndarray, "layer head"],
    low: Float[np.ndarray, "layer head"],
    high: Float[np.ndarray, "layer head"],
    *,
    name: str,
    n: int,
    unit: str = "",
    top: int = 12,
    height: int = 380,
) -> go.Figure:
    """The heads with the highest score, with 95 % intervals.

    Args:
        mean: The score, averaged over sequences.
        low: Lower end of its interval.
        high: Upper end.
        name: Of the score.
        n: Sequences.
        unit: Such as bits or tokens; a score without one is a share.
        top: How many heads.
        height: In pixels.
    """
    order = np.argsort(mean, axis=None)[::-1][:top]
    layer, head = np.unravel_index(order, mean.shape)
    value, below, above = (a.ravel()[order] for a in (mean, low, high))
    dots = go.Scatter(
        x=value,
        y=[style.head_name(int(i), int(j)) for i, j in zip(layer, head, strict=True)],
        error_x={
            "array": above - value,
            "arrayminus": value - below,
            "color": style.SOFT,
            "thickness": 1.5,
        },
        mode="markers",
        marker={"size": 8, "color": style.BLUE},
        customdata=np.stack([below, above], axis=-1),
        hovertemplate=(f"<b>%{{y}}</b><br>{name} %{{x:.3f}}<br>{_interval(n)}<extra></extra>"),
    )
    measured = "95 % interval, " if n >= FEWEST else ""
    figure = style.figure(
        [dots], title=f"Heads with the highest {name}, {measured}n = {n}", height=height
    )
    figure.update_xaxes(title_text=f"{name}, {unit}" if unit else name)
    if not unit:
        figure.update_xaxes(range=[0, max([1.0, *above[np.isfinite(above)]])])
    figure.update_yaxes(autorange="reversed", type="category")
    return figure


def _interval(n: int) -> str:
    """Hover text for an interval; too few sequences have none."""
    ends = f"95 % interval %{{customdata[0]:.3f}} to %{{customdata[1]:.3f}}, n = {n}"
    return ends if n >= FEWEST else f"n = {n}: no interval"


def _of(n: int) -> str:
    return f"mean of {n} sequences" if n > 1 else "one sequence"
