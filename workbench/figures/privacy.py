"""Figures of a memorisation audit: the ROC curve, exposures, and the parts that hold a string."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from jaxtyping import Float

from workbench.figures import style
from workbench.figures.patching import part_map

ROW = 30
"""Height of a canary in pixels."""
LONGEST = 34
"""Characters of a canary on an axis."""


def roc(attacks: Sequence[Any]) -> go.Figure:
    """The ROC curve of each attack: the share of trained rows found by that of false alarms.

    Args:
        attacks: Records with `name`, `false_alarms`, `hits`, `auc`, `auc_low` and `auc_high`.
    """
    figure = style.figure(title="Trained rows told from held-out ones", height=360)
    for attack, colour in zip(attacks, style.LINES, strict=False):
        name = score_name(attack.name)
        figure.add_scatter(
            x=attack.false_alarms,
            y=attack.hits,
            mode="lines",
            line={"color": colour, "width": 2},
            name=f"{name}, AUC {attack.auc:.3f} [{attack.auc_low:.3f}, {attack.auc_high:.3f}]",
            hovertemplate="false alarms <b>%{x:.3f}</b>, found <b>%{y:.3f}</b><extra></extra>",
        )
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        line={"color": style.SOFT, "width": 1, "dash": "dot"},
        name="a guess",
        hoverinfo="skip",
    )
    figure.update_xaxes(title_text="held-out rows taken for trained ones", range=[-0.01, 1.01])
    figure.update_yaxes(title_text="trained rows found", range=[-0.01, 1.01])
    figure.update_layout(legend=style.LEGEND_AT_BOTTOM)
    return figure


def score_name(name: str) -> str:
    """What the score of an attack is called in text: `min_k_plus_plus` is Min-K%++."""
    return {"min_k_plus_plus": "Min-K%++"}.get(name, name.replace("_", " "))


def exposures(results: Sequence[Any]) -> go.Figure:
    """The exposure of each canary with its interval; a tick marks the most that was possible.

    Args:
        results: Records with `text`, `value`, `exposure`, `low`, `high` and `space`.
    """
    names = [style.escaped(_short(one.text.replace("{}", one.value))) for one in results]
    rows = list(range(len(results)))
    values = np.array([one.exposure for one in results])
    most = [float(np.log2(one.space)) for one in results]
    dots = go.Scatter(
        x=values,
        y=rows,
        mode="markers",
        name="exposure",
        marker={"size": 11, "color": style.BLUE},
        error_x={
            "array": [one.high - one.exposure for one in results],
            "arrayminus": [one.exposure - one.low for one in results],
            "width": 3,
            "thickness": 1.5,
            "color": style.BLUE,
        },
        customdata=names,
        hovertemplate="%{customdata}<br><b>%{x:.2f}</b> bits<extra></extra>",
    )
    ends = go.Scatter(
        x=most,
        y=rows,
        mode="markers",
        name="all that is possible",
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": style.SOFT}},
        hovertemplate="at most <b>%{x:.2f}</b> bits<extra></extra>",
    )
    height = 120 + ROW * len(results)
    figure = style.figure([dots, ends], title="Exposure of each canary", height=height)
    figure.update_xaxes(title_text="bits", range=[-0.3, max(most, default=1.0) * 1.05])
    figure.update_yaxes(tickvals=rows, ticktext=names, range=[len(rows) - 0.5, -0.5])
    figure.update_layout(margin={"t": 72})
    return figure


def holder_map(drop: Float[np.ndarray, "layer part"], log_prob: float, n: int) -> go.Figure:
    """What a canary's value loses in nats without each head, and without each MLP.

    Args:
        drop: By layer and part; the last part is the MLP.
        log_prob: Of the value in the whole model.
        n: Neighbours of which the map is the mean.
    """
    return part_map(
        drop,
        log_prob - drop,
        title=f"Nats that the value loses without each part, mean of {n} neighbours",
        label="nats lost",
        measured="log-probability left",
    )


def _short(text: str) -> str:
    """The text, cut in its middle so that its value can still be read at the end."""
    if len(text) <= LONGEST:
        return text
    return f"{text[: LONGEST // 2 - 1]}…{text[-LONGEST // 2 :]}"
