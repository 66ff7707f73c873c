"""The catalogue of heads: every score of every head with its interval, labels by rule, and heads
that are alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float

from workbench.errors import WorkbenchError
from workbench.interp.patterns.composition import copying_scores
from workbench.interp.patterns.heads import SCORES, HeadScores, head_scores
from workbench.interp.patterns.position_split import position_split
from workbench.interp.patterns.standing_out import FLOOR, TIMES, stands_out
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import FEWEST
from workbench.subjects import SubjectOrName

MORE = {
    "positional_share": "how much of the variance of attention scores the positions alone explain",
    "copying": "eigenvalues of the OV circuit: 1 copies every token it attends to, -1 suppresses it; from the weights",
}
ALL_SCORES = SCORES | MORE


@dataclass(frozen=True)
class Rule:
    """A head has the label when the low end of the score's 95 % interval is at least `at_least`.

    Where `relative` it is enough that it stands out, as `standing_out` tests it: small trained
    models have heads that do one thing alone and with a fifth of their attention.
    """

    label: str
    score: str
    at_least: float
    relative: bool = False

    def __str__(self) -> str:
        words = f"{self.label}: {self.score.replace('_', ' ')} at least {self.at_least:g}"
        words += "" if self.score == "copying" else " at the low end"
        null = f", or beyond doubt {FLOOR:g} and {TIMES:g} times what any other offset gets"
        return words + (null if self.relative else "")


RULES = (
    Rule("previous token", "previous_token_score", 0.3, relative=True),
    Rule("induction", "induction_score", 0.3, relative=True),
    Rule("duplicate token", "duplicate_token_score", 0.3, relative=True),
    Rule("sink", "first_token_attention", 0.5),
    Rule("positional", "positional_share", 0.8),
    Rule("copying", "copying", 0.9),
)
"""Thresholds are conventions, not facts: they are shown wherever a label is."""


@dataclass(frozen=True)
class HeadCatalogue(Record):
    """All scores of all heads, measured as `scores` says; `mean`, `low` and `high` hold `[layer,
    head]` a score.

    `copying` is read off the weights and has no interval: its `low` and `high` are its value.
    `stands_out` holds, for scores with a null, which heads are beyond doubt above it (only measured
    on random tokens).
    """

    scores: HeadScores
    mean: dict[str, Float[np.ndarray, "layer head"]]
    low: dict[str, Float[np.ndarray, "layer head"]]
    high: dict[str, Float[np.ndarray, "layer head"]]
    stands_out: dict[str, Bool[np.ndarray, "layer head"]] = field(default_factory=dict)

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of the model, by its name."""
        return self.scores.model_hashes()

    def headline(self) -> str:
        """What was found, in a few words."""
        shape = self.mean["copying"].shape
        labelled = sum(bool(self.labels(i, j)) for i in range(shape[0]) for j in range(shape[1]))
        return f"{labelled} of {shape[0] * shape[1]} heads have a label; {self.scores.headline()}"

    def labels(self, layer: int, head: int) -> list[str]:
        """The labels that `RULES` give a head; on fewer than six samples only `copying` can be."""
        return [rule.label for rule in RULES if self._has(rule, layer, head)]

    def _has(self, rule: Rule, layer: int, head: int) -> bool:
        low = self.low[rule.score][layer, head]
        if np.isnan(low) and self.scores.n >= FEWEST:
            low = self.mean[rule.score][
                layer, head
            ]  # all samples are alike, so there is no interval
        if low >= rule.at_least:
            return True
        return bool(
            rule.relative
            and rule.score in self.stands_out
            and self.stands_out[rule.score][layer, head]
        )

    def to_frame(self) -> pd.DataFrame:
        """One row a head: name, labels, each score with `_low` and `_high`."""
        n_layers, n_heads = self.mean["copying"].shape
        heads = [(i, j) for i in range(n_layers) for j in range(n_heads)]
        columns: dict[str, object] = {
            "name": [f"L{i}H{j}" for i, j in heads],
            "labels": [", ".join(self.labels(i, j)) for i, j in heads],
            "layer": [i for i, _ in heads],
            "head": [j for _, j in heads],
        }
        for score in ALL_SCORES:
            for suffix, values in (("", self.mean), ("_low", self.low), ("_high", self.high)):
                columns[score + suffix] = values[score].ravel()
        return pd.DataFrame(columns)

    def best(self, score: str = "induction_score", n: int = 10) -> pd.DataFrame:
        """The `n` heads with most of a score: name, labels, mean, both ends of its interval.

        Raises `WorkbenchError` for a score that is not there.
        """
        if score not in ALL_SCORES:
            raise WorkbenchError(f"There is no score {score!r}; there are {', '.join(ALL_SCORES)}.")
        columns = ["name", "labels", score, f"{score}_low", f"{score}_high"]
        return self.to_frame().nlargest(n, score)[columns].reset_index(drop=True)

    def similar(self, layer: int, head: int, n: int = 8) -> pd.DataFrame:
        """The `n` heads most like one, by the distance of their scores, each in standard deviations
        over all heads.

        Raises `WorkbenchError` for a head that is not there.
        """
        shape = self.mean["copying"].shape
        if not (0 <= layer < shape[0] and 0 <= head < shape[1]):
            raise WorkbenchError(
                f"{self.scores.subject} has no L{layer}H{head}; it has {shape[0]} layers of {shape[1]}."
            )
        table = np.stack([self.mean[s].ravel() for s in ALL_SCORES], -1)
        spread = table.std(0)
        table = (table - table.mean(0)) / np.where(spread > 0, spread, 1)
        chosen = layer * shape[1] + head
        distance = np.sqrt(((table - table[chosen]) ** 2).mean(-1))
        order = [i for i in np.argsort(distance, kind="stable") if i != chosen][:n]
        frame = self.to_frame().iloc[order][["name", "labels", *ALL_SCORES]]
        return frame.assign(distance=distance[order]).reset_index(drop=True)


@public("subject")
@own_modes
def head_catalogue(
    subject: SubjectOrName,
    *,
    texts: Sequence[str] | None = None,
    n: int = 8,
    length: int = 50,
    seed: int = 0,
) -> HeadCatalogue:
    """Score and label every head: `head_scores` on repeated random tokens or `texts`, the
    positional share of `position_split` (always on random tokens), and copying from the weights.

    Raises `WorkbenchError` as `head_scores` and `copying_scores` do.
    """
    scores = head_scores(subject, texts=texts, n=n, length=length, seed=seed)
    split = position_split(subject, n=n, seed=seed)
    copying = copying_scores(subject)
    more = (
        {"positional_share": s["position"], "copying": copying}
        for s in (split.mean, split.low, split.high)
    )
    parts = zip((scores.mean, scores.low, scores.high), more, strict=True)
    above = {} if texts is not None else stands_out(subject, n=n, length=length, seed=seed)
    return HeadCatalogue(scores, *({**measured, **extra} for measured, extra in parts), above)
