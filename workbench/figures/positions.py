"""Figures of position encodings, and of attention by distance."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style

SHOWN = 256
"""A matrix is drawn with at most this many rows and columns; longer axes are thinned evenly."""


def matrix(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """A heat map of the position vectors: position down, dimension across."""
    rows = _thin(vectors.shape[0])
    columns = _thin(vectors.shape[1])
    shown = vectors[np.ix_(rows, columns)].astype(np.float32)
    limit = float(np.percentile(np.abs(shown), 99.5)) or 1.0
    heat = go.Heatmap(
        z=shown,
        x=columns,
        y=rows,
        zmin=-limit,
        zmax=limit,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar("value"),
        hovertemplate="position %{y}, dimension %{x}<br>%{z:.4f}<extra></extra>",
    )
    figure = style.figure(
        [heat], title=f"The position vectors{_thinned(vectors.shape)}", height=400
    )
    figure.update_xaxes(title_text="dimension", showgrid=False)
    figure.update_yaxes(title_text="position", autorange="reversed", showgrid=False)
    return figure


def similarity(cosine: Float[np.ndarray, "pos pos"]) -> go.Figure:
    """A heat map of the cosine similarity between the vectors of each two positions."""
    rows = _thin(len(cosine))
    heat = go.Heatmap(
        z=cosine[np.ix_(rows, rows)].astype(np.float32),
        x=rows,
        y=rows,
        zmin=-1,
        zmax=1,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar("cosine"),
        hovertemplate="positions %{y} and %{x}<br>cosine %{z:.3f}<extra></extra>",
    )
    figure = style.figure(
        [heat], title=f"Similarity of positions{_thinned(cosine.shape)}", height=400
    )
    figure.update_xaxes(title_text="position", showgrid=False, constrain="domain")
    figure.update_yaxes(
        title_text="position",
        autorange="reversed",
        showgrid=False,
        scaleanchor="x",
        constrain="domain",
    )
    return figure


def norms(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """The norm of each position's vector."""
    line = go.Scatter(
        y=np.linalg.norm(vectors, axis=1).astype(np.float32),
        mode="lines",
        line={"color": style.BLUE, "width": 2},
        hovertemplate="position %{x}<br>norm %{y:.3f}<extra></extra>",
    )
    figure = style.figure([line], title="Norm of the vector by position", height=300)
    figure.update_xaxes(title_text="position")
    figure.update_yaxes(title_text="norm", rangemode="tozero")
    return figure


def singular_values(values: Float[np.ndarray, " component"], effective_rank: float) -> go.Figure:
    """Singular values of the centred position vectors, with their effective rank marked."""
    share = 100 * values**2 / (values**2).sum()
    line = go.Scatter(
        x=np.arange(1, len(values) + 1),
        y=values.astype(np.float32),
        mode="lines+markers",
        marker={"size": 4},
        line={"color": style.BLUE, "width": 1.5},
        customdata=np.stack([share, share.cumsum()], axis=-1),
        hovertemplate="component %{x}<br>%{y:.3f}, %{customdata[0]:.1f} % of the variance, "
        "together %{customdata[1]:.1f} %<extra></extra>",
    )
    figure = style.figure(
        [line], title=f"Singular values (effective rank {effective_rank:.1f})", height=300
    )
    figure.add_vline(x=effective_rank, line={"color": style.ORANGE, "dash": "dot"})
    left = effective_rank > len(values) ** 0.5  # past the middle there is more room on the left
    _note(figure, "effective rank", left=left, x=np.log10(effective_rank), yref="paper", y=0.9)
    figure.update_xaxes(title_text="component", type="log", range=[0, np.log10(len(values))])
    figure.update_yaxes(title_text="singular value", rangemode="tozero")
    return figure


