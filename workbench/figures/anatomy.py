"""Figures of the anatomy of attention: one step's matrix, a row a position."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style

COLUMNS = 1024
"""Wider matrices are drawn with every so-manieth dimension."""


def step_matrix(
    values: Float[np.ndarray, "pos column"],
    tokens: Sequence[str],
    *,
    keys: Sequence[str] | None = None,
    chosen: int | None = None,
    title: str = "",
) -> go.Figure:
    """A step's numbers: positions down; dimensions across, or `keys`. Shares from 0 to 1 have
    attention's colours.

    What is struck out (NaN) stays grey; the row of the `chosen` position has a frame.
    """
    names, n_columns = style.labels(tokens), values.shape[1]
    columns = np.arange(0, n_columns, -(-n_columns // COLUMNS))
    shown = values[:, columns].astype(np.float32)
    seen = shown[np.isfinite(shown)]
    shares = (
        keys is not None
        and bool(len(seen))
        and float(seen.min()) >= 0
        and float(seen.max()) <= 1 + 1e-6
    )
    limit = float(np.percentile(np.abs(seen), 99.5)) if len(seen) else 1.0
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
    found = style.figure(
        [heat],
        title=title,
        height=int(np.clip(17 * len(names) + 90, 190, 480)),
        plot_bgcolor=style.PANEL,
    )
    found.update_xaxes(
        title_text="dimension" if keys is None else "key (source)",
        showgrid=False,
        tickangle=0 if keys is None else -60,
    )
    found.update_yaxes(autorange="reversed", showgrid=False, type="category", tickfont={"size": 10})
    if keys is not None:
        found.update_xaxes(type="category", tickfont={"size": 10})
    if chosen is not None:
        found.add_shape(
            type="rect",
            xref="paper",
            x0=0,
            x1=1,
            y0=chosen - 0.5,
            y1=chosen + 0.5,
            line={"color": style.ORANGE, "width": 2},
        )
    return found
