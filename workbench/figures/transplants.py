"""Figures of where a fine-tuning gain is: shares of parts, layers, heads and activations."""

from collections.abc import Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from jaxtyping import Float
from plotly.subplots import make_subplots

from workbench.figures import style

DIRECTIONS = {
    "base": "tuned parts put into the base: share gained",
    "tuned": "base parts put back in the tuned model: share lost",
}
LOOK = {
    "layer": ("layer", style.INK, "circle"),
    "attn": ("attention", style.BLUE, "diamond"),
    "mlp": ("MLP", style.ORANGE, "square"),
}
SHARE = "share of the gain"
BELOW = {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.07, "yanchor": "top"}
"""A legend below the figure, away from the titles."""


def parts(table: pd.DataFrame, *, n_layers: int, title: str = "") -> go.Figure:
    """Each layer's share with its 95 % interval, in both directions; dotted: random controls.

    Args:
        table: Columns kind, name, into, layer, share, low, high, value, n_params, random, n
            (`Located.table`). `random` is the share of random heads and neurons with as many
            parameters.
        n_layers: Of the model.
        title: Of the figure.
    """
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.1,
        subplot_titles=list(DIRECTIONS.values()),
    )
    outer = list(dict.fromkeys(table.loc[table["kind"] == "outer", "name"]))
    before = [name for name in outer if name.endswith("embed") and name != "unembed"]
    names = [
        *before,
        *(f"L{i}" for i in range(n_layers)),
        *(name for name in outer if name not in before),
    ]
    for row, into in enumerate(DIRECTIONS, 1):
        side = table.loc[table["into"] == into]
        for number, (kind, (words, colour, symbol)) in enumerate(LOOK.items()):
            one = side.loc[side["kind"] == kind]
            if one.empty:
                continue
            shift = (number - 1) * 0.22
            places = [names.index(f"L{int(layer)}") + shift for layer in one["layer"]]
            figure.add_trace(_dots(one, places, words, colour, symbol, first=row == 1), row, 1)
            chance = float(one["random"].iloc[0])
            if not np.isnan(chance):
                figure.add_trace(
                    _chance(chance, len(names), colour, words, int(one["n_params"].iloc[0])), row, 1
                )
        one = side.loc[side["kind"] == "outer"]
        places = [float(names.index(name)) for name in one["name"]]
        figure.add_trace(
            _dots(one, places, "outside the layers", style.GREEN, "x", first=row == 1), row, 1
        )
    figure.update_layout(style.figure(title=title, height=620).layout)
    shown = _readable(names, outer)
    figure.update_xaxes(
        tickvals=shown,
        ticktext=[names[i] for i in shown],
        range=[-0.6, len(names) - 0.4],
        tickangle=0,
        showgrid=False,
    )
    figure.update_xaxes(tickfont={"size": 11}, gridcolor=style.RULE)
    figure.update_yaxes(
        title={"text": SHARE, "font": {"size": 12, "color": style.SOFT}},
        tickfont={"size": 11},
        gridcolor=style.RULE,
        zeroline=True,
        zerolinecolor=style.SOFT,
    )
    figure.update_annotations(font={"size": 13, "color": style.INK})
    figure.update_layout(legend=BELOW, margin={"t": 70 if title else 40, "b": 70})
    return figure


def _readable(names: Sequence[str], outer: Sequence[str]) -> list[int]:
    """Indices of the names to write along an axis: of many layers every few, to avoid overlaps."""
    every = 1 + len(names) // 21
    if every == 1:
        return list(range(len(names)))
    beside = {j for i, name in enumerate(names) if name in outer for j in (i - 1, i + 1)}
    layers = [i for i, name in enumerate(names) if name not in outer and i not in beside]
    return sorted([*(names.index(name) for name in outer), *layers[every - 1 :: every]])


def _dots(
    rows: pd.DataFrame, x: list[float], words: str, colour: str, symbol: str, *, first: bool
) -> go.Scatter:
    return go.Scatter(
        x=x,
        y=rows["share"],
        mode="markers",
        name=words,
        legendgroup=words,
        showlegend=first,
        marker={"size": 9, "color": colour, "symbol": symbol},
        error_y=_bars(rows, colour),
        customdata=rows[["name", "low", "high", "value", "n_params", "n"]],
        hovertemplate=(
            "<b>%{customdata[0]}</b>: share %{y:.3f} "
            "[%{customdata[1]:.3f}, %{customdata[2]:.3f}]<br>"
            "value %{customdata[3]:.3f}, %{customdata[4]:,} parameters, "
            "n = %{customdata[5]}<extra></extra>"
        ),
    )


