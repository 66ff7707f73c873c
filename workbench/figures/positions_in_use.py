"""Figures of how a model uses positions: frequencies, variance, decoding, loss by position."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from workbench.figures import style

Curve = tuple[Float[np.ndarray, " x"], Float[np.ndarray, " x"], Float[np.ndarray, " x"]]
"""Mean, and low and high end of its interval."""
LayerHead = Float[np.ndarray, "layer head"]


def fourier(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """Fourier spectrum of the position vectors, summed over dimensions, as shares of the power."""
    power = (np.abs(np.fft.rfft(vectors - vectors.mean(0), axis=0)) ** 2).sum(1)[1:]
    period = len(vectors) / np.arange(1, len(power) + 1)
    line = go.Scatter(
        x=period,
        y=power / (power.sum() or 1.0),
        mode="lines+markers",
        marker={"size": 4},
        hovertemplate="a wave of %{x:.1f} positions<br>%{y:.4f} of the power<extra></extra>",
    )
    figure = style.figure([line], title="Fourier spectrum over positions", height=300)
    powers = 2 ** np.arange(1, int(np.log2(len(vectors))) + 1)
    figure.update_xaxes(title_text="period, positions", type="log", tickvals=powers)
    figure.update_yaxes(title_text="share of the power", type="log")
    return figure


def helix(vectors: Float[np.ndarray, "pos d_model"]) -> go.Figure:
    """The first three principal components of the position vectors; slow waves make a helix."""
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
    figure = style.figure(
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
    # A cube, since a long component would push the other axes' titles out of sight.
    figure.update_layout(
        scene={**axes, "camera": view, "aspectmode": "cube"},
        margin={"l": 0, "r": 0, "t": 40, "b": 0},
    )
    return figure


def frequencies(
    used: Float[np.ndarray, "layer head pair"], wavelengths: Float[np.ndarray, "layer pair"]
) -> go.Figure:
    """Share of |q||k| in each rotary pair of dimensions; heads down, pairs across, fast ones left.

    Args:
        used: The shares.
        wavelengths: Of the pairs, in tokens.
    """
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
    figure = style.figure(
        [heat], title="Frequencies used: share of |q||k| in each pair", height=height
    )
    figure.update_xaxes(title_text="pair of dimensions (fast to slow)", showgrid=False)
    middles = [i * n_heads + (n_heads - 1) / 2 for i in range(n_layers)]
    figure.update_yaxes(
        autorange="reversed",
        tickvals=middles,
        ticktext=[f"L{i}" for i in range(n_layers)],
        showgrid=False,
    )
    return figure


def bands(
    curves: Mapping[str, Curve],
    x: Mapping[str, np.ndarray] | None = None,
    *,
    title: str,
    across: str,
    up: str,
    height: int = 380,
) -> go.Figure:
    """One line with its 95 % band for each name.

    Args:
        curves: By name: mean, low and high.
        x: By name: places along x; 0, 1, 2, ... by default.
        title: Of the figure.
        across: Title of the x axis.
        up: Title of the y axis.
        height: In pixels.
    """
    figure = style.figure(title=title, height=height)
    for (name, (mean, low, high)), colour in zip(curves.items(), style.LINES * 4, strict=False):
        places = np.arange(len(mean)) if x is None else x[name]
        if np.isfinite(low).all():
            style.add_band(figure, places, low, high, colour=colour, name=name)
        figure.add_scatter(
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
    figure.update_xaxes(title_text=across)
    figure.update_yaxes(title_text=up)
    # The legend goes below the figure, as titles here are long.
    figure.update_layout(
        showlegend=len(curves) > 1,
        legend={"orientation": "h", "x": 0, "xanchor": "left", "y": -0.2, "yanchor": "top"},
    )
    return figure


def mark(figure: go.Figure, at: float, words: str) -> go.Figure:
    """The figure with a labelled dotted line, such as at the end of the context.

    Args:
        figure: To draw on.
        at: Place along x.
        words: The label.
    """
    figure.add_vline(
        x=at,
        line={"color": style.ORANGE, "dash": "dot"},
        annotation_text=words,
        annotation_font={"color": style.ORANGE, "size": 11},
        annotation_position="top right",
        annotation_xshift=style.CLEAR,
    )
    return figure


def split_maps(mean: Mapping[str, Float[np.ndarray, "layer head"]], *, n: int) -> go.Figure:
    """One map, layer by head, for each share of the scores' variance; a head's shares sum to 1.

    Args:
        mean: By part: its share of each head's variance.
        n: Sets of tokens that the means are over.
    """
    figure = make_subplots(1, len(mean), subplot_titles=list(mean), horizontal_spacing=0.05)
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
        figure.add_trace(heat, 1, column)
    n_layers = len(next(iter(mean.values())))
    base = style.figure(
        title=f"What explains the scores (means over {n} sets of tokens)",
        height=max(300, 12 * n_layers + 160),
    )
    figure.update_layout(base.layout)
    figure.update_layout(margin={"t": 70})
    figure.update_xaxes(showgrid=False, title_text="head")
    figure.update_yaxes(showgrid=False, autorange="reversed", title_text="layer", col=1)
    figure.update_yaxes(showgrid=False, autorange="reversed", col=2)
    figure.update_yaxes(showgrid=False, autorange="reversed", col=3)
    return figure


def mean_kernels(
    models: Sequence[tuple[str, Float[np.ndarray, "layer head distance"]]],
) -> go.Figure:
    """Mean attention by distance over all heads, one line a model; half of its heads as a band.

    Args:
        models: (name, mean attention by distance); the band is from the 25th to the 75th
            percentile of the heads.
    """
    curves = {}
    for name, mean in models:
        flat = mean.reshape(-1, mean.shape[-1])
        curves[name] = (
            flat.mean(0),
            np.percentile(flat, 25, axis=0),
            np.percentile(flat, 75, axis=0),
        )
    figure = bands(
        curves,
        title="Attention by distance: mean over heads, band of half of them",
        across="distance back, tokens",
        up="mean attention",
    )
    figure.update_yaxes(type="log", dtick="D2")
    return figure


def catalogues(
    models: Mapping[str, Mapping[str, tuple[LayerHead, LayerHead, LayerHead]]], *, title: str = ""
) -> go.Figure:
    """Scores of every head, one row a model and one block a score; 95 % intervals on hover.

    Args:
        models: By model and score: mean, low and high.
        title: Of the figure.
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
    figure = style.figure([heat], title=title, height=70 + 44 * len(models) + 60)
    middles = [i * (widest + 1) + (widest - 1) / 2 for i in range(len(scores))]
    words = [score.removesuffix("_score").replace("_", " ") for score in scores]
    figure.update_xaxes(
        tickvals=middles,
        ticktext=words,
        showgrid=False,
        ticks="",
        title_text="heads, layer by layer",
    )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    return figure
