"""Figures of one attention layer's steps: each step's matrix, one row a position."""

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from PIL import Image
from plotly.colors import hex_to_rgb

from workbench.figures import style
from workbench.figures.attention import png_uri

COLUMNS = 1024
"""Wider matrices are drawn with evenly spaced dimensions, at most this many."""
SMALL = (48, 96)
"""Rows and columns that a small picture has at most."""
ABOVE = "#2a78b8"
BELOW = "#c8443c"
"""Colours of small pictures above and below 0; both are seen on white and on dark."""


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
    shares, limit = _range(shown, over_keys=keys is not None)
    across = "dimension %{x}" if keys is None else "to key <b>%{x}</b>"
    heat = go.Heatmap(
        z=shown,
        x=columns if keys is None else style.labels(keys),
        y=names,
        zmin=0 if shares else -limit,
        zmax=1 if shares else limit,
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


def thumbnail(values: Float[np.ndarray, "pos column"], *, over_keys: bool) -> str:
    """A small picture of one step as a data URI, transparent where the values are near 0.

    Args:
        values: The step's numbers; NaN (masked) stays grey.
        over_keys: Whether columns are keys.
    """
    rows, columns = (
        np.arange(min(n, most)) * n // min(n, most)
        for n, most in zip(values.shape, SMALL, strict=True)
    )
    shown = values[np.ix_(rows, columns)].astype(np.float32)
    shares, limit = _range(shown, over_keys=over_keys)
    masked = ~np.isfinite(shown)
    strength = np.abs(np.nan_to_num(shown, posinf=0, neginf=0) / limit).clip(0, 1)
    strength = np.sqrt(strength) if shares else strength
    picture = np.empty((*shown.shape, 4), np.uint8)
    picture[..., :3] = hex_to_rgb(ABOVE)
    picture[shown < 0, :3] = hex_to_rgb(BELOW)
    picture[..., 3] = strength * 255
    picture[masked] = (*hex_to_rgb(style.SOFT), 50)
    return png_uri(Image.fromarray(picture))


def _range(shown: Float[np.ndarray, "pos column"], *, over_keys: bool) -> tuple[bool, float]:
    """Whether the numbers are shares of attention, and the largest one that colours tell apart."""
    finite = shown[np.isfinite(shown)]
    if over_keys and len(finite) and finite.min() >= 0 and finite.max() <= 1 + 1e-6:
        return True, 1.0
    limit = float(np.percentile(np.abs(finite), 99.5)) if len(finite) else 1.0
    return False, limit or 1.0
