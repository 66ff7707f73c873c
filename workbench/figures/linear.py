"""What linear probes read off each layer: accuracy beside its control and the majority, and the
cost of a label.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style

LINES = {
    "accuracy": (("accuracy", "probe", style.BLUE), ("control", "control task", style.ORANGE)),
    "bits": (("bits", "probe", style.BLUE), ("control_bits", "control task", style.ORANGE)),
}
TITLES = {
    "accuracy": ("Accuracy on texts not seen in training", "share right"),
    "bits": ("What a label costs once the layer is known", "bits a label"),
}


def stage_name(stage: int) -> str:
    """What the axis says: the embedding, then the layers."""
    return "embedding" if stage == 0 else str(stage - 1)


def by_layer(
    frame: pd.DataFrame, what: str = "accuracy", *, reference: float, words: str, n: str = ""
) -> go.Figure:
    """A line for the probe and one for its control, with 95 % bands, and the reference as a dotted
    line.

    Args:
        frame: Of `LinearProbe.to_frame`.
        what: accuracy or bits.
        reference: The accuracy of the majority class, or the bits of a label without a probe.
        words: What the reference is.
        n: What the bands are over, for the title.
    """
    stages = frame["stage"].to_numpy()
    found = style.figure(height=340)
    for column, name, colour in LINES[what]:
        low, high = (frame[f"{column}_{side}"].to_numpy() for side in ("low", "high"))
        style.add_band(found, stages, low, high, colour=colour, name=name)
        found.add_scatter(
            x=stages,
            y=frame[column],
            customdata=np.stack([low, high], -1),
            mode="lines+markers",
            name=name,
            legendgroup=name,
            line={"color": colour},
            text=[stage_name(s) for s in stages],
            hovertemplate="layer %{text}: <b>%{y:.3f}</b> [%{customdata[0]:.3f}, %{customdata[1]:.3f}]"
            f"<extra>{name}</extra>",
        )
    found.add_hline(y=reference, line={"color": style.SOFT, "width": 1, "dash": "dot"})
    found.add_annotation(
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
    _finish(found, stages, f"{title}{n}", unit)
    return found


def _finish(found: go.Figure, stages: Sequence[int] | np.ndarray, title: str, unit: str) -> None:
    every = max(1, len(stages) // 16)
    shown = list(stages[::every])
    found.update_xaxes(
        title_text="after layer", tickvals=shown, ticktext=[stage_name(s) for s in shown]
    )
    found.update_yaxes(title_text=unit)
    found.update_layout(title={"text": title}, margin={"t": 64}, legend={"y": 1.0})
