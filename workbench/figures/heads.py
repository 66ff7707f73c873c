"""Figures of head statistics: one score for all heads, and the heads that have most of it, with
intervals.
"""

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
    """One score, layer by head; the hover gives the 95 % interval over `n` sequences.

    A score with a `unit` (bits, tokens) is drawn up to its largest value, a share up to 1, a signed
    one from -1 to 1.
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
    found = style.figure(
        [heat], title=f"{name[:1].upper()}{name[1:]} of every head, {_of(n)}", height=height
    )
    found.update_xaxes(title_text="head", dtick=1 if n_heads <= 16 else 4, showgrid=False)
    found.update_yaxes(
        title_text="layer", autorange="reversed", dtick=1 if n_layers <= 12 else 4, showgrid=False
    )
    return found


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
    """The `top` heads by one score, with 95 % intervals over `n` sequences."""
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
    found = style.figure(
        [dots], title=f"Heads with the most {name}, {measured}n = {n}", height=height
    )
    found.update_xaxes(title_text=f"{name}, {unit}" if unit else name)
    if not unit:
        found.update_xaxes(range=[0, max([1.0, *above[np.isfinite(above)]])])
    found.update_yaxes(autorange="reversed", type="category")
    return found


def _interval(n: int) -> str:
    """The hover's words for the ends of an interval; one sequence has none."""
    ends = f"95 % interval %{{customdata[0]:.3f}} to %{{customdata[1]:.3f}}, n = {n}"
    return ends if n >= FEWEST else f"n = {n}: no interval"


def _of(n: int) -> str:
    return f"mean of {n} sequences" if n > 1 else "one sequence"
