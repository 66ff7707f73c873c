"""The map of an activation-patching sweep: layers down, positions or heads across."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style

MOST_TICKS = 60
"""With more columns only some are labelled; the hover names them all."""


def effect_map(
    effect: Sequence[Sequence[float]] | np.ndarray,
    metric: Sequence[Sequence[float]] | np.ndarray,
    names: Sequence[str],
    *,
    across: str = "position",
    starts: int = 0,
    title: str = "",
    label: str = "effect (0 corrupted run, 1 clean run)",
    measured: str = "logit difference",
) -> go.Figure:
    """Normalised effect of each patch: 0 is the corrupted run, 1 the clean run.

    Each cell has an invisible point whose `customdata` starts with layer and column, so that a
    click on it is recognised.

    Args:
        effect: By layer and column.
        metric: The same patches' metric in its own unit, for the hover.
        names: Labels of the columns: `column_names`, or heads.
        across: What the columns are.
        starts: First column in which the runs differ; a dotted line marks it.
        title: Of the figure.
        label: Of the colour bar.
        measured: Name of the metric.
    """
    values = np.asarray(effect, dtype=float)
    logits = np.asarray(metric, dtype=float)
    n_layers, n_columns = values.shape
    limit = max(1.0, float(np.nanmax(np.abs(values))))
    heat = go.Heatmap(
        z=values.astype(np.float32),
        zmin=-limit,
        zmax=limit,
        colorscale=style.DIVERGING,
        colorbar=style.colour_bar(label),
        xgap=1,
        ygap=1,
        hoverinfo="skip",
    )
    height = int(min(860, 130 + max(15, min(34, 620 / n_layers)) * n_layers))
    figure = style.figure(
        [heat, _points(values, logits, names, across, measured)], title=title, height=height
    )
    every = max(1, n_columns // MOST_TICKS + (n_columns > MOST_TICKS))
    shown = list(range(0, n_columns, every))
    plain = {"showgrid": False, "zeroline": False}
    figure.update_xaxes(
        title_text=across,
        tickvals=shown,
        ticktext=[names[i] for i in shown],
        tickangle=-50 if across != "head" else 0,
        **plain,
    )
    figure.update_yaxes(title_text="layer", dtick=1 if n_layers <= 16 else 2, **plain)
    figure.update_xaxes(range=[-0.5, n_columns - 0.5])
    figure.update_yaxes(range=[n_layers - 0.5, -0.5])
    figure.update_layout(hoverdistance=-1, margin={"b": 90 if across != "head" else 48})
    if 0 < starts < n_columns:
        figure.add_vline(x=starts - 0.5, line={"color": style.SOFT, "width": 1.5, "dash": "dot"})
    return figure


def part_map(
    effect: Float[np.ndarray, "layer part"],
    left: Float[np.ndarray, "layer part"],
    *,
    title: str,
    label: str,
    measured: str,
) -> go.Figure:
    """What is lost without each head, and without each layer's MLP, which is the last column.

    Args:
        effect: What is lost.
        left: What is left, for the hover.
        title: Of the figure.
        label: Of the colour bar.
        measured: Name of what is left.
    """
    heads = [f"H{i}" for i in range(effect.shape[1] - 1)]
    return effect_map(
        effect,
        left,
        [*heads, "MLP"],
        across="part",
        title=title,
        label=label,
        measured=measured,
    )


def _points(
    values: Float[np.ndarray, "layer column"],
    logits: Float[np.ndarray, "layer column"],
    names: Sequence[str],
    across: str,
    measured: str,
) -> go.Scatter:
    layer, column = np.divmod(np.arange(values.size), values.shape[1])
    cells = zip(
        layer.tolist(),
        column.tolist(),
        values.ravel().tolist(),
        logits.ravel().tolist(),
        strict=True,
    )
    return go.Scatter(
        x=column,
        y=layer,
        mode="markers",
        marker={"opacity": 0, "size": 10, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[[i, j, names[j], effect, metric] for i, j, effect, metric in cells],
        hovertemplate=(
            f"layer <b>%{{customdata[0]}}</b>, {across} <b>%{{customdata[2]}}</b><br>"
            "effect <b>%{customdata[3]:.3f}</b>, "
            f"{measured} <b>%{{customdata[4]:.3f}}</b><extra></extra>"
        ),
        showlegend=False,
    )


def distrusted(figure: go.Figure, failed: Sequence[str]) -> go.Figure:
    """The figure in red with the names of the failed checks; unchanged if none failed."""
    if failed:
        words = f"not to be believed: {'; '.join(failed)}"
        layout: Any = figure.layout  # plotly's stubs do not know its attributes
        title = {"text": f"{layout.title.text}<br><b>{words}</b>", "font": {"color": style.RED}}
        figure.update_layout(paper_bgcolor=style.ALARM, plot_bgcolor=style.ALARM, title=title)
    return figure


def column_names(clean: Sequence[str], corrupted: Sequence[str]) -> list[str]:
    """One label a position; where the prompts differ, both tokens in colour, clean first."""
    names = []
    for i, (a, b) in enumerate(zip(style.labels(clean), style.labels(corrupted), strict=True)):
        if clean[i] == corrupted[i]:
            names.append(a)
        else:
            bare = a.rpartition(" <sub>")[0]
            names.append(
                f'<b style="color:{style.BLUE}">{bare}</b> | <b style="color:{style.RED}">{b}</b>'
            )
    return names