def _bars(rows: pd.DataFrame, colour: str) -> dict[str, Any]:
    return {
        "array": rows["high"] - rows["share"],
        "arrayminus": rows["share"] - rows["low"],
        "thickness": 1.2,
        "width": 0,
        "color": colour,
    }


def _chance(share: float, width: int, colour: str, words: str, n_params: int) -> go.Scatter:
    return go.Scatter(
        x=[-0.6, width - 0.4],
        y=[share, share],
        mode="lines",
        line={"color": colour, "width": 1.2, "dash": "dot"},
        legendgroup=words,
        showlegend=False,
        hovertemplate=(
            f"random heads and neurons, as many parameters ({n_params:,}): "
            f"<b>{share:.3f}</b><extra></extra>"
        ),
    )


def series(table: pd.DataFrame, *, n_layers: int, title: str = "") -> go.Figure:
    """The share when more and more layers are put into the base: from bottom, top, or at random.

    Args:
        table: Columns kind, name, into, layer, share, low, high, draws, n (`Located.table`).
        n_layers: Of the model.
        title: Of the figure.
    """
    lines = style.figure(title=title, height=400)
    for kind, words, colour in (
        ("from_bottom", "from the bottom", style.BLUE),
        ("from_top", "from the top", style.ORANGE),
    ):
        rows = table[table["kind"] == kind]
        count = rows["layer"] + 1 if kind == "from_bottom" else n_layers - rows["layer"]
        rows = rows.assign(count=count).sort_values("count")
        x = rows["count"].to_numpy(float)
        style.add_band(
            lines, x, rows["low"].to_numpy(), rows["high"].to_numpy(), colour=colour, name=words
        )
        lines.add_scatter(
            x=x,
            y=rows["share"],
            mode="lines+markers",
            name=words,
            legendgroup=words,
            line={"color": colour},
            customdata=rows[["name", "low", "high", "n"]],
            hovertemplate=(
                "%{x} layers, to %{customdata[0]}: <b>%{y:.3f}</b> [%{customdata[1]:.3f}, "
                "%{customdata[2]:.3f}], n = %{customdata[3]}<extra></extra>"
            ),
        )
    random = table.loc[table["kind"] == "random"]
    layers = random.loc[random["name"].str.endswith("layers")]
    layer = random.loc[(random["name"] == "layer") & (random["into"] == "base")]
    drawn = pd.concat([layer.assign(name="1 layers"), layers])
    lines.add_scatter(
        x=[int(name.split()[0]) for name in drawn["name"]],
        y=drawn["share"],
        mode="markers",
        name="as many random heads and neurons",
        marker={"size": 9, "color": style.SOFT, "symbol": "diamond-open", "line": {"width": 2}},
        error_y=_bars(drawn, style.SOFT),
        customdata=drawn[["draws", "low", "high"]],
        hovertemplate=(
            "%{x} layers' worth, mean of %{customdata[0]} draws: <b>%{y:.3f}</b> "
            "[%{customdata[1]:.3f}, %{customdata[2]:.3f}]<extra></extra>"
        ),
    )
    lines.update_xaxes(
        title_text="layers put into the base",
        dtick=max(1, n_layers // 10),
        range=[-0.02 * n_layers, 1.02 * n_layers],
    )
    lines.update_layout(legend={**BELOW, "y": -0.2}, margin={"b": 96})
    lines.update_yaxes(title_text=SHARE)
    for level in (0, 1):
        lines.add_hline(y=level, line={"color": style.RULE, "width": 1})
    return lines


def path(points: pd.DataFrame, *, metric: str, title: str = "") -> go.Figure:
    """A metric along the line from the base's weights (alpha 0) to the tuned ones (1) and beyond.

    Args:
        points: Columns alpha, value, low, high, n.
        metric: Name of the metric.
        title: Of the figure.
    """
    figure = style.figure(
        title=title, height=340, showlegend=False, margin={"l": 60, "r": 16, "t": 44, "b": 48}
    )
    x = points["alpha"].to_numpy(float)
    style.add_band(
        figure,
        x,
        points["low"].to_numpy(float),
        points["high"].to_numpy(float),
        colour=style.BLUE,
        name="interval",
    )
    figure.add_scatter(
        x=x,
        y=points["value"],
        mode="lines+markers",
        line={"color": style.BLUE},
        customdata=points[["low", "high", "n"]],
        hovertemplate=(
            "alpha %{x}: <b>%{y:.3f}</b> [%{customdata[0]:.3f}, %{customdata[1]:.3f}], "
            "n = %{customdata[2]}<extra></extra>"
        ),
    )
    for at, words in ((0, "base"), (1, "tuned")):
        figure.add_vline(
            x=at,
            line={"color": style.SOFT, "width": 1, "dash": "dot"},
            annotation_text=words,
            annotation_position="top",
        )
    figure.update_xaxes(title_text="alpha: base + alpha (tuned − base)", dtick=0.25)
    figure.update_yaxes(title_text="<br>".join(wrap(metric, 36)))
    return figure


Grid = Float[np.ndarray, "row column"]


def share_map(
    share: Grid,
    low: Grid,
    high: Grid,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    across: str,
    n: int,
    title: str = "",
) -> go.Figure:
    """A map of shares, layer by head or position; 0 is white, intervals are in the hover.

    Args:
        share: Of the gain; NaN for none.
        low: Lower ends of the intervals.
        high: Upper ends.
        rows: Names of the rows.
        columns: Names of the columns.
        across: What the columns are.
        n: Samples.
        title: Of the figure.
    """
    limit = max(0.05, float(np.nanmax(np.abs(share)))) if np.isfinite(share).any() else 1.0
    words = np.full(share.shape, "", object)
    for i, j in zip(*np.nonzero(~np.isnan(share)), strict=True):
        interval = f"[{low[i, j]:.3f}, {high[i, j]:.3f}]"
        words[i, j] = f"<b>{rows[i]}, {columns[j]}</b>: {share[i, j]:.3f} {interval}"
    heat = go.Heatmap(
        z=share,
        zmin=-limit,
        zmax=limit,
        colorscale=style.DIVERGING,
        xgap=1,
        ygap=1,
        text=words,
        hovertemplate=f"%{{text}}, n = {n}<extra></extra>",
        colorbar=style.colour_bar(SHARE),
    )
    figure = style.figure(
        [heat],
        title=title,
        height=int(min(860, 140 + max(16, min(34, 620 / len(rows))) * len(rows))),
    )
    grid = {"showgrid": False, "zeroline": False}
    every = 1 if len(rows) <= 16 else 2
    figure.update_xaxes(
        title_text=across,
        tickvals=list(range(len(columns))),
        ticktext=list(columns),
        tickangle=0,
        **grid,
    )
    ticks = list(range(0, len(rows), every))
    figure.update_yaxes(
        title_text="layer",
        tickvals=ticks,
        ticktext=[rows[i] for i in ticks],
        range=[len(rows) - 0.5, -0.5],
        **grid,
    )
    return figure


def activation_maps(
    share: dict[str, Grid],
    low: dict[str, Grid],
    high: dict[str, Grid],
    *,
    layers: Sequence[str],
    columns: Sequence[str],
    n: int,
    site: str,
) -> dict[str, go.Figure]:
    """One map of shares, layer by position, for each direction of patching between the models.

    Args:
        share: By the model that the other's activation was put into, "base" or "tuned".
        low: Lower ends of the intervals.
        high: Upper ends.
        layers: Names of the rows.
        columns: Names of the positions.
        n: Prompts.
        site: Where activations were patched.
    """
    titles = {
        "base": "Tuned activation in the base's run: share gained",
        "tuned": "Base's activation in the tuned run: share lost",
    }
    return {
        into: share_map(
            share[into],
            low[into],
            high[into],
            rows=layers,
            columns=columns,
            across=f"position ({site})",
            n=n,
            title=title,
        )
        for into, title in titles.items()
    }


def head_map(table: pd.DataFrame, into: str, *, n_layers: int, title: str = "") -> go.Figure:
    """A map of shares, layer by head and by group of shared keys and values, of one direction.

    Args:
        table: Columns kind, name, into, layer, share, low, high, n (`Located.table`).
        into: The model that the other's weights were put into, "base" or "tuned".
        n_layers: Of the model.
        title: Of the figure.
    """
    side = table.loc[(table["into"] == into) & table["kind"].isin(("head", "kv"))]
    columns = list(dict.fromkeys(name.lstrip("L0123456789") for name in side["name"]))
    maps = {name: np.full((n_layers, len(columns)), np.nan) for name in ("share", "low", "high")}
    for row in side.to_dict("records"):
        layer = int(row["layer"])
        column = columns.index(str(row["name"]).lstrip("L0123456789"))
        for name, grid in maps.items():
            grid[layer, column] = row[name]
    return share_map(
        maps["share"],
        maps["low"],
        maps["high"],
        rows=[f"L{i}" for i in range(n_layers)],
        columns=columns,
        across="head",
        n=int(side["n"].iloc[0]) if len(side) else 0,
        title=title,
    )