def wavelengths(by_type: Mapping[str, Float[np.ndarray, " pair"]], n_ctx: int) -> go.Figure:
    """Rotary: tokens for a full turn of each pair of dimensions, with the context length marked.

    Args:
        by_type: Wavelengths in tokens, by kind of layer.
        n_ctx: Context length in tokens.
    """
    lines = [
        go.Scatter(
            y=values,
            name=name.replace("_", " "),
            mode="lines+markers",
            marker={"size": 6},
            hovertemplate="pair %{x}<br>a full turn in %{y:.4s} tokens<extra></extra>",
        )
        for name, values in by_type.items()
    ]
    figure = style.figure(lines, title="Rotary wavelengths: tokens for a full turn", height=400)
    figure.add_hline(y=n_ctx, line={"color": style.ORANGE, "dash": "dot"})
    _note(figure, f"context: {n_ctx:,} tokens", xref="paper", x=0, y=np.log10(n_ctx))
    figure.update_xaxes(title_text="pair of dimensions (fast to slow)")
    figure.update_yaxes(title_text="wavelength, tokens", type="log", dtick=1)
    figure.update_layout(showlegend=len(lines) > 1)
    return figure


def turns(by_type: Mapping[str, Float[np.ndarray, " pair"]], n_positions: int) -> go.Figure:
    """Rotary: cosine of each pair's rotation by distance, for the first kind of layer.

    Args:
        by_type: Wavelengths in tokens, by kind of layer.
        n_positions: Distances to draw, from 0 on.
    """
    name, values = next(iter(by_type.items()))
    angles = np.cos(2 * np.pi * np.arange(n_positions)[:, None] / values[None])
    heat = go.Heatmap(
        z=angles.T.astype(np.float32),
        zmin=-1,
        zmax=1,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar("cosine of the turn"),
        hovertemplate="pair %{y}, %{x} tokens on<br>cosine %{z:.3f}<extra></extra>",
    )
    where = f" ({name.replace('_', ' ')})" if len(by_type) > 1 else ""
    figure = style.figure(
        [heat], title=f"How far each pair has turned by distance{where}", height=400
    )
    figure.update_xaxes(title_text="distance, tokens", showgrid=False)
    figure.update_yaxes(title_text="pair of dimensions", autorange="reversed", showgrid=False)
    return figure


def slopes(values: Float[np.ndarray, " head"]) -> go.Figure:
    """ALiBi: what each head subtracts from a score for every token of distance."""
    bars = go.Bar(
        x=[f"H{i}" for i in range(len(values))],
        y=values,
        marker_color=style.BLUE,
        hovertemplate=(
            "%{x}<br>slope %{y:.4f}: half the weight after %{customdata:.1f} tokens<extra></extra>"
        ),
        customdata=np.log(2) / values,
    )
    figure = style.figure(
        [bars], title="ALiBi slopes: subtracted from scores per token of distance", height=400
    )
    figure.update_yaxes(title_text="slope", type="log")
    return figure


