"""Figures of what a model does with positions: frequencies, decay, variance, decoding, loss by
position.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from workbench.figures import style

Curve = tuple[Float[np.ndarray, " x"], Float[np.ndarray, " x"], Float[np.ndarray, " x"]]
"""Mean and both ends of its interval."""
LayerHead = Float[np.ndarray, "layer head"]


def fourier(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """The power of each frequency in the position vectors, summed over dimensions, as a share of
    the whole.
    """
    power = (np.abs(np.fft.rfft(vectors - vectors.mean(0), axis=0)) ** 2).sum(1)[1:]
    period = len(vectors) / np.arange(1, len(power) + 1)
    line = go.Scatter(
        x=period,
        y=power / (power.sum() or 1.0),
        mode="lines+markers",
        marker={"size": 4},
        hovertemplate="a wave of %{x:.1f} positions<br>%{y:.4f} of the power<extra></extra>",
    )
    found = style.figure([line], title="Fourier spectrum over positions", height=300)
    powers = 2 ** np.arange(1, int(np.log2(len(vectors))) + 1)
    found.update_xaxes(title_text="period, positions", type="log", tickvals=powers)
    found.update_yaxes(title_text="share of the power", type="log")
    return found


def helix(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """The first three principal components of the position vectors: slow waves make a helix."""
    centred = vectors - vectors.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    x, y, z = (u * s).T[:3] if len(s) >= 3 else np.pad((u * s).T, ((0, 3 - len(s)), (0, 0)))
    share = 100 * (s[:3] ** 2).sum() / (s**2).sum()
    line = go.Scatter3d(
        x=x,
        y=y,
        z=z,
        mode="lines+markers",
        marker={
            "size": 2.5,
            "color": np.arange(len(x)),
            "colorscale": "Viridis",
            "colorbar": style.colour_bar("position"),
        },
        line={"color": style.SOFT, "width": 2},
        customdata=np.arange(len(x)),
        hovertemplate="position %{customdata}<extra></extra>",
    )
    found = style.figure(
        [line], title=f"First three components ({share:.0f} % of the variance)", height=420
    )
    axes = {
        f"{a}axis": {
            "title": {"text": f"component {i}", "font": {"size": 11}},
            "tickfont": {"size": 10},
        }
        for i, a in enumerate("xyz", 1)
    }
    view = {"eye": {"x": 1.5, "y": 1.5, "z": 1.05}, "center": {"x": 0, "y": 0, "z": -0.14}}
    # A cube, since one long component would push the others' names out of sight.
    found.update_layout(
        scene={**axes, "camera": view, "aspectmode": "cube"},
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
    )
    return found


def frequencies(
    used: Float[np.ndarray, "layer head pair"], wavelengths: Float[np.ndarray, "layer pair"]
) -> go.Figure:
    """Which frequencies each head's queries and keys are long in; heads down, fast pairs left."""
    n_layers, n_heads, n_pairs = used.shape
    names = np.array([style.head_name(i, j) for i in range(n_layers) for j in range(n_heads)])
    turn = np.repeat(wavelengths[:, None], n_heads, 1).reshape(-1, n_pairs)
    heat = go.Heatmap(
        z=used.reshape(-1, n_pairs).astype(np.float32),
        zmin=0,
        zmax=float(np.percentile(used, 99.5)),
        colorscale=style.SEQUENTIAL,
        colorbar=style.colour_bar("share"),
        customdata=np.stack(
            [np.repeat(names[:, None], n_pairs, 1), np.round(turn, 1).astype(str)], -1
        ),
        hovertemplate="<b>%{customdata[0]}</b>, pair %{x}<br>a turn in %{customdata[1]} tokens<br>"
        "share %{z:.3f}<extra></extra>",
    )
    height = int(np.clip(12 * len(names), 380, 820))
    found = style.figure(
        [heat], title="Frequencies used: share of |q||k| in each pair", height=height
    )
    found.update_xaxes(title_text="pair of dimensions (fast to slow)", showgrid=False)
    middles = [i * n_heads + (n_heads - 1) / 2 for i in range(n_layers)]
    found.update_yaxes(
        autorange="reversed",
        tickvals=middles,
        ticktext=[f"L{i}" for i in range(n_layers)],
        showgrid=False,
    )
    return found


def bands(
    curves: Mapping[str, Curve],
    x: Mapping[str, np.ndarray] | None = None,
    *,
    title: str,
    across: str,
    up: str,
    height: int = 380,
) -> go.Figure:
    """One line with its 95 % band for each name; `x` gives a name's places where they are not 0, 1,
    2, ...
    """
    found = style.figure(title=title, height=height)
    for (name, (mean, low, high)), colour in zip(curves.items(), style.LINES * 4, strict=False):
        places = np.arange(len(mean)) if x is None else x[name]
        if np.isfinite(low).all():
            style.add_band(found, places, low, high, colour=colour, name=name)
        found.add_scatter(
            x=places,
            y=mean,
            name=style.escaped(name),
            mode="lines+markers",
            marker={"size": 4},
            line={"color": colour, "width": 2, "dash": "dash" if name == "control" else "solid"},
            customdata=np.stack([low, high], axis=-1),
            hovertemplate=f"<b>{style.escaped(name)}</b>, %{{x}}<br>%{{y:.4f}} "
            "(%{customdata[0]:.4f} to %{customdata[1]:.4f})<extra></extra>",
            legendgroup=name,
        )
    found.update_xaxes(title_text=across)
    found.update_yaxes(title_text=up)
    # Below: titles here are long.
    found.update_layout(
        showlegend=len(curves) > 1,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
    )
    return found


