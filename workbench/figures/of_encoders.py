"""The figures of records about encoders of pictures and sounds."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import patches, patching, style


def _attention(record: Any) -> go.Figure:
    """The attention of every head, from the first position."""
    n_layers, n_heads = record.pattern.shape[:2]
    maps = record.pattern[:, :, 0, record.special :].reshape(n_layers, n_heads, *record.grid)
    return patches.small_maps(
        maps,
        rows=[f"L{i}" for i in range(n_layers)],
        columns=[f"H{i}" for i in range(n_heads)],
        title=f"Attention from {style.escaped(record.tokens[0])}, {style.escaped(record.subject)}",
    )


def effects(record: Any) -> go.Figure | None:
    """A patching map by layer and position, or by layer and head; None for other axes."""
    if record.effect.ndim != 2:
        return None
    heads = record.axes[-1] == "head"
    names = [f"H{i}" for i in range(record.effect.shape[1])] if heads else record.tokens
    share = "restored" if record.direction == "denoising" else "kept"
    metric = record.metric_name.replace("_", " ")
    many = f", mean of {record.n} pairs" if record.n > 1 else ""
    return patching.effect_map(
        record.effect,
        record.metric,
        names,
        across="head" if heads else "position",
        title=f"{record.direction} {record.site}: share of the {metric} {share}{many}",
        measured=metric,
    )


def _attribution(record: Any) -> go.Figure:
    words = f"{style.escaped(record.answer)} minus {style.escaped(record.wrong)}"
    return patches.small_maps(
        record.scores[None, None],
        rows=[""],
        columns=[f"sum {record.scores.sum():+.3f}"],
        signed=True,
        label="logits",
        title=f"What each patch adds to {words}",
    )


DRAWN: Mapping[str, Callable[[Any], go.Figure | None]] = {
    "EncoderAccuracy": lambda record: patches.by_layer(
        *np.array([[e.value, e.low, e.high] for e in record.by_layer]).T,
        chance=1 / len(record.labels),
    ),
    "EncoderAttention": _attention,
    "EncoderAttribution": _attribution,
    "EncoderClasses": lambda record: patches.ranked_classes(record.labels, record.probability),
    "EncoderLens": lambda record: patches.reading(
        record.probability, record.labels, title="What the classifier reads after each layer"
    ),
    "EncoderPatching": effects,
}
