"""What it costs to take heads out of a model: its score on bias, and on the suite `core`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from workbench.benchmarks import Results, compare_results, evaluate
from workbench.bias.by_category import samples_of
from workbench.bias.measures import difference
from workbench.interp.interventions.ablation import ablation
from workbench.interp.patching.parts import Head
from workbench.progress import Progress
from workbench.statistics import Difference
from workbench.subjects import Subject
from workbench.subjects.intervention import apply


@dataclass(frozen=True)
class Cost:
    """A task's headline score without some heads; `base` is the whole model.

    - `p`: corrected over the tasks of the suite (Benjamini-Hochberg)
    - `reason`: why there is no interval, where there is none
    """

    task: str
    metric: str
    base: float
    tuned: float
    difference: float
    low: float
    high: float
    p: float
    n: int
    reason: str = ""


@dataclass(frozen=True)
class Without:
    """A model without some heads: each gives its mean over reference texts at every position.

    - `heads`: their names, such as L3H1
    - `ranked`: whether they are those that carry most; else they were drawn at random
    - `share`: of pairs in which the stereotyping sentence is the likelier one
    - `nats`: its log-likelihood minus the other sentence's
    - `costs`: each task of the suite that shows what else is lost
    """

    heads: list[str]
    ranked: bool
    share: Difference
    nats: Difference
    costs: list[Cost]

    def row(self) -> dict[str, Any]:
        """The numbers by name, without those of `costs`."""
        return {
            "heads": ", ".join(self.heads),
            "chosen": "ranked" if self.ranked else "at random",
            "share": self.share.tuned,
            "share_change": self.share.difference,
            "share_low": self.share.low,
            "share_high": self.share.high,
            "nats": self.nats.tuned,
            "nats_change": self.nats.difference,
            "nats_low": self.nats.low,
            "nats_high": self.nats.high,
            "p": self.nats.p,
            "n": self.nats.n,
        }


@dataclass(frozen=True)
class Whole:
    """The whole model's results, and which documents of the task count.

    - `on_bias`, `on_core`: of the task and of the suite
    - `judged`: the task's documents that did not rank the heads
    - `limits`: the most documents of the task, and of each task of the suite
    """

    on_bias: Results
    on_core: Results
    judged: pd.Index
    task: str
    core: str
    limits: tuple[int | None, int]
    seed: int


def without(
    subject: Subject,
    heads: Sequence[Head],
    whole: Whole,
    *,
    ranked: bool = True,
    progress: Progress | None = None,
) -> Without:
    """The scores without these heads, paired with the whole model's on the same documents.

    Args:
        subject: The model; it is not changed.
        heads: The heads to take out.
        whole: The whole model's results.
        ranked: Kept in the result.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    names = [f"L{layer}H{head}" for layer, head in heads]
    report = progress or (lambda share, words: None)
    change = ablation(subject, heads, name=f"without-{'-'.join(names)}"[:80], seed=whole.seed)
    edited = apply(subject, change)
    limit, core_limit = whole.limits

    def half(begins: float) -> Progress:
        return lambda share, words: report(begins + share / 2, words)

    on_bias = evaluate(
        edited, [whole.task], limit=limit, seed=whole.seed, cache=False, progress=half(0.0)
    )
    on_core = evaluate(
        edited, whole.core, limit=core_limit, seed=whole.seed, cache=False, progress=half(0.5)
    )
    sides = [samples_of(one, whole.task) for one in (whole.on_bias, on_bias)]
    judged = [side.loc[side.index.intersection(whole.judged)] for side in sides]
    gaps = [difference(metric, *judged) for metric in ("pct_stereotype", "stereotype_nats")]
    assert gaps[0] is not None and gaps[1] is not None, "pairs have both metrics"
    return Without(names, ranked, gaps[0], gaps[1], _costs(whole.on_core, on_core))


def _costs(whole: Results, edited: Results) -> list[Cost]:
    """Each task's headline score, paired."""
    frame: Any = compare_results(whole, edited).rename(columns={"p": "p_alone", "p_adjusted": "p"})
    names = [name for name in Cost.__dataclass_fields__ if name in frame]
    return [Cost(**row) for row in frame[names].to_dict("records")]
