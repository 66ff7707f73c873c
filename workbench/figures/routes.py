"""Figures of the routes from the prompt to an output: one value a token by several methods, and
rollout by layer.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style


def token_bars(
    shares: Mapping[str, Float[np.ndarray, " key"]], tokens: Sequence[str], *, title: str = ""
) -> go.Figure:
    """A bar a token for every method, each method's values brought to a sum of 1; the first token
    is hatched.

    Many heads park attention on the first token, so its bar says little.
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
    found = style.figure(bars, title=title, height=340, barmode="group")
    found.update_xaxes(
        type="category",
        tickangle=-60,
        showgrid=False,
        tickfont={"size": 11 if len(names) <= 40 else 9},
    )
    found.update_yaxes(title_text="share")
    return found


def rollout_map(
    shares: Float[np.ndarray, "layer key"], tokens: Sequence[str], *, title: str = ""
) -> go.Figure:
    """Rollout by layer, upwards: where the position's stream stood before each layer."""
    heat = go.Heatmap(
        z=shares.astype(np.float32),
        x=style.labels(tokens),
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        colorbar=style.colour_bar("share", tickvals=style.SHARES),
        hovertemplate="before layer %{y}: <b>%{x}</b><br>share %{z:.3f}<extra></extra>",
    )
    found = style.figure([heat], title=title, height=int(np.clip(16 * len(shares) + 130, 260, 620)))
    found.update_xaxes(
        type="category",
        tickangle=-60,
        showgrid=False,
        tickfont={"size": 11 if len(tokens) <= 40 else 9},
    )
    found.update_yaxes(
        title_text="before layer", showgrid=False, dtick=1 if len(shares) <= 12 else 4
    )
    return found
