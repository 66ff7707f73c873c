"""How every score of the head catalogue changed between two Subjects, on the very same random
sequences.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from workbench.comparison.heads import HeadShift
from workbench.comparison.matching import need, over_shared_rows
from workbench.errors import WorkbenchError
from workbench.interp.patterns.catalogue import ALL_SCORES
from workbench.interp.patterns.composition import copying_scores
from workbench.interp.patterns.heads import head_frame, score_samples
from workbench.interp.patterns.position_split import split_samples
from workbench.modes import own_modes
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject

Grid = Float[np.ndarray, "layer head"]
Report = Callable[[float, str], None]


@dataclass(frozen=True)
class ScoreShift(Record):
    """What each score of each head is in the tuned model above what it is in the base.

    `mean`, `low` and `high` map a score to `[layer, head]`: the paired difference, with 95 %
    intervals over the same `n` sequences; `base` holds what the score was. `copying` is read off
    the weights, so its interval is its value.
    """

    base_name: str
    tuned_name: str
    base: dict[str, Grid]
    mean: dict[str, Grid]
    low: dict[str, Grid]
    high: dict[str, Grid]
    n: int

    def model_hashes(self) -> dict[str, str]:
        """Both models, by their names; their hashes are the comparison's."""
        return dict.fromkeys((self.base_name, self.tuned_name), "")

    def to_frame(self) -> pd.DataFrame:
        """One row a head: name, layer, head, and the change of each score with `_low` and `_high`."""
        return head_frame(self.mean, self.low, self.high)


@own_modes
def score_shift(
    base: Subject,
    tuned: Subject,
    *,
    n: int = 8,
    length: int = 50,
    seed: int = 0,
    progress: Report | None = None,
) -> ScoreShift:
    """Score all heads of both as `head_catalogue` does, and subtract sequence by sequence.

    Raises `WorkbenchError` for another tokenizer or shape.
    """
    need(base, tuned, "heads")
    base, tuned = over_shared_rows(base, tuned)
    both = []
    for i, subject in enumerate((base, tuned)):
        if progress is not None:
            progress(i / 2, f"scoring the heads of {subject.name}")
        samples, _ = score_samples(
            subject, n=n, length=min(length, (base.n_ctx - 1) // 2), seed=seed
        )
        samples["positional_share"] = split_samples(subject, n=n, seed=seed)["position"]
        try:
            samples["copying"] = copying_scores(subject)[None].repeat(2, 0)
        except WorkbenchError:
            pass  # a model whose heads cannot be taken apart has no copying score; the others stand
        both.append(samples)
    before, mean, low, high = {}, {}, {}, {}
    for score in ALL_SCORES:
        if all(score in side for side in both):
            before[score] = both[0][score].mean(0)
            mean[score], low[score], high[score] = mean_interval(both[1][score] - both[0][score])
    return ScoreShift(base.name, tuned.name, before, mean, low, high, n)


def head_table(
    heads: HeadShift | None, scores: ScoreShift | None, weights: Grid | None
) -> pd.DataFrame:
    """Everything that is known of each head's change, one row a head, the attention that moved
    farthest first.

    `distance` (Jensen-Shannon, with `_low` and `_high`), `weights` (relative change of its
    matrices), and the change of every score with its interval. What was not measured has no column.
    """
    tables = []
    if heads is not None:
        frame = heads.to_frame().drop(columns="n")
        tables.append(frame.rename(columns={"low": "distance_low", "high": "distance_high"}))
    if weights is not None:
        layer, head = np.indices(weights.shape).reshape(2, -1)
        names = [f"L{i}H{j}" for i, j in zip(layer, head, strict=True)]
        tables.append(pd.DataFrame({"name": names, "weights": weights.ravel()}))
    if scores is not None:
        tables.append(scores.to_frame().drop(columns=["layer", "head"]))
    found = tables[0] if tables else pd.DataFrame({"name": []})
    for table in tables[1:]:
        found = found.merge(table, on="name", sort=False)
    return found