def mark(found: go.Figure, at: float, words: str) -> go.Figure:
    """The figure with a dotted line and words at a place along x, such as the end of the context."""
    line, font = {"color": style.ORANGE, "dash": "dot"}, {"color": style.ORANGE, "size": 11}
    place = {"annotation_position": "top right", "annotation_xshift": style.CLEAR}
    found.add_vline(x=at, line=line, annotation_text=words, annotation_font=font, **place)
    return found


def split_maps(mean: Mapping[str, Float[np.ndarray, "layer head"]], *, n: int) -> go.Figure:
    """The shares of variance, a map each, layer by head; a head's three shares sum to 1."""
    found = make_subplots(1, len(mean), subplot_titles=list(mean), horizontal_spacing=0.05)
    for column, (part, values) in enumerate(mean.items(), 1):
        heat = go.Heatmap(
            z=values.astype(np.float32),
            zmin=0,
            zmax=1,
            colorscale=style.SEQUENTIAL,
            showscale=column == len(mean),
            colorbar=style.colour_bar("share of variance"),
            xgap=1,
            ygap=1,
            hovertemplate=f"<b>L%{{y}}H%{{x}}</b><br>{part} %{{z:.2f}}<extra></extra>",
        )
        found.add_trace(heat, 1, column)
    n_layers = len(next(iter(mean.values())))
    base = style.figure(
        title=f"What explains the scores (means over {n} sets of tokens)",
        height=max(300, 12 * n_layers + 160),
    )
    found.update_layout(base.layout)
    found.update_layout(margin={"t": 70})
    found.update_xaxes(showgrid=False, title_text="head")
    found.update_yaxes(showgrid=False, autorange="reversed", title_text="layer", col=1)
    found.update_yaxes(showgrid=False, autorange="reversed", col=2)
    found.update_yaxes(showgrid=False, autorange="reversed", col=3)
    return found


def mean_kernels(
    models: Sequence[tuple[str, Float[np.ndarray, "layer head distance"]]],
) -> go.Figure:
    """Each model's mean attention by distance over all heads, with the middle half of its heads as
    a band.
    """
    curves = {}
    for name, mean in models:
        flat = mean.reshape(-1, mean.shape[-1])
        curves[name] = (
            flat.mean(0),
            np.percentile(flat, 25, axis=0),
            np.percentile(flat, 75, axis=0),
        )
    found = bands(
        curves,
        title="Attention by distance on random tokens: mean of heads, band of half of them",
        across="distance back, tokens",
        up="mean attention",
    )
    found.update_yaxes(type="log", dtick="D2")
    return found


def catalogues(
    models: Mapping[str, Mapping[str, tuple[LayerHead, LayerHead, LayerHead]]], *, title: str = ""
) -> go.Figure:
    """Scores of every head, a row a model and a block a score: mean, and low and high of its 95 %
    interval on hover.
    """
    scores = list(next(iter(models.values())))
    widest = max(mean.size for row in models.values() for mean, _, _ in row.values())
    z = np.full((len(models), len(scores) * (widest + 1) - 1), np.nan)
    hover = np.full(z.shape, "", object)
    for y, row in enumerate(models.values()):
        for block, (mean, low, high) in enumerate(row.values()):
            for i, (layer, head) in enumerate(np.ndindex(mean.shape)):
                at = y, block * (widest + 1) + i
                z[at] = mean[layer, head]
                hover[at] = (
                    f"<b>{style.head_name(layer, head)}</b> {mean[layer, head]:.3f}, "
                    f"95 % interval {low[layer, head]:.3f} to {high[layer, head]:.3f}"
                )
    heat = go.Heatmap(
        z=z,
        y=list(models),
        zmin=0,
        zmax=1,
        colorscale=style.ATTENTION,
        colorbar=style.colour_bar("score"),
        customdata=hover,
        xgap=1,
        ygap=3,
        hoverongaps=False,
        hovertemplate="%{y} %{customdata}<extra></extra>",
    )
    found = style.figure([heat], title=title, height=70 + 44 * len(models) + 60)
    middles = [i * (widest + 1) + (widest - 1) / 2 for i in range(len(scores))]
    words = [score.removesuffix("_score").replace("_", " ") for score in scores]
    found.update_xaxes(
        tickvals=middles,
        ticktext=words,
        showgrid=False,
        ticks="",
        title_text="heads, layer by layer",
    )
    found.update_yaxes(autorange="reversed", showgrid=False)
    return found
