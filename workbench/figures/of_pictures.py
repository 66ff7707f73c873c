"""The figures of records about pictures."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plotly.graph_objects as go

from workbench.figures import pictures, style

SHOWN = 3
"""Images of each digit that are drawn."""


def _digits(record: Any) -> go.Figure:
    """The first images of each digit."""
    order = np.argsort(record.labels, kind="stable")
    places = [order[record.labels[order] == digit][:SHOWN] for digit in range(10)]
    chosen = np.concatenate(places)
    names = [str(label) for label in record.labels[chosen]]
    return pictures.gallery(record.images[chosen], names, title=record.headline(), across=10)


def _classified(record: Any) -> go.Figure:
    """The first image's probabilities; of several images how often each digit is read as which."""
    label = None if record.labels is None else int(record.labels[0])
    if record.n == 1 or record.labels is None:
        return pictures.class_bars(record.probability[0], label=label, title=record.headline())
    return pictures.confusion(record.labels, record.predicted, title=record.headline())


def _drawn(record: Any) -> go.Figure:
    names = [str(digit) for digit in record.digits]
    title = f"Drawn by {style.escaped(record.subject)}"
    return pictures.gallery(record.images, names, title=title, given=record.rows)


def _on_picture(record: Any) -> go.Figure:
    """The mean over all heads, from the last pixel."""
    last = record.image.size - 1
    heads = [
        record.on_picture(layer, head, last)
        for layer, head in np.ndindex(*record.pattern.shape[:2])
    ]
    title = "Attention from the last pixel, mean of all heads"
    return pictures.attention_on(record.image, np.mean(heads, 0), last, title=title)


DRAWN: Mapping[str, Callable[[Any], go.Figure | None]] = {
    "Classified": _classified,
    "Digits": _digits,
    "Drawn": _drawn,
    "Picture": lambda record: pictures.gallery(record.image[None], ["8 by 8"], across=1),
    "PictureAttention": _on_picture,
    "PositionMap": lambda record: pictures.all_places(record.similarity),
}
