"""Which heads does a benchmark task need? Heads are taken out one at a time, or greedily, and the
same items asked.

Half of the items choose which heads come first, the other half judges them.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from workbench.benchmarks.run import evaluate
from workbench.errors import WorkbenchError
from workbench.interp.interventions.ablation import ablation
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import (
    Difference,
    Estimate,
    benjamini_hochberg,
    estimate_mean,
    paired_difference,
)
from workbench.subjects.intervention import apply

if TYPE_CHECKING:
    from workbench.benchmarks.results.record import Results
    from workbench.subjects import Subject, SubjectOrName

Head = tuple[int, int]
FEW = 40
"""Heads up to which a model has each of them taken out; of larger ones, those of the layers that
matter most.
"""
LAYERS = 2
"""Layers whose heads are then looked at one by one."""
TRIED = 6
"""Heads that each greedy step tries."""


@dataclass(frozen=True)
class Cut:
    """What the task loses without these heads, paired over its held-out items.

    `score` is the task's headline metric, `margin` the log-likelihood of the right choice above the
    best wrong one, in
    nats: it moves where no answer flips yet. `p` is the margin's, corrected over the cuts of one
        step. `chosen_on` is
    the margin over the items that put the cuts in order, which flatters the first of them.
    """

    heads: tuple[Head, ...]
    score: Difference
    margin: Difference
    p: float
    chosen_on: Difference

    @property
    def name(self) -> str:
        """The heads in words."""
        return ", ".join(f"L{layer}H{head}" for layer, head in self.heads)


@dataclass(frozen=True)
class TaskNeeds(Record):
    """The heads that a task needs: `cuts` one at a time, the most needed first; `greedy` sets that
    grow by one head.

    The order and the greedy choice are those of `n` items; all else, `intact` too, is over the
    `n_held_out` others. `layers` are all heads of a layer together, where the model is too large to
    try each head; `tested` says how many of its heads were.
    """

    subject: str
    sha256: str
    task: str
    kind: str
    metric: str
    intact: Estimate
    cuts: list[Cut]
    tested: int
    of: int
    n: int
    n_held_out: int
    layers: list[Cut] = field(default_factory=list)
    greedy: list[Cut] = field(default_factory=list)

    def headline(self) -> str:
        """What was found, in a few words."""
        first = self.cuts[0]
        change = f"{first.margin.difference:+.3f} [{first.margin.low:+.3f}, {first.margin.high:+.3f}] nats"
        tried = f"{self.tested} of {self.of} heads tried"
        return f"{self.task} without {first.name} ({self.kind}): margin {change}, held out; {tried}"

    def to_frame(self, cuts: Sequence[Cut] | None = None) -> pd.DataFrame:
        """One row a cut: the heads, and what score and margin change by, with intervals;
        `chosen_on` flatters.
        """
        return pd.DataFrame(
            [
                {
                    "heads": cut.name,
                    "score": cut.score.tuned,
                    "change": cut.score.difference,
                    "low": cut.score.low,
                    "high": cut.score.high,
                    "margin_change": cut.margin.difference,
                    "margin_low": cut.margin.low,
                    "margin_high": cut.margin.high,
                    "p": cut.p,
                    "n": cut.margin.n,
                    "chosen_on": cut.chosen_on.difference,
                    "chosen_low": cut.chosen_on.low,
                    "chosen_high": cut.chosen_on.high,
                }
                for cut in (self.cuts if cuts is None else cuts)
            ]
        )


@public("subject")
@own_modes
def task_needs(
    subject: "SubjectOrName",
    task: str,
    *,
    heads: Sequence[Head] = (),
    limit: int = 40,
    replacement: str = "mean",
    greedy: int = 0,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> TaskNeeds:
    """Take heads out of the model and ask a multiple-choice task again.

    Args:
        subject: The model.
        task: A multiple-choice task of the benchmarks.
        heads: The heads to try. Without them all of a small model; of one with more than 40 heads
            first every layer's together, then the heads of the two layers that the task needs most.
        limit: Items of the task; half of them choose, the other half judges. Items of one passage
            stay together.
        replacement: How a head is taken out, one of `interventions.KINDS`.
        greedy: Afterwards take out so many heads one upon the other, each time the one that costs
            most.
        seed: Of the items and of resampling.
        progress: Called with the share done and a word about it.

    Raises `WorkbenchError` for a task that is no multiple choice or cannot run, and a head that
    does not exist.
    """
    tell = progress or (lambda share, words: None)
    ask = _Asked(subject, task, limit, replacement, seed)
    n_layers, n_heads = subject.card.n_layers, subject.card.n_heads
    everyone = [(i, j) for i in range(n_layers) for j in range(n_heads)]
    chosen, layers = list(heads), []
    if not chosen and len(everyone) > FEW:
        groups = [tuple((i, j) for j in range(n_heads)) for i in range(n_layers)]
        layers = ask.cuts(groups, lambda share, words: tell(0.5 * share, words))
        chosen = [head for cut in layers[:LAYERS] for head in cut.heads]
    start = 0.5 if layers else 0.0
    end = 0.7 if greedy else 1.0
    cuts = ask.cuts(
        [(h,) for h in chosen or everyone],
        lambda share, words: tell(start + (end - start) * share, words),
    )
    grown: list[Cut] = []
    taken: tuple[Head, ...] = ()
    for step in range(min(greedy, len(cuts))):
        rest = [cut.heads[0] for cut in cuts if cut.heads[0] not in taken][:TRIED]
        tell(0.7 + 0.3 * step / greedy, f"greedy step {step + 1} of {greedy}")
        grown.append(ask.cuts([(*taken, head) for head in rest], lambda share, words: None)[0])
        taken = grown[-1].heads
    tried = len(chosen or everyone)
    named = (subject.name, subject.hash, task, replacement, ask.metric)
    sizes = (int(ask.chooses.sum()), int((~ask.chooses).sum()))
    return TaskNeeds(*named, ask.intact(), cuts, tried, len(everyone), *sizes, layers, grown)


class _Asked:
    """A task's items, asked of the intact model once and of each edited one."""

    def __init__(self, subject: "Subject", task: str, limit: int, kind: str, seed: int):
        self.subject, self.task, self.limit, self.kind, self.seed = subject, task, limit, kind, seed
        found = self._results(subject)
        self.metric = next((row.metric for row in found.rows if row.headline), found.rows[0].metric)
        self.score, self.margin, self.clusters = _items(found, task)
        self.chooses = _choosing(self.clusters)
        if self.chooses.all():
            raise WorkbenchError(
                f"The {len(self.score)} items of {task} belong together, so none is left to judge on; raise limit "
                f"({limit})."
            )

    def _results(self, subject: "Subject") -> "Results":
        return evaluate(subject, [self.task], limit=self.limit, seed=self.seed, cache=False)

    def intact(self) -> Estimate:
        """The score of the intact model on the held-out items."""
        held = ~self.chooses
        return estimate_mean(self.score[held], self.clusters[held].tolist())

    def _paired(self, intact: np.ndarray, cut: np.ndarray, which: np.ndarray) -> Difference:
        return paired_difference(intact[which], cut[which], clusters=self.clusters[which].tolist())

    def cuts(
        self, sets: Sequence[tuple[Head, ...]], tell: Callable[[float, str], None]
    ) -> list[Cut]:
        """What each set of heads costs, the dearest first."""
        found = []
        for i, heads in enumerate(sets):
            tell(
                i / len(sets),
                f"without {', '.join(f'L{a}H{b}' for a, b in heads[:3])}: {i + 1} of {len(sets)}",
            )
            change = ablation(
                self.subject, heads, replacement=self.kind, name="cut", seed=self.seed
            )
            score, margin, _ = _items(self._results(apply(self.subject, change)), self.task)
            judged = [
                self._paired(a, b, ~self.chooses)
                for a, b in ((self.score, score), (self.margin, margin))
            ]
            found.append((heads, *judged, self._paired(self.margin, margin, self.chooses)))
        adjusted = benjamini_hochberg([margin.p for _, _, margin, _ in found])
        cuts = [Cut(h, s, m, p, seen) for (h, s, m, seen), p in zip(found, adjusted, strict=True)]
        return sorted(cuts, key=lambda cut: cut.chosen_on.difference)


def _choosing(clusters: np.ndarray) -> np.ndarray:
    """Which items choose: those of every other cluster, from the first on."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters.tolist()))}
    return np.array([numbers[cluster] % 2 == 0 for cluster in clusters.tolist()])


def _items(results: "Results", task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, margin and cluster of every item, by its number; an item without a cluster is one of
    its own.
    """
    rows: Any = results.samples[results.samples["score"].notna()].sort_values("doc_id")
    margins = []
    for said, target in zip(rows["loglikelihoods"], rows["target"], strict=True):
        values = json.loads(said) if isinstance(said, str) else []
        if len(values) < 2 or pd.isna(target) or None in values:
            raise WorkbenchError(
                f"{task} is no multiple-choice task, so it has no margin; choose one that is."
            )
        right = values[int(target)]
        margins.append(right - max(v for i, v in enumerate(values) if i != int(target)))
    if not margins:
        raise WorkbenchError(f"{task} has no item that could be scored; choose another task.")
    clusters = rows["cluster"].fillna(rows["doc_id"].map("item {}".format)).to_numpy(dtype=object)
    return rows["score"].to_numpy(dtype=float), np.array(margins), clusters
