"""Distance between each head's attention in two Subjects, on the same tokens."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from torch import Tensor

from workbench.comparison.matching import need, same_ids
from workbench.interp.patterns.passing import each_pattern
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

TEXTS = (
    "The captain of the ship asked the old sailor whether the storm would pass before the morning "
    "came.",
    "Request: please book me a table for two people at eight in the evening\nIntent:",
    "When the children had gone to bed, their mother opened the letter and read it once more by "
    "the fire.",
    "Request: how much money do I have left in my savings account\nIntent:",
    "It was not the mountain that frightened the travellers, but the silence of the valley behind "
    "them.",
    "Request: what will the weather be like in Lisbon next Friday\nIntent:",
    "The doctor, who had seen many such cases, said that rest and patience were the only remedies.",
    "Request: wake me up tomorrow at half past six\nIntent:",
)
"""Written for this project: prose and short requests, to show both general and tuned behaviour."""
LONGEST = 512
"""Tokens of a text that are read at most; fewer if the context is shorter."""
Report = Callable[[float, str], None]
"""Called with (share done, message)."""


@dataclass(frozen=True)
class HeadShift(Record):
    """Jensen-Shannon distance of each head's attention: 0 is the same, 1 nothing in common.

    Attributes:
        base: Name of the model before.
        tuned: Name of the model after.
        mean: Distance of the two models' attention from a query, averaged over queries and texts;
            the square root of the divergence in bits.
        low: Lower end of its 95 % interval over texts.
        high: Upper end.
        n: Texts.
    """

    base: str
    tuned: str
    mean: Float[np.ndarray, "layer head"]
    low: Float[np.ndarray, "layer head"]
    high: Float[np.ndarray, "layer head"]
    n: int

    def headline(self) -> str:
        """The head whose attention moved most, in one line."""
        first = self.to_frame().iloc[0]
        return (
            f"attention that moved most: {first['name']}, "
            f"Jensen-Shannon distance {first['distance']:.3f}"
        )

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
    """Distance of every head's attention in two models, on the same texts.

    Args:
        base: The model before.
        tuned: The model after.
        texts: `TEXTS` by default.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer or shape.
    """
    need(base, tuned, "heads")
    rows = same_ids(base, tuned, TEXTS if texts is None else texts, LONGEST)
    samples = np.zeros((len(rows), base.card.n_layers, base.card.n_heads))
    for i, ids in enumerate(rows):
        if progress is not None:
            progress(i / len(rows), f"attention on text {i + 1} of {len(rows)}")
        samples[i] = _distances(base, tuned, ids)
    mean, low, high = mean_interval(samples)
    return HeadShift(base.name, tuned.name, mean, low, high, len(rows))


def _distances(
    base: Subject, tuned: Subject, ids: Int[Tensor, "1 pos"]
) -> Float[np.ndarray, "layer head"]:
    """The distance of every head's attention on one text."""
    patterns: dict[int, Tensor] = {}
    each_pattern(base, ids, patterns.__setitem__)
    distances = np.zeros((base.card.n_layers, base.card.n_heads))

    def measure(layer: int, pattern: Tensor) -> None:
        before = patterns.pop(layer).to(pattern.device)
        distances[layer] = distance(before, pattern)[0].cpu().numpy()

    each_pattern(tuned, ids.to(tuned.device), measure)
    return distances


def distance(
    p: Float[Tensor, "*rest query key"], q: Float[Tensor, "*rest query key"]
) -> Float[Tensor, "*rest"]:
    """Jensen-Shannon distance (root of the divergence in bits), averaged over queries.

    The first query is left out, as it can only attend to itself.

    Reference:
        Endres & Schindelin 2003, "A new metric for probability distributions".
    """
    middle = (p + q) / 2

    def divergence(x: Tensor) -> Tensor:
        ratio = x.clamp_min(1e-30) / middle.clamp_min(1e-30)
        return (x * ratio.log2()).sum(-1)

    rows = ((divergence(p) + divergence(q)) / 2).clamp(0, 1).sqrt()
    return rows[..., 1:].mean(-1) if rows.shape[-1] > 1 else rows.mean(-1)
