"""Which heads does a benchmark task need? Ablates them singly or greedily, on the same items.

Half of the items rank the heads; the effects are measured on the other half.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, cast

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
"""In a model with at most this many heads each is ablated; in a larger one, whole layers first."""
LAYERS = 2
"""The layers that matter most, whose heads are then ablated one by one."""
TRIED = 6
"""Heads that each greedy step tries."""


@dataclass(frozen=True)
class Cut:
    """Effect of ablating some heads on the task, paired over its held-out items.

    Attributes:
        heads: The ablated heads, as (layer, head).
        score: Change of the task's headline metric.
        margin: Change of the right choice's log-likelihood minus the best wrong one's, in nats;
            it also moves where no answer flips.
        p: Of the margin, Benjamini-Hochberg corrected over the cuts of one step.
        chosen_on: Change of the margin on the items that rank the cuts; biased for the first ones.
    """

    heads: tuple[Head, ...]
    score: Difference
    margin: Difference
    p: float
    chosen_on: Difference

    @property
    def name(self) -> str:
        """The heads as text, such as "L3H1, L5H0"."""
        return ", ".join(f"L{layer}H{head}" for layer, head in self.heads)


@dataclass(frozen=True)
class TaskNeeds(Record):
    """The heads that a task needs, with the effect of ablating each.

    Attributes:
        subject: Name of the model.
        sha256: Hash of its weights.
        task: The benchmark task.
        kind: How heads are ablated, one of `interventions.KINDS`.
        metric: The task's headline metric.
        intact: Score of the intact model on the held-out items.
        cuts: Heads ablated one at a time, the most needed first.
        tested: How many heads were ablated one at a time.
        of: How many heads the model has.
        n: Items that rank the cuts and choose the greedy steps.
        n_held_out: The other items, on which all effects are measured.
        layers: All heads of a layer together, where the model is too large to try each head.
        greedy: Sets of heads, each one head larger than the one before.
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
        """The result in one line."""
        first = self.cuts[0]
        margin = first.margin
        change = f"{margin.difference:+.3f} [{margin.low:+.3f}, {margin.high:+.3f}] nats"
        tried = f"{self.tested} of {self.of} heads tried"
        return f"{self.task} without {first.name} ({self.kind}): margin {change}, held out; {tried}"

    def to_frame(self, cuts: Sequence[Cut] | None = None) -> pd.DataFrame:
        """One row a cut: the heads, and the changes of score and margin with their intervals.

        Args:
            cuts: `self.cuts`, `self.layers` or `self.greedy`; None for the first.
        """
        return pd.DataFrame([_cut_row(cut) for cut in (self.cuts if cuts is None else cuts)])


