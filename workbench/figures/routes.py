"""Figures of how much each prompt token matters: bars by several methods, and rollout by layer."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style


def token_bars(
    shares: Mapping[str, Float[np.ndarray, " key"]], tokens: Sequence[str], *, title: str = ""
) -> go.Figure:
    """Bars for each token by several methods, each method's values scaled to sum to 1.

    The first token's bars are hatched: many heads attend to it by default, so they mean little.

    Args:
        shares: Values by method.
        tokens: Of the prompt.
        title: Of the figure.
    """
    names = style.labels(tokens)
    bars = []
    for (method, values), colour in zip(shares.items(), style.LINES, strict=False):
        whole = float(values.sum()) or 1.0
        bars.append(
            go.Bar(
                x=names[: len(values)],
                y=values / whole,
                name=method,
                marker={"color": colour, "pattern": {"shape": ["/"] + [""] * (len(values) - 1)}},
                hovertemplate=f"<b>%{{x}}</b><br>{method} %{{y:.3f}}<extra></extra>",
            )
        )
    figure = style.figure(bars, title=title, height=340, barmode="group")
    figure.update_xaxes(
        type="category",
        tickangle=-60,
        showgrid=False,
        tickfont={"size": 11 if len(names) <= 40 else 9},
    )
    figure.update_yaxes(title_text="share")
    return figure


def rollout_map(
    shares: Float[np.ndarray, "layer key"], tokens: Sequence[str], *, title: str = ""
) -> go.Figure:
    """Attention rollout: each token's share in the position's residual stream before each layer.

    Args:
        shares: Layers go upwards.
        tokens: Of the prompt.
        title: Of the figure.
    """
    heat = go.Heatmap(
        z=shares.astype(np.float32),
        x=style.labels(tokens),
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        colorbar=style.colour_bar("share", tickvals=style.SHARES),
        hovertemplate="before layer %{y}: <b>%{x}</b><br>share %{z:.3f}<extra></extra>",
    )
    figure = style.figure(
        [heat], title=title, height=int(np.clip(16 * len(shares) + 130, 260, 620))
    )
    figure.update_xaxes(
        type="category",
        tickangle=-60,
        showgrid=False,
        tickfont={"size": 11 if len(tokens) <= 40 else 9},
    )
    figure.update_yaxes(
        title_text="before layer", showgrid=False, dtick=1 if len(shares) <= 12 else 4
    )
    return figure
