"""Holders: the heads that hold a memorised string, and what it costs to take them out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import pandas as pd
import torch

from workbench.interp.patching.parts import FEWEST, head_sets, log_prob, part_table, ranking
from workbench.modes import own_modes
from workbench.privacy.exposure import Canary, Exposure, exposure
from workbench.privacy.neighbours import held_out_rows, neighbours_of
from workbench.privacy.parts import exchanged
from workbench.privacy.removal import Removal, losses, means_of, removal
from workbench.privacy.spelt import spelt
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Estimate, cell_statistics, estimate_mean
from workbench.statistics.words import bracketed
from workbench.subjects import Subject, SubjectOrName

UNEXPOSED = 3.0
"""Bits of exposure below which a canary may as well never have been seen."""


@dataclass(frozen=True)
class Holders(Record):
    """The parts of a model that hold a memorised string.

    Maps are `[layer, part]`: the heads in order, and last the layer's MLP.

    - `text`, `value`: those of the canary
    - `log_prob`: of the value after the canary's own text, in nats, summed over its tokens
    - `neighbour`: the same after the neighbours
    - `drop`, `low`, `high`, `p`: nats that the value loses after its own text when the part works
      as in a neighbour, over the `n` neighbours that did not rank the parts; with 95 % interval and
      a p-value corrected over the parts
    - `ranked_by`: the same over the other `n_ranked` neighbours, which flatters the first parts
    - `exposure`: of the canary in the whole model
    - `removals`: the model without its first heads, and without as many random ones
    - `rows`: where neighbours and held-out rows come from
    - `n_ranked`, `n`: neighbours that rank the parts, and those that measure them
    - `engine`: how the runs were made
    """

    subject: str
    sha256: str
    text: str
    value: str
    log_prob: float
    neighbour: Estimate
    drop: np.ndarray
    low: np.ndarray
    high: np.ndarray
    p: np.ndarray
    ranked_by: np.ndarray
    exposure: Exposure
    removals: list[Removal]
    rows: str
    n: int
    n_ranked: int
    seed: int = 0
    engine: str = "packed"
    remarks: list[str] = field(default_factory=list)

    def headline(self) -> str:
        """The result in a few words: the first part, and the model without the first heads."""
        first = self.to_frame().iloc[0]
        interval = bracketed(first["low"], first["high"], ".2f")
        words = (
            f"{first['part']} carries {first['drop']:.2f} {interval} of "
            f"{self.log_prob - self.neighbour.value:.2f} nats"
        )
        for taken in [one for one in self.removals if one.ranked][-1:]:
            loss = bracketed(taken.loss.low, taken.loss.high, "+.4f")
            words += (
                f"; without {', '.join(taken.heads)} {taken.exposure.exposure:.1f} bits, not "
                f"{self.exposure.exposure:.1f}, and loss {taken.loss.difference:+.4f} {loss}"
            )
        return words

    def to_frame(self) -> pd.DataFrame:
        """One row for each part, ranked by `ranked_by`; `drop` is over the other neighbours."""
        columns = ("drop", "low", "high", "p", "ranked_by")
        return part_table({name: getattr(self, name) for name in columns})

    def removed_frame(self) -> pd.DataFrame:
        """One row for each edited model: its heads, the canary's exposure, and the loss."""
        return pd.DataFrame([taken.row(self.exposure) for taken in self.removals])


@public("subject")
@own_modes
def holders(
    subject: SubjectOrName,
    canary: Canary,
    *,
    neighbours: Sequence[str] | None = None,
    held_out: Sequence[str] | None = None,
    n: int = 24,
    rows: int = 100,
    sizes: Sequence[int] = (1, 2, 4),
    controls: int = 3,
    seed: int = 0,
    progress: Progress | None = None,
) -> Holders:
    """The heads and MLPs that hold a memorised string, and what it costs to take the heads out.

    A part's output after the canary's own text is exchanged, at every position, for what the same
    part gives in a neighbour: a prompt of as many tokens that does not lead to the value (noising).
    What the value's log-probability loses is what the part carries. Then the heads that carry most
    are set to their mean over held-out rows.

    Args:
        subject: The model; a run (`run:ID`) has its own held-out rows.
        canary: The string: its text, its value and the characters that it was drawn from.
        neighbours: Texts with "{}" in the value's place and as many tokens before it as the
            canary's; None for pieces of held-out rows.
        held_out: Texts that the model never saw, in place of a run's own rows; where neither is
            known, paragraphs of public-domain books.
        n: The most neighbours. Half of them rank the parts, the other half measures them.
        rows: The most held-out rows.
        sizes: How many heads are taken out, one edited model each.
        controls: How many edited models lack as many random heads as the largest size.
        seed: Seed of the draws.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For a canary that cannot be measured or is longer than the context, for a
            neighbour of another length, and where no text is long enough for a neighbour.
    """
    subject = cast(Subject, subject)
    report = progress or (lambda share, words: None)
    tokens = spelt(subject, canary)
    count = 2 + len(sizes) + controls  # the intact exposure, the exchange, and each edited model
    intact = exposure(subject, canary, seed=seed, progress=_part(report, 0, count))
    texts = held_out_rows(subject, canary, held_out, rows, seed)
    prompts = neighbours_of(subject, canary, tokens, neighbours, texts.reference, n, seed)
    own = torch.tensor(tokens.read, device=subject.device)
    maps, how = exchanged(subject, own, prompts, tokens.value, _part(report, 1, count))
    with torch.no_grad():
        ends = [
            float(log_prob(subject.model(ids[None], use_cache=False).logits, tokens.value)[0])
            for ids in (own, *prompts)
        ]
    drops = ends[0] - maps
    half = ranking(len(drops))
    first = drops[:half] if half else drops
    cells = cell_statistics(drops[half:])
    ranked_by = first.mean(0)
    means = means_of(subject, texts.reference)
    before = losses(subject, texts.measured)
    removals: list[Removal] = []
    for heads, ranked in head_sets(ranked_by[:, :-1], sizes, controls, seed):
        part = _part(report, 2 + len(removals), count)
        removals.append(
            removal(
                *(subject, canary, heads, means, texts.measured, before),
                ranked=ranked,
                seed=seed,
                progress=part,
            )
        )
    return Holders(
        subject=subject.name,
        sha256=subject.hash,
        text=canary.text,
        value=canary.value,
        log_prob=ends[0],
        neighbour=estimate_mean(ends[1:]),
        drop=cells.mean,
        low=cells.low,
        high=cells.high,
        p=cells.p,
        ranked_by=ranked_by,
        exposure=intact,
        removals=removals,
        rows=texts.where,
        n=len(drops) - half,
        n_ranked=len(first),
        seed=seed,
        engine=how,
        remarks=_remarks(intact, half, len(drops)),
    )


def _remarks(intact: Exposure, half: int, n: int) -> list[str]:
    """What is to be known before the result is believed."""
    remarks = []
    if intact.exposure < UNEXPOSED:
        remarks.append(
            f"The exposure of this canary is {intact.exposure:.1f} bits, no more than that of a "
            "value that was never seen, so there is little to be held."
        )
    if not half:
        remarks.append(
            f"With {n} neighbours, fewer than {FEWEST}, the same ones rank the parts and measure "
            "them, which flatters the first."
        )
    return remarks


def _part(report: Progress, number: int, count: int) -> Progress:
    """A progress callback for one of `count` equal parts of the work."""
    return lambda share, words: report((number + share) / count, words)