def distance_map(
    mean: Float[np.ndarray, "layer head distance"],
    *,
    title: str = "",
    chosen: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """Mean attention of every head (down, layer by layer) by distance back (across).

    Args:
        mean: Attention by distance; distance 0 is the token itself.
        title: Of the figure.
        chosen: (layer, head) pairs that get a frame.
    """
    n_layers, n_heads, n_distances = mean.shape
    names = [style.head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    heat = go.Heatmap(
        z=mean.reshape(-1, n_distances).astype(np.float32),
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        colorbar=style.colour_bar("mean attention", tickvals=style.SHARES),
        customdata=np.repeat(np.array(names)[:, None], n_distances, 1),
        hovertemplate="<b>%{customdata}</b>, %{x} back<br>mean attention %{z:.4f}<extra></extra>",
    )
    figure = style.figure([heat], title=title, height=int(max(380, min(820, 12 * len(names)))))
    figure.update_xaxes(title_text="distance back, tokens (0: the token itself)", showgrid=False)
    middles = [i * n_heads + (n_heads - 1) / 2 for i in range(n_layers)]
    figure.update_yaxes(
        autorange="reversed",
        tickvals=middles,
        ticktext=[f"L{i}" for i in range(n_layers)],
        showgrid=False,
    )
    for layer in range(1, n_layers):
        figure.add_hline(y=layer * n_heads - 0.5, line={"color": style.RULE, "width": 1})
    for layer, head in chosen:
        row = layer * n_heads + head
        figure.add_shape(
            type="rect",
            x0=-0.5,
            x1=n_distances - 0.5,
            y0=row - 0.5,
            y1=row + 0.5,
            line={"color": style.ORANGE, "width": 2 if len(names) < 100 else 1},
        )
    return figure


def telling_heads(mean: Float[np.ndarray, "layer head distance"]) -> list[tuple[int, int]]:
    """Two contrasting heads: the most focused on one distance, and the one looking back most."""
    sharpest = mean[..., 1:].max(-1)
    farthest = mean[..., mean.shape[-1] // 4 :].sum(-1)
    heads = [np.unravel_index(score.argmax(), score.shape) for score in (sharpest, farthest)]
    return [(int(layer), int(head)) for layer, head in dict.fromkeys(heads)]


def distance_frame(curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The numbers of distance maps as a table: one row for each input, head and distance.

    Args:
        curves: By input: mean, low and high, each `[layer, head, distance]`.
    """
    tables = []
    for name, (mean, low, high) in curves.items():
        layer, head, distance = (i.ravel() for i in np.indices(mean.shape))
        columns = {
            "input": name,
            "layer": layer,
            "head": head,
            "distance": distance,
            "mean": mean.ravel(),
            "low": low.ravel(),
            "high": high.ravel(),
        }
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def distance_lines(
    curves: Mapping[
        str,
        tuple[
            Float[np.ndarray, " distance"],
            Float[np.ndarray, " distance"],
            Float[np.ndarray, " distance"],
        ],
    ],
    *,
    title: str = "",
) -> go.Figure:
    """Mean attention by distance, one line with its 95 % band for each name.

    Args:
        curves: By name, such as "L3H1, text": mean, low and high. Names that share their part
            before the comma (the head) share a colour; those with "random" are dashed.
        title: Of the figure.
    """
    heads = list(dict.fromkeys(name.split(",")[0] for name in curves))
    figure = style.figure(title=title, height=400)
    for name, (mean, low, high) in curves.items():
        colour = style.LINES[heads.index(name.split(",")[0]) % len(style.LINES)]
        x = np.arange(len(mean))
        style.add_band(figure, x, low.clip(0), high.clip(0), colour=colour, name=name)
        figure.add_scatter(
            x=x,
            y=mean,
            name=name,
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "width": 2, "dash": "dash" if "random" in name else "solid"},
            customdata=np.stack([low, high], axis=-1),
            hovertemplate=f"<b>{style.escaped(name)}</b>, %{{x}} back<br>%{{y:.4f}} "
            "(%{customdata[0]:.4f} to %{customdata[1]:.4f})<extra></extra>",
            legendgroup=name,
        )
    figure.update_xaxes(title_text="distance back, tokens (0: the token itself)")
    figure.update_yaxes(title_text="mean attention", rangemode="tozero")
    figure.update_layout(legend=style.LEGEND_AT_BOTTOM, margin={"b": 96})
    return figure


def _note(figure: go.Figure, text: str, *, left: bool = False, **place: Any) -> None:
    """Label a reference line, right of it or `left`; on a log axis places are powers of ten."""
    font = {"color": style.ORANGE, "size": 11}
    side = {"xanchor": "right" if left else "left", "xshift": -style.CLEAR if left else style.CLEAR}
    figure.add_annotation(text=text, showarrow=False, font=font, yanchor="bottom", **side, **place)


def _thin(length: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, SHOWN)).round().astype(int))


def _thinned(shape: Sequence[int]) -> str:
    return f" (evenly thinned to {SHOWN})" if max(shape) > SHOWN else ""
