"""Attribution's estimates against exact patching, one point a cell; misleading ones in colour."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

HARMLESS = "not shown to mislead"
COLOURS = {HARMLESS: style.SOFT, "off": style.ORANGE, "wrong sign": style.RED}
"""Kinds of estimates and their colours."""
INTERVALS = (
    " [%{customdata[1]:.3f}, %{customdata[2]:.3f}]",
    " [%{customdata[4]:.3f}, %{customdata[5]:.3f}]",
)
"""Hover text for the intervals of the exact value and of the error; a single pair has none."""
NAMED = 8
"""Points labelled with their name: those with the largest errors."""


def scatter(table: Any, tolerance: float, *, title: str = "") -> go.Figure:
    """One point a cell: exact effect across, estimate up; they agree on the diagonal.

    Args:
        table: Columns cell, exact, exact_low, exact_high, estimate, error, error_low, error_high,
            kind (a key of `COLOURS`).
        tolerance: Largest acceptable error; the band around the diagonal.
        title: Of the figure.
    """
    both = np.concatenate([table["exact"], table["estimate"]])
    low = float(both.min())
    high = float(both.max())
    room = 0.05 * (high - low or 1.0)
    ends = np.array([low - room, high + room])
    figure = style.figure(title=title, height=460)
    style.add_band(
        figure,
        ends,
        ends - tolerance,
        ends + tolerance,
        colour=style.SOFT,
        name="within the tolerance",
    )
    figure.add_scatter(
        x=ends,
        y=ends,
        mode="lines",
        line={"color": style.SOFT, "width": 1},
        hoverinfo="skip",
        showlegend=False,
    )
    misleading = set(table.index[table["kind"] != HARMLESS])
    named = misleading & set(table["error"].abs().nlargest(NAMED).index)
    intervals = ("", "") if table["error_low"].isna().all() else INTERVALS
    for kind in COLOURS:
        part = table[table["kind"] == kind]
        if len(part):
            figure.add_trace(_points(part, kind, named, (low + high) / 2, intervals))
    figure.update_xaxes(
        title_text="exact effect (0 corrupted run, 1 clean run)", range=ends.tolist(), showgrid=True
    )
    figure.update_yaxes(title_text="estimate by gradient", range=ends.tolist())
    figure.update_layout(legend=style.LEGEND_AT_BOTTOM, margin={"b": 80})
    return figure


def _points(
    part: Any, kind: str, named: set[Any], middle: float, intervals: tuple[str, str]
) -> go.Scatter:
    """The points of one kind.

    Args:
        part: Their rows of the table.
        kind: A key of `COLOURS`.
        named: Indices of the rows to label.
        middle: Points left of it have their label on the right, others on the left.
        intervals: Hover text for the intervals of the exact value and of the error.
    """
    cells = [style.escaped(cell) for cell in part["cell"]]
    columns = [
        part[name] for name in ("exact_low", "exact_high", "error", "error_low", "error_high")
    ]
    return go.Scatter(
        x=part["exact"],
        y=part["estimate"],
        mode="markers+text",
        name=f"{kind} ({len(part)})",
        text=[cell if i in named else "" for i, cell in zip(part.index, cells, strict=True)],
        textposition=np.where(part["exact"] < middle, "middle right", "middle left").tolist(),
        textfont={"size": 10, "color": COLOURS[kind]},
        marker={
            "size": 7,
            "color": COLOURS[kind],
            "opacity": 0.45 if kind == HARMLESS else 0.9,
        },
        customdata=np.stack([cells, *columns], -1).tolist(),
        hovertemplate=(
            f"<b>%{{customdata[0]}}</b><br>exact %{{x:.3f}}{intervals[0]}<br>"
            "estimate %{y:.3f}<br>"
            f"off by %{{customdata[3]:.3f}}{intervals[1]}<extra></extra>"
        ),
    )
