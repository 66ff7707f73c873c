"""Figures of position: what the encoding is, and how far each head looks."""

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
    """The position vectors as they are: position down, dimension across."""
    rows, columns = _thin(vectors.shape[0]), _thin(vectors.shape[1])
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
    found = style.figure([heat], title=f"The position vectors{_thinned(vectors.shape)}", height=400)
    found.update_xaxes(title_text="dimension", showgrid=False)
    found.update_yaxes(title_text="position", autorange="reversed", showgrid=False)
    return found


def similarity(cosine: Float[np.ndarray, "pos pos"]) -> go.Figure:
    """Cosine similarity of each position's vector to each other's."""
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
    found = style.figure(
        [heat], title=f"How alike two positions are{_thinned(cosine.shape)}", height=400
    )
    found.update_xaxes(title_text="position", showgrid=False, constrain="domain")
    found.update_yaxes(
        title_text="position",
        autorange="reversed",
        showgrid=False,
        scaleanchor="x",
        constrain="domain",
    )
    return found


def norms(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """Length of each position's vector."""
    line = go.Scatter(
        y=np.linalg.norm(vectors, axis=1).astype(np.float32),
        mode="lines",
        line={"color": style.BLUE, "width": 2},
        hovertemplate="position %{x}<br>norm %{y:.3f}<extra></extra>",
    )
    found = style.figure([line], title="Norm of the vector by position", height=300)
    found.update_xaxes(title_text="position")
    found.update_yaxes(title_text="norm", rangemode="tozero")
    return found


def singular_values(values: Float[np.ndarray, " component"], effective_rank: float) -> go.Figure:
    """The spectrum of the centred vectors: how many directions position really uses."""
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
    found = style.figure(
        [line], title=f"Singular values (effective rank {effective_rank:.1f})", height=300
    )
    found.add_vline(x=effective_rank, line={"color": style.ORANGE, "dash": "dot"})
    left = (
        effective_rank > len(values) ** 0.5
    )  # beyond the middle of the axis there is more room to the left
    _note(found, "effective rank", left=left, x=np.log10(effective_rank), yref="paper", y=0.9)
    found.update_xaxes(title_text="component", type="log", range=[0, np.log10(len(values))])
    found.update_yaxes(title_text="singular value", rangemode="tozero")
    return found


def wavelengths(by_type: Mapping[str, Float[np.ndarray, " pair"]], n_ctx: int) -> go.Figure:
    """Rotary: tokens for a full turn of each pair of dimensions, against the context length."""
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
    found = style.figure(lines, title="Rotary wavelengths: tokens for a full turn", height=400)
    found.add_hline(y=n_ctx, line={"color": style.ORANGE, "dash": "dot"})
    _note(found, f"context: {n_ctx:,} tokens", xref="paper", x=0, y=np.log10(n_ctx))
    found.update_xaxes(title_text="pair of dimensions (fast to slow)")
    found.update_yaxes(title_text="wavelength, tokens", type="log", dtick=1)
    found.update_layout(showlegend=len(lines) > 1)
    return found


def turns(by_type: Mapping[str, Float[np.ndarray, " pair"]], n_positions: int) -> go.Figure:
    """Rotary: the cosine of the angle by which each pair has turned after so many tokens."""
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
    found = style.figure(
        [heat], title=f"How far each pair has turned by distance{where}", height=400
    )
    found.update_xaxes(title_text="distance, tokens", showgrid=False)
    found.update_yaxes(title_text="pair of dimensions", autorange="reversed", showgrid=False)
    return found


def slopes(values: Float[np.ndarray, " head"]) -> go.Figure:
    """ALiBi: what each head takes off a score for every token of distance."""
    bars = go.Bar(
        x=[f"H{i}" for i in range(len(values))],
        y=values,
        marker_color=style.BLUE,
        hovertemplate="%{x}<br>slope %{y:.4f}: half the weight after %{customdata:.1f} tokens<extra></extra>",
        customdata=np.log(2) / values,
    )
    found = style.figure(
        [bars], title="ALiBi slopes: taken off the score for each token of distance", height=400
    )
    found.update_yaxes(title_text="slope", type="log")
    return found


def distance_map(
    mean: Float[np.ndarray, "layer head distance"],
    *,
    title: str = "",
    chosen: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """Mean attention of every head (down, layer by layer) to the token so far back (across)."""
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
    found = style.figure([heat], title=title, height=int(max(380, min(820, 12 * len(names)))))
    found.update_xaxes(title_text="distance back, tokens (0 is the token itself)", showgrid=False)
    middles = [i * n_heads + (n_heads - 1) / 2 for i in range(n_layers)]
    found.update_yaxes(
        autorange="reversed",
        tickvals=middles,
        ticktext=[f"L{i}" for i in range(n_layers)],
        showgrid=False,
    )
    for layer in range(1, n_layers):
        found.add_hline(y=layer * n_heads - 0.5, line={"color": style.RULE, "width": 1})
    for layer, head in chosen:
        row = layer * n_heads + head
        found.add_shape(
            type="rect",
            x0=-0.5,
            x1=n_distances - 0.5,
            y0=row - 0.5,
            y1=row + 0.5,
            line={"color": style.ORANGE, "width": 2 if len(names) < 100 else 1},
        )
    return found


def telling_heads(mean: Float[np.ndarray, "layer head distance"]) -> list[tuple[int, int]]:
    """Two heads that differ: the one that prefers one distance most, and the one that looks far
    back most.
    """
    sharpest = mean[..., 1:].max(-1)
    farthest = mean[..., mean.shape[-1] // 4 :].sum(-1)
    found = [np.unravel_index(score.argmax(), score.shape) for score in (sharpest, farthest)]
    return [(int(i), int(j)) for i, j in dict.fromkeys(found)]


def distance_frame(curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """The numbers behind the maps: one row for each kind of input, head and distance."""
    tables = []
    for name, (mean, low, high) in curves.items():
        layer, head, distance = (i.ravel() for i in np.indices(mean.shape))
        columns = {"input": name, "layer": layer, "head": head, "distance": distance}
        tables.append(
            pd.DataFrame(
                {**columns, "mean": mean.ravel(), "low": low.ravel(), "high": high.ravel()}
            )
        )
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
    """Mean attention by distance, one line with its 95 % band for each name: (mean, low, high).

    Names that share their first word (the head) share a colour; random tokens are dashed.
    """
    heads = list(dict.fromkeys(name.split(",")[0] for name in curves))
    found = style.figure(title=title, height=400)
    for name, (mean, low, high) in curves.items():
        colour, x = (
            style.LINES[heads.index(name.split(",")[0]) % len(style.LINES)],
            np.arange(len(mean)),
        )
        style.add_band(found, x, low.clip(0), high.clip(0), colour=colour, name=name)
        found.add_scatter(
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
    found.update_xaxes(title_text="distance back, tokens (0 is the token itself)")
    found.update_yaxes(title_text="mean attention", rangemode="tozero")
    return found


def _note(found: go.Figure, text: str, *, left: bool = False, **place: Any) -> None:
    """A label right or `left` of a reference line; on a logarithmic axis Plotly wants the place as
    a power of ten.
    """
    font = {"color": style.ORANGE, "size": 11}
    side = {"xanchor": "right" if left else "left", "xshift": -style.CLEAR if left else style.CLEAR}
    found.add_annotation(text=text, showarrow=False, font=font, yanchor="bottom", **side, **place)


def _thin(length: int) -> np.ndarray:
    return np.unique(np.linspace(0, length - 1, min(length, SHOWN)).round().astype(int))


def _thinned(shape: Sequence[int]) -> str:
    return f" (evenly thinned to {SHOWN})" if max(shape) > SHOWN else ""
