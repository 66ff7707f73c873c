"""Figures of one attention layer's steps: each step's matrix, one row a position."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style

COLUMNS = 1024
"""Wider matrices are drawn with evenly spaced dimensions, at most this many."""


def step_matrix(
    values: Float[np.ndarray, "pos column"],
    tokens: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    chosen: int | None = None,
    title: str = "",
) -> go.Figure:
    """A heat map of one step: positions down, dimensions or keys across.

    Args:
        values: The step's numbers; NaN (masked) stays grey. Key columns between 0 and 1 get the
            colours of attention.
        tokens: Of the positions.
        keys: Tokens of the columns, where these are keys; None for dimensions.
        chosen: A position whose row gets a frame.
        title: Of the figure.
    """
    names = style.labels(tokens)
    n_columns = values.shape[1]
    columns = np.arange(0, n_columns, -(-n_columns // COLUMNS))
    shown = values[:, columns].astype(np.float32)
    finite = shown[np.isfinite(shown)]
    shares = (
        keys is not None
        and bool(len(finite))
        and float(finite.min()) >= 0
        and float(finite.max()) <= 1 + 1e-6
    )
    limit = float(np.percentile(np.abs(finite), 99.5)) if len(finite) else 1.0
    across = "dimension %{x}" if keys is None else "to key <b>%{x}</b>"
    heat = go.Heatmap(
        z=shown,
        x=columns if keys is None else style.labels(keys),
        y=names,
        zmin=0 if shares else -(limit or 1.0),
        zmax=1 if shares else limit or 1.0,
        colorscale=style.ATTENTION if shares else style.DIVERGING,
        colorbar=style.colour_bar("attention" if shares else "value"),
        hoverongaps=False,
        hovertemplate=f"<b>%{{y}}</b>, {across}<br>%{{z:.4f}}<extra></extra>",
    )
    figure = style.figure(
        [heat],
        title=title,
        height=int(np.clip(17 * len(names) + 90, 190, 480)),
        plot_bgcolor=style.PANEL,
    )
    figure.update_xaxes(
        title_text="dimension" if keys is None else "key (source)",
        showgrid=False,
        tickangle=0 if keys is None else -60,
    )
    figure.update_yaxes(
        autorange="reversed", showgrid=False, type="category", tickfont={"size": 10}
    )
    if keys is not None:
        figure.update_xaxes(type="category", tickfont={"size": 10})
    if chosen is not None:
        figure.add_shape(
            type="rect",
            xref="paper",
            x0=0,
            x1=1,
            y0=chosen - 0.5,
            y1=chosen + 0.5,
            line={"color": style.ORANGE, "width": 2},
        )
    return figure