def _cut_row(cut: Cut) -> dict[str, Any]:
    return {
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
    """The heads that a multiple-choice task needs, by ablating them and scoring the task again.

    Args:
        subject: The model.
        task: A multiple-choice task of the benchmarks.
        heads: The heads to try, as (layer, head). By default all of a small model; in one with
            more than 40 heads first whole layers, then the heads of the two most needed layers.
        limit: Items of the task; half of them rank the heads, the effects are measured on the
            other half. Items about one passage stay in one half.
        replacement: How a head is ablated, one of `interventions.KINDS`.
        greedy: Number of greedy steps afterwards; each ablates the head that costs most in
            addition to those before.
        seed: Of the items and of resampling.
        progress: Called with the share done and a few words about it.

    Raises:
        WorkbenchError: the task is not multiple choice or cannot run, or a head does not exist.
    """
    subject = cast("Subject", subject)  # `public` has loaded it
    tell = progress or (lambda share, words: None)
    items = _Items(subject, task, limit, replacement, seed)
    n_layers = subject.card.n_layers
    n_heads = subject.card.n_heads
    all_heads = [(i, j) for i in range(n_layers) for j in range(n_heads)]
    chosen = list(heads)
    layers: list[Cut] = []
    if not chosen and len(all_heads) > FEW:
        groups = [tuple((i, j) for j in range(n_heads)) for i in range(n_layers)]
        layers = items.cuts(groups, lambda share, words: tell(0.5 * share, words))
        chosen = [head for cut in layers[:LAYERS] for head in cut.heads]
    start = 0.5 if layers else 0.0
    end = 0.7 if greedy else 1.0
    cuts = items.cuts(
        [(h,) for h in chosen or all_heads],
        lambda share, words: tell(start + (end - start) * share, words),
    )
    return TaskNeeds(
        subject=subject.name,
        sha256=subject.hash,
        task=task,
        kind=replacement,
        metric=items.metric,
        intact=items.intact(),
        cuts=cuts,
        tested=len(chosen or all_heads),
        of=len(all_heads),
        n=int(items.chooses.sum()),
        n_held_out=int((~items.chooses).sum()),
        layers=layers,
        greedy=_greedy_cuts(items, cuts, greedy, tell),
    )


def _greedy_cuts(
    items: "_Items", cuts: list[Cut], steps: int, tell: Callable[[float, str], None]
) -> list[Cut]:
    """Sets of heads, each with the head added that costs most, tried among the next in `cuts`."""
    grown: list[Cut] = []
    taken: tuple[Head, ...] = ()
    for step in range(min(steps, len(cuts))):
        rest = [cut.heads[0] for cut in cuts if cut.heads[0] not in taken][:TRIED]
        tell(0.7 + 0.3 * step / steps, f"greedy step {step + 1} of {steps}")
        grown.append(items.cuts([(*taken, head) for head in rest], lambda share, words: None)[0])
        taken = grown[-1].heads
    return grown


class _Items:
    """A task's items, scored once on the intact model and again on each ablated one."""

    def __init__(self, subject: "Subject", task: str, limit: int, kind: str, seed: int):
        self.subject = subject
        self.task = task
        self.limit = limit
        self.kind = kind
        self.seed = seed
        results = self._results(subject)
        headlines = [row.metric for row in results.rows if row.headline]
        self.metric = headlines[0] if headlines else results.rows[0].metric
        self.score, self.margin, self.clusters = _scores(results, task)
        self.chooses = _choosing(self.clusters)
        if self.chooses.all():
            raise WorkbenchError(
                f"The {len(self.score)} items of {task} belong together, so none is left to judge "
                f"on; raise limit ({limit})."
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
        """The effect of ablating each set of heads, the largest loss first."""
        cuts = []
        for i, heads in enumerate(sets):
            names = ", ".join(f"L{layer}H{head}" for layer, head in heads[:3])
            tell(i / len(sets), f"without {names}: {i + 1} of {len(sets)}")
            change = ablation(
                self.subject, heads, replacement=self.kind, name="cut", seed=self.seed
            )
            score, margin, _ = _scores(self._results(apply(self.subject, change)), self.task)
            held_out = self._paired(self.margin, margin, ~self.chooses)
            cuts.append(
                Cut(
                    heads=heads,
                    score=self._paired(self.score, score, ~self.chooses),
                    margin=held_out,
                    p=held_out.p,
                    chosen_on=self._paired(self.margin, margin, self.chooses),
                )
            )
        adjusted = benjamini_hochberg([cut.p for cut in cuts])
        cuts = [replace(cut, p=p) for cut, p in zip(cuts, adjusted, strict=True)]
        return sorted(cuts, key=lambda cut: cut.chosen_on.difference)


def _choosing(clusters: np.ndarray) -> np.ndarray:
    """Which items rank the heads: those of every other cluster, from the first on."""
    numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters.tolist()))}
    return np.array([numbers[cluster] % 2 == 0 for cluster in clusters.tolist()])


def _scores(results: "Results", task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, margin and cluster of every item; one without a cluster is a cluster of its own."""
    rows = results.samples.loc[results.samples["score"].notna()].sort_values("doc_id")
    margins = []
    for text, target in zip(rows["loglikelihoods"], rows["target"], strict=True):
        values = json.loads(text) if isinstance(text, str) else []
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
