"""The catalogue of heads: every head's scores with intervals, labels by rule, and similar heads."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

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
from workbench.subjects import Subject, SubjectOrName

MORE = {
    "positional_share": "how much of the variance of attention scores the positions alone explain",
    "copying": "eigenvalues of the OV circuit: 1 copies every token it attends to, -1 suppresses "
    "it; from the weights",
}
ALL_SCORES = SCORES | MORE


@dataclass(frozen=True)
class Rule:
    """A label for heads whose score's 95 % interval lies at or above `at_least`.

    With `relative` it is enough to stand out, as `standing_out` tests it: small trained models have
    heads that do only one thing, but with a fifth of their attention.
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
    """All scores of all heads.

    - `scores`: the measured ones, with how they were measured
    - `mean`, `low`, `high`: `[layer, head]` per score, with 95 % intervals; `copying` is read off
        the weights and has no interval: its `low` and `high` are its value
    - `stands_out`: which heads are significantly above a score's null, for the scores that have one
        (only measured on random tokens)
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
        """The result in a few words."""
        n_layers, n_heads = self.mean["copying"].shape
        labelled = [self.labels(i, j) for i in range(n_layers) for j in range(n_heads)]
        n_labelled = sum(map(bool, labelled))
        return f"{n_labelled} of {n_layers * n_heads} heads have a label; {self.scores.headline()}"

    def labels(self, layer: int, head: int) -> list[str]:
        """The labels that `RULES` give a head; with fewer than six samples only `copying`."""
        return [rule.label for rule in RULES if self._has(rule, layer, head)]

    def _has(self, rule: Rule, layer: int, head: int) -> bool:
        low = self.low[rule.score][layer, head]
        if np.isnan(low) and self.scores.n >= FEWEST:
            # All samples are equal, so there is no interval.
            low = self.mean[rule.score][layer, head]
        if low >= rule.at_least:
            return True
        if not rule.relative or rule.score not in self.stands_out:
            return False
        return bool(self.stands_out[rule.score][layer, head])

    def to_frame(self) -> pd.DataFrame:
        """One row per head: name, labels, each score with `_low` and `_high`."""
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
        """The `n` heads with the highest score: name, labels, mean, both ends of its interval.

        Raises:
            WorkbenchError: There is no such score.
        """
        if score not in ALL_SCORES:
            raise WorkbenchError(f"There is no score {score!r}; there are {', '.join(ALL_SCORES)}.")
        columns = ["name", "labels", score, f"{score}_low", f"{score}_high"]
        return self.to_frame().nlargest(n, score).loc[:, columns].reset_index(drop=True)

    def similar(self, layer: int, head: int, n: int = 8) -> pd.DataFrame:
        """The `n` heads most similar to one, by the distance of their standardised scores.

        Args:
            layer: Layer of the head.
            head: The head.
            n: Heads to give.

        Raises:
            WorkbenchError: There is no such head.
        """
        n_layers, n_heads = self.mean["copying"].shape
        if not (0 <= layer < n_layers and 0 <= head < n_heads):
            raise WorkbenchError(
                f"{self.scores.subject} has no L{layer}H{head}; it has {n_layers} layers of "
                f"{n_heads}."
            )
        table = np.stack([self.mean[score].ravel() for score in ALL_SCORES], -1)
        spread = table.std(0)
        table = (table - table.mean(0)) / np.where(spread > 0, spread, 1)
        chosen = layer * n_heads + head
        distance = np.sqrt(((table - table[chosen]) ** 2).mean(-1))
        order = [i for i in np.argsort(distance, kind="stable") if i != chosen][:n]
        frame = self.to_frame().iloc[order].loc[:, ["name", "labels", *ALL_SCORES]]
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
    """Scores and labels of every head.

    The scores of `head_scores`, the positional share of `position_split` (always on random tokens),
    and copying from the weights.

    Args:
        subject: The model.
        texts: Texts to measure on; None for repeated random tokens.
        n: Random sequences.
        length: Random tokens of a sequence, which are given twice.
        seed: Of the random tokens.

    Raises:
        WorkbenchError: As `head_scores` and `copying_scores` do.
    """
    subject = cast(Subject, subject)
    scores = head_scores(subject, texts=texts, n=n, length=length, seed=seed)
    split = position_split(subject, n=n, seed=seed)
    copying = copying_scores(subject)

    def with_more(measured: dict, shares: dict) -> dict:
        return {**measured, "positional_share": shares["position"], "copying": copying}

    above = {} if texts is not None else stands_out(subject, n=n, length=length, seed=seed)
    return HeadCatalogue(
        scores=scores,
        mean=with_more(scores.mean, split.mean),
        low=with_more(scores.low, split.low),
        high=with_more(scores.high, split.high),
        stands_out=above,
    )
