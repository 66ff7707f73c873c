"""Figures of linear probes by layer: accuracy or bits a label, with the control task."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style

LINES = {
    "accuracy": (
        ("accuracy", "linear probe", style.BLUE),
        ("control", "control task", style.ORANGE),
    ),
    "bits": (
        ("bits", "linear probe", style.BLUE),
        ("control_bits", "control task", style.ORANGE),
    ),
}
TITLES = {
    "accuracy": ("Accuracy on texts not seen in training", "accuracy"),
    "bits": ("Bits to encode a label given the layer", "bits a label"),
}


def stage_name(stage: int) -> str:
    """Axis label of a stage: "embedding" for 0, then the number of the layer."""
    return "embedding" if stage == 0 else str(stage - 1)


def by_layer(
    frame: pd.DataFrame, what: str = "accuracy", *, reference: float, words: str, n: str = ""
) -> go.Figure:
    """A line for the linear probe and one for its control task, with 95 % bands.

    Args:
        frame: Of `LinearProbe.to_frame`.
        what: "accuracy" or "bits".
        reference: Drawn as a dotted line: the accuracy of the majority class, or the bits of a
            label without a linear probe.
        words: What the reference is.
        n: What the bands are over, appended to the title.
    """
    stages = frame["stage"].to_numpy()
    figure = style.figure(height=340)
    for column, name, colour in LINES[what]:
        low = frame[f"{column}_low"].to_numpy()
        high = frame[f"{column}_high"].to_numpy()
        style.add_band(figure, stages, low, high, colour=colour, name=name)
        figure.add_scatter(
            x=stages,
            y=frame[column],
            customdata=np.stack([low, high], -1),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour},
            text=[stage_name(s) for s in stages],
            hovertemplate=(
                "layer %{text}: <b>%{y:.3f}</b> [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
                f"<extra>{name}</extra>"
            ),
        )
    figure.add_hline(y=reference, line={"color": style.SOFT, "width": 1, "dash": "dot"})
    figure.add_annotation(
        text=f"{words} {reference:.2f}",
        x=1,
        xref="paper",
        y=reference,
        xanchor="right",
        yanchor="bottom",
        showarrow=False,
        font={"size": 11, "color": style.SOFT},
    )
    title, unit = TITLES[what]
    _finish(figure, stages, f"{title}{n}", unit)
    return figure


def _finish(figure: go.Figure, stages: Sequence[int] | np.ndarray, title: str, unit: str) -> None:
    every = max(1, len(stages) // 16)
    shown = list(stages[::every])
    figure.update_xaxes(
        title_text="after layer", tickvals=shown, ticktext=[stage_name(s) for s in shown]
    )
    figure.update_yaxes(title_text=unit)
    figure.update_layout(title={"text": title}, margin={"t": 64}, legend={"y": 1.0})
