"""Benchmark scores with their intervals, and paired differences of two models."""

from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import style

ROW = 44
"""Height of a task in pixels."""
BETWEEN = 84
"""Height between two panels in pixels."""
LEGEND = 48
"""Height of the legend in pixels."""


def dots(scores: Any) -> go.Figure:
    """A dot with its 95 % interval for each model and task; metrics of one kind share a panel.

    Args:
        scores: Columns model, task, metric, value, low, high, n, chance (NaN where there is none).
    """
    scores = scores.assign(panel=[panel(metric) for metric in scores["metric"]])
    panels = list(dict.fromkeys(scores["panel"]))
    tasks = {p: list(dict.fromkeys(scores.loc[scores["panel"] == p, "task"])) for p in panels}
    figure = _panels([len(tasks[p]) for p in panels])
    models = list(dict.fromkeys(scores["model"]))
    for row, p in enumerate(panels, start=1):
        for number, model in enumerate(models):
            part = scores[(scores["panel"] == p) & (scores["model"] == model)]
            places = [tasks[p].index(task) + _offset(number, len(models)) for task in part["task"]]
            figure.add_trace(_dots(part, places, model, number, first=row == 1), row, 1)
        chance = scores[scores["panel"] == p].drop_duplicates("task").dropna(subset=["chance"])
        if len(chance):
            figure.add_trace(_chance(chance, tasks[p]), row, 1)
        count = len(tasks[p])
        figure.update_yaxes(
            tickvals=list(range(count)),
            ticktext=tasks[p],
            range=[count - 0.4, -0.6],
            row=row,
            col=1,
        )
        figure.update_xaxes(
            title=p, range=[-0.02, 1.02] if p == "accuracy" else None, row=row, col=1
        )
    # The legend is above the first panel, in extra space.
    legend = dict(x=0, xanchor="left", y=1, itemsizing="constant")
    height = _height([len(tasks[p]) for p in panels]) + LEGEND
    figure.update_layout(legend=legend, margin=dict(t=LEGEND), height=height)
    return figure


def differences(table: Any, *, base: str, tuned: str) -> go.Figure:
    """Paired differences with their 95 % intervals; dots are filled where zero is outside.

    Args:
        table: Columns task, metric, difference, low, high, p_adjusted, n, higher_is_better.
        base: Name of the model whose scores are subtracted.
        tuned: Name of the model from whose scores they are subtracted.
    """
    kinds = [panel(metric) for metric in table["metric"]]
    panels = list(dict.fromkeys(kinds))
    figure = _panels([kinds.count(p) for p in panels])
    for row, p in enumerate(panels, start=1):
        part = table[[kind == p for kind in kinds]]
        real = (part["low"] > 0) | (part["high"] < 0)
        figure.add_trace(
            go.Scatter(
                x=part["difference"],
                y=list(range(len(part))),
                mode="markers",
                showlegend=False,
                marker=dict(
                    size=11,
                    color=[style.LINES[0] if r else "white" for r in real],
                    line=dict(width=2, color=style.LINES[0]),
                ),
                error_x=_bars(part, "difference", style.LINES[0]),
                customdata=part[["task", "low", "high", "p_adjusted", "n"]],
                hovertemplate="%{customdata[0]}: %{x:+.3f}<br>"
                "95 % [%{customdata[1]:+.3f}, %{customdata[2]:+.3f}]<br>"
                "p (adjusted) %{customdata[3]:.3g}, n %{customdata[4]}<extra></extra>",
            ),
            row,
            1,
        )
        place: dict[str, Any] = {"row": row, "col": 1}  # plotly's stub takes only names here
        figure.add_vline(x=0, line=dict(color=style.SOFT, width=1), **place)
        figure.update_yaxes(
            tickvals=list(range(len(part))),
            ticktext=part["task"],
            range=[len(part) - 0.4, -0.6],
            row=row,
            col=1,
        )
        better = f"{tuned} better →" if part["higher_is_better"].iloc[0] else f"← {tuned} better"
        numbers = part[["low", "high", "difference"]].to_numpy(float)
        reach = 1.1 * float(np.nanmax(np.abs(numbers))) or 1
        figure.update_xaxes(
            title=f"{p}: {tuned} − {base} ({better})", range=[-reach, reach], row=row, col=1
        )
    return figure


def panel(metric: str) -> str:
    """Name of the panel for a metric: accuracies share one, every other metric has its own."""
    return "accuracy" if metric.startswith(("acc", "exact_match")) else metric.replace("_", " ")


def _panels(counts: list[int]) -> go.Figure:
    """An empty figure with panels below each other, one for each number of tasks."""
    height = _height(counts)
    figure = style.figure(height=height)
    spacing = BETWEEN / height if len(counts) > 1 else 0
    figure.set_subplots(rows=len(counts), cols=1, row_heights=counts, vertical_spacing=spacing)
    axis = {
        "title_font": {"size": 12, "color": style.SOFT},
        "gridcolor": style.RULE,
        "zeroline": False,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis, showgrid=False)
    return figure


def _height(counts: list[int]) -> int:
    """Height in pixels of panels with these numbers of tasks."""
    return ROW * sum(counts) + BETWEEN * len(counts)


def _offset(number: int, count: int) -> float:
    """Vertical shift of model `number` of `count` within a task's row."""
    return (number - (count - 1) / 2) * min(0.22, 0.7 / count)


def _dots(part: Any, places: list[float], model: str, number: int, *, first: bool) -> go.Scatter:
    colour = style.LINES[number % len(style.LINES)]
    return go.Scatter(
        x=part["value"],
        y=places,
        name=model,
        legendgroup=model,
        showlegend=first,
        mode="markers",
        marker=dict(size=10, color=colour),
        error_x=_bars(part, "value", colour),
        customdata=part[["task", "metric", "low", "high", "n"]],
        hovertemplate=(
            "%{customdata[0]} (%{customdata[1]}): %{x:.3f}<br>"
            "95 % [%{customdata[2]:.3f}, %{customdata[3]:.3f}], n %{customdata[4]}"
            f"<extra>{model}</extra>"
        ),
    )


def _bars(part: Any, value: str, colour: str) -> dict:
    """Error bars of asymmetric intervals."""
    return dict(
        type="data",
        symmetric=False,
        array=part["high"] - part[value],
        arrayminus=part[value] - part["low"],
        color=colour,
        thickness=2,
        width=0,
    )


def _chance(part: Any, tasks: list[str]) -> go.Scatter:
    return go.Scatter(
        x=part["chance"],
        y=[tasks.index(task) for task in part["task"]],
        name="guessing",
        mode="markers",
        marker=dict(symbol="line-ns", size=26, line=dict(width=1.5, color=style.SOFT)),
        hovertemplate="guessing scores %{x:.3f}<extra></extra>",
    )
