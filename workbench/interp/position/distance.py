"""How far back each head attends."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import beginning, repeated_tokens
from workbench.interp.patterns.passing import each_pattern
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class Distances(Record):
    """Mean attention by distance, with 95 % intervals over `n` sequences.

    The distance is `query - key`; the mean is over all queries that have a key at that distance.
    The first key is left out, since many heads attend to it at any distance.
    """

    subject: str
    text: str
    mean: Float[np.ndarray, "layer head distance"]
    low: Float[np.ndarray, "layer head distance"]
    high: Float[np.ndarray, "layer head distance"]
    n: int

    def to_frame(self) -> pd.DataFrame:
        """One row per head and distance: mean attention with `low` and `high`."""
        layer, head, distance = (i.ravel() for i in np.indices(self.mean.shape))
        columns = {
            "name": [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)],
            "distance": distance,
        }
        ends = {"mean": self.mean, "low": self.low, "high": self.high}
        return pd.DataFrame({**columns, **{name: values.ravel() for name, values in ends.items()}})

    def headline(self) -> str:
        """The result in a few words."""
        layer, head, distance = np.unravel_index(self.mean.argmax(), self.mean.shape)
        where = f"L{layer}H{head}, {distance} back"
        return f"on {self.text}: most attention {self.mean.max():.3f} ({where})"


@public("subject")
@own_modes
def attention_by_distance(
    subject: SubjectOrName,
    *,
    texts: Sequence[str] | None = None,
    n: int = 8,
    length: int = 64,
    max_distance: int = 32,
    seed: int = 0,
) -> Distances:
    """Each head's mean attention to the token at every distance back.

    Args:
        subject: The model.
        texts: Texts to measure on, cut to `length` tokens, shorter ones left out; None for random
            tokens, which show the effect of position alone.
        n: Random sequences.
        length: Tokens of a sequence; fewer if the context is shorter.
        max_distance: Distances to measure, from 0.
        seed: Of the random tokens.

    Raises:
        WorkbenchError: No text is long enough.
    """
    subject = cast(Subject, subject)
    length = min(length, subject.n_ctx - 1)
    if texts is None:
        ids = repeated_tokens(subject, n, length, seed)[:, :length]
    else:
        rows = [beginning(subject, t, length)[0] for t in texts]
        rows = [row for row in rows if len(row) >= length]
        if not rows:
            raise WorkbenchError(
                f"No text has {length} tokens for {subject.name}; give longer ones or a smaller "
                "length."
            )
        ids = torch.stack(rows)
    n_distances = min(max_distance, length - 2)
    shape = (len(ids), subject.card.n_layers, subject.card.n_heads, n_distances)
    samples = np.zeros(shape)

    def look(layer: int, pattern: Tensor) -> None:
        without_first = pattern[..., 1:, 1:]
        for distance in range(n_distances):
            attention = without_first.diagonal(-distance, -2, -1).mean(-1)
            samples[:, layer, :, distance] = attention.cpu().numpy()

    each_pattern(subject, ids, look)
    mean, low, high = mean_interval(samples)
    return Distances(
        subject.name, "random tokens" if texts is None else "text", mean, low, high, len(ids)
    )
