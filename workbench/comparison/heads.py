"""How far each head's attention moved between two Subjects, on the same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from torch import Tensor

from workbench.comparison.matching import need, same_ids
from workbench.interp.patterns.attention import each_pattern
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

TEXTS = (
    "The captain of the ship asked the old sailor whether the storm would pass before the morning came.",
    "Request: please book me a table for two people at eight in the evening\nIntent:",
    "When the children had gone to bed, their mother opened the letter and read it once more by the fire.",
    "Request: how much money do I have left in my savings account\nIntent:",
    "It was not the mountain that frightened the travellers, but the silence of the valley behind them.",
    "Request: what will the weather be like in Lisbon next Friday\nIntent:",
    "The doctor, who had seen many such cases, said that rest and patience were the only remedies.",
    "Request: wake me up tomorrow at half past six\nIntent:",
)
"""Written for this project: prose and short requests, so that a general and a tuned behaviour both
show.
"""
LONGEST = 512
"""Tokens of a text that are read at most, fewer where the context is shorter."""
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class HeadShift(Record):
    """Jensen-Shannon distance of attention, in square-root bits from 0 (same) to 1 (nothing in
    common).

    `mean`, `low`, `high` are `[layer, head]`: the distance of the two rows of a query, averaged
    over queries, with 95 % intervals over `n` texts.
    """

    base: str
    tuned: str
    mean: Float[np.ndarray, "layer head"]
    low: Float[np.ndarray, "layer head"]
    high: Float[np.ndarray, "layer head"]
    n: int

    def headline(self) -> str:
        """What was found, in a few words."""
        first = self.to_frame().iloc[0]
        return f"attention that moved most: {first['name']}, Jensen-Shannon distance {first['distance']:.3f}"

    def to_frame(self) -> pd.DataFrame:
        """One row a head, most changed first."""
        layer, head = np.indices(self.mean.shape)
        frame = pd.DataFrame(
            {
                "name": [f"L{i}H{j}" for i, j in zip(layer.ravel(), head.ravel(), strict=True)],
                "distance": self.mean.ravel(),
                "low": self.low.ravel(),
                "high": self.high.ravel(),
                "n": self.n,
            }
        )
        return frame.sort_values("distance", ascending=False, ignore_index=True)


@own_modes
def head_shift(
    base: Subject,
    tuned: Subject,
    texts: Sequence[str] | None = None,
    *,
    progress: Report | None = None,
) -> HeadShift:
    """Compare every head's attention on `texts` (default: `TEXTS`).

    Raises `WorkbenchError` when the two differ in shape or split the texts into different tokens.
    """
    need(base, tuned, "heads")
    shape = (base.card.n_layers, base.card.n_heads)
    rows = same_ids(base, tuned, TEXTS if texts is None else texts, LONGEST)
    samples = np.zeros((len(rows), *shape))
    for i, ids in enumerate(rows):
        if progress is not None:
            progress(i / len(rows), f"attention on text {i + 1} of {len(rows)}")
        patterns: dict[int, Tensor] = {}
        each_pattern(base, ids, patterns.__setitem__)

        def look(layer: int, pattern: Tensor, i=i, patterns=patterns) -> None:
            samples[i, layer] = (
                distance(patterns.pop(layer).to(pattern.device), pattern)[0].cpu().numpy()
            )

        each_pattern(tuned, ids.to(tuned.device), look)
    mean, low, high = mean_interval(samples)
    return HeadShift(base.name, tuned.name, mean, low, high, len(rows))


def distance(
    p: Float[Tensor, "*rest query key"], q: Float[Tensor, "*rest query key"]
) -> Float[Tensor, "*rest"]:
    """Mean over queries of the Jensen-Shannon distance: the root of the divergence in bits (Endres
    & Schindelin 2003).

    The first query is left out: it can only attend to itself.
    """
    middle = (p + q) / 2

    def divergence(x: Tensor) -> Tensor:
        ratio = x.clamp_min(1e-30) / middle.clamp_min(1e-30)
        return (x * ratio.log2()).sum(-1)

    rows = ((divergence(p) + divergence(q)) / 2).clamp(0, 1).sqrt()
    return rows[..., 1:].mean(-1) if rows.shape[-1] > 1 else rows.mean(-1)
