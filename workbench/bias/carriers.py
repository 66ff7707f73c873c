"""Carriers: the heads that make a stereotyping sentence likelier, and what removing them costs."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import NamedTuple, cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from workbench.benchmarks import evaluate
from workbench.bias.by_category import samples_of
from workbench.bias.measures import CAVEATS, estimate
from workbench.bias.pairs import TokenPair, token_pairs
from workbench.bias.removal import Whole, Without, without
from workbench.errors import WorkbenchError
from workbench.interp.interventions.ablation import reference_run
from workbench.interp.patching.parts import (
    FEWEST,
    Exchange,
    head_sets,
    mean_outputs,
    part_table,
    ranking,
)
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, cell_statistics, estimate_mean
from workbench.statistics.words import bracketed
from workbench.subjects import Subject, SubjectOrName


@dataclass(frozen=True)
class Carriers(Record):
    """The parts of a model that make stereotyping sentences likelier than their counterparts.

    Maps are `[layer, part]`: the heads in order, and last the layer's MLP.

    - `task`: whose pairs these are
    - `preference`: the stereotyping sentence's log-likelihood minus the other one's, in nats, mean
      over the `n` pairs that measure the parts
    - `effect`, `low`, `high`, `p`: nats of it that are lost where a part gives its mean over
      reference texts, with 95 % interval and a p-value corrected over the parts; below 0 where the
      part makes the other sentence likelier
    - `ranked_by`: the same over the `n_ranked` pairs that rank the parts, which flatters the first
    - `share`: of pairs in which the stereotyping sentence is the likelier one; 0.5 is even
    - `removals`: the model without its first heads, and without as many random ones; of `share`'s
      pairs
    - `core`: the suite that shows what else is lost
    - `engine`: how the runs were made
    """

    subject: str
    sha256: str
    task: str
    preference: Estimate
    effect: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    ranked_by: np.ndarray
    share: Estimate
    removals: list[Without]
    n: int
    n_ranked: int
    core: str = "core"
    seed: int = 0
    engine: str = "packed"
    data: dict[str, str] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of each task's documents."""
        return self.data

    def headline(self) -> str:
        """The result in a few words: the first part, and the model without the first heads."""
        first = self.to_frame().iloc[0]
        words = (
            f"{self.task}: {first['part']} carries {first['effect']:+.2f} "
            f"{bracketed(first['low'], first['high'], '+.2f')} of {self.preference.value:+.2f} nats"
        )
        for taken in [one for one in self.removals if one.ranked][-1:]:
            gap = taken.share
            words += (
                f"; without {', '.join(taken.heads)} {gap.tuned:.3f} of the stereotyping sentences "
                f"are likelier, not {gap.base:.3f}: {gap.difference:+.3f} "
                f"{bracketed(gap.low, gap.high, '+.3f')}"
            )
        return words

    def to_frame(self) -> pd.DataFrame:
        """One row for each part, ranked by `ranked_by`; `effect` is over the other pairs."""
        names = ("effect", "low", "high", "p", "ranked_by")
        return part_table({name: getattr(self, name) for name in names})

    def removed_frame(self) -> pd.DataFrame:
        """One row for each edited model: its heads, and how it scores on the pairs."""
        return pd.DataFrame([taken.row() for taken in self.removals])

    def cost_frame(self) -> pd.DataFrame:
        """One row for each edited model and task of the suite: the score before and after."""
        return pd.DataFrame(
            [
                {"heads": ", ".join(taken.heads), **asdict(cost)}
                for taken in self.removals
                for cost in taken.costs
            ]
        )


class Effects(NamedTuple):
    """What each part does for each pair.

    - `preference`: the stereotyping sentence's log-likelihood minus the other one's, in nats
    - `effect`: what is lost of it without the part
    - `how`: the engine
    """

    preference: Float[np.ndarray, " pair"]
    effect: Float[np.ndarray, "pair layer part"]
    how: str


