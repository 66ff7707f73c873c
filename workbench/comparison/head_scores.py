"""Change of every score of the head catalogue between two Subjects, on the same sequences."""

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
    """Change of each score of each head: tuned minus base, paired over the same sequences.

    Attributes:
        base_name: The model before.
        tuned_name: The model after.
        base: By score: its value in the base, `[layer, head]`.
        mean: By score: its mean difference.
        low: By score: lower end of the 95 % interval. `copying` is computed from the weights
            alone, so its interval is its value.
        high: By score: upper end.
        n: Sequences.
    """

    base_name: str
    tuned_name: str
    base: dict[str, Grid]
    mean: dict[str, Grid]
    low: dict[str, Grid]
    high: dict[str, Grid]
    n: int

    def model_hashes(self) -> dict[str, str]:
        """Both models' names; the hashes are in the comparison's record."""
        return dict.fromkeys((self.base_name, self.tuned_name), "")

    def to_frame(self) -> pd.DataFrame:
        """One row a head: name, layer, head, and each score's change with `_low` and `_high`."""
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
    """Change of all of `head_catalogue`'s scores, paired over the same random sequences.

    Args:
        base: The model before.
        tuned: The model after.
        n: Sequences for each score.
        length: Random tokens a sequence, each of which comes twice.
        seed: Of the sequences.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the models differ in tokenizer or shape.
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
            pass  # without per-head weights there is no copying score, but all others
        both.append(samples)
    before: dict[str, Grid] = {}
    mean: dict[str, Grid] = {}
    low: dict[str, Grid] = {}
    high: dict[str, Grid] = {}
    for score in ALL_SCORES:
        if all(score in side for side in both):
            before[score] = both[0][score].mean(0)
            mean[score], low[score], high[score] = mean_interval(both[1][score] - both[0][score])
    return ScoreShift(base.name, tuned.name, before, mean, low, high, n)


def head_table(
    heads: HeadShift | None, scores: ScoreShift | None, weights: Grid | None
) -> pd.DataFrame:
    """One row a head with all that was measured of its change, most moved attention first.

    Args:
        heads: Gives `distance` (Jensen-Shannon), `distance_low` and `distance_high`.
        scores: Gives the change of every score, with `_low` and `_high`.
        weights: Gives `weights`, the relative change of the head's matrices.

    Returns:
        What is None has no columns.
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
    merged = tables[0] if tables else pd.DataFrame({"name": []})
    for table in tables[1:]:
        merged = merged.merge(table, on="name", sort=False)
    return merged