@public("subject")
@own_modes
def bias_heads(
    subject: SubjectOrName,
    task: str = "crows_pairs",
    *,
    pairs: int = 40,
    limit: int | None = 300,
    sizes: Sequence[int] = (1, 4),
    controls: int = 2,
    core: str = "core",
    core_limit: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Carriers:
    """The heads that make stereotyping sentences likelier, and what it costs to take them out.

    A part's output is replaced by its mean over reference texts, at every position of both
    sentences of a pair. What is lost of the difference of their log-likelihoods is what the part
    carries. Half of the pairs rank the parts, the other half measures them. Then the first heads
    are taken out, and the task is scored again on all pairs that did not rank, and the suite
    `core`.

    Args:
        subject: The model.
        task: A task of pairs: crows_pairs, crows_pairs_rest, winogender or winobias.
        pairs: The most pairs on which every part is exchanged.
        limit: The most pairs that are scored with heads taken out; None for all.
        sizes: How many heads are taken out, one edited model each.
        controls: How many edited models lack as many random heads as the largest size.
        core: The suite that shows what else is lost.
        core_limit: The most documents of each of its tasks.
        seed: Seed of the subsets and draws.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: The task has no pairs, its data is not here, or too few pairs are asked for.
    """
    subject = cast(Subject, subject)
    if pairs < 2:
        raise WorkbenchError(f"pairs={pairs}: two pairs or more are needed, {FEWEST} to rank.")
    report = progress or (lambda share, words: None)
    known = token_pairs(subject, task, limit, seed)
    order = np.random.default_rng(seed).permutation(len(known))[:pairs]
    chosen = [known[i] for i in order]
    effects = effects_of(subject, chosen, lambda share, words: report(share / 2, words))
    half = ranking(len(chosen))
    first = effects.effect[:half] if half else effects.effect
    cells = cell_statistics(effects.effect[half:])
    ranked_by = first.mean(0)
    on_bias = evaluate(subject, [task], limit=limit, seed=seed)
    samples = samples_of(on_bias, task)
    judged = samples.index.difference(pd.Index([one.doc_id for one in chosen[:half]]))
    whole = Whole(
        *(on_bias, evaluate(subject, core, limit=core_limit, seed=seed), judged, task, core),
        limits=(limit, core_limit),
        seed=seed,
    )
    sets = head_sets(ranked_by[:, :-1], sizes, controls, seed)
    removals: list[Without] = []
    for heads, ranked in sets:
        begins = 0.5 + len(removals) / len(sets) / 2

        def part(share: float, words: str, begins: float = begins) -> None:
            report(begins + share / len(sets) / 2, words)

        removals.append(without(subject, heads, whole, ranked=ranked, progress=part))
    share = estimate("pct_stereotype", samples.loc[judged])
    assert share is not None, "pairs have a share"
    return Carriers(
        subject=subject.name,
        sha256=subject.hash,
        task=task,
        preference=estimate_mean(effects.preference[half:]),
        effect=cells.mean,
        low=cells.low,
        high=cells.high,
        p=cells.p,
        ranked_by=ranked_by,
        share=share,
        removals=removals,
        n=len(chosen) - half,
        n_ranked=len(first),
        core=core,
        seed=seed,
        engine=effects.how,
        data={**on_bias.data_hashes(), **whole.on_core.data_hashes()},
        remarks=_remarks(task, half, len(chosen)),
    )


@torch.no_grad()
def effects_of(
    subject: Subject, pairs: Sequence[TokenPair], progress: Progress | None = None
) -> Effects:
    """What each part does for the preference of each pair; exact, two sentences at a time.

    Args:
        subject: The model.
        pairs: The pairs as tokens.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    exchange = Exchange(subject)
    means = mean_outputs(reference_run(subject))
    preferences = []
    effects = []
    for done, pair in enumerate(pairs, start=1):
        maps = []
        for side in (pair.more, pair.less):
            ids = torch.tensor(side.read, device=subject.device)
            maps.append(exchange(ids, means, side.targets))
        (more, whole_more), (less, whole_less) = maps
        preferences.append(whole_more - whole_less)
        effects.append(preferences[-1] - (more - less))
        if progress is not None:
            progress(done / len(pairs), f"pair {done} of {len(pairs)}")
    return Effects(np.array(preferences), np.stack(effects), exchange.how)


def _remarks(task: str, half: int, n: int) -> list[str]:
    """What is to be known before the result is believed."""
    remarks = [f"{task}: {CAVEATS[task]}"]
    if not half:
        remarks.append(
            f"With {n} pairs, fewer than {FEWEST}, the same ones rank the parts and measure them, "
            "which flatters the first."
        )
    return remarks
