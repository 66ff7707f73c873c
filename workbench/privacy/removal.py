"""What it costs to take heads out of a model: a canary's exposure, and the loss on other text."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from workbench.interp.engine.packed import reader
from workbench.interp.patching.parts import Head, log_prob
from workbench.privacy.exposure import Canary, Exposure, exposure
from workbench.privacy.rows import Rows
from workbench.privacy.scores import row_scores
from workbench.privacy.spelt import spelt
from workbench.progress import Progress
from workbench.statistics import Difference, paired_difference
from workbench.subjects import Subject
from workbench.subjects.intervention import Edit, Intervention, apply


@dataclass(frozen=True)
class Removal:
    """A model without some heads.

    - `heads`: their names, such as L3H1; each gives its mean over held-out rows at every position
    - `ranked`: whether they are those that the canary needs most; else they were drawn at random
    - `exposure`: the canary's, in the edited model
    - `log_prob`: of the canary's value after its own text, in nats
    - `loss`: on held-out rows, in nats per token; `base` is the unedited model
    """

    heads: list[str]
    ranked: bool
    exposure: Exposure
    log_prob: float
    loss: Difference

    def row(self, before: Exposure) -> dict[str, Any]:
        """The numbers by name.

        Args:
            before: The canary's exposure in the unedited model.
        """
        return {
            "heads": ", ".join(self.heads),
            "chosen": "ranked" if self.ranked else "at random",
            "exposure": self.exposure.exposure,
            "exposure_low": self.exposure.low,
            "exposure_high": self.exposure.high,
            "bits_removed": before.exposure - self.exposure.exposure,
            "log_prob": self.log_prob,
            "loss_before": self.loss.base,
            "loss_change": self.loss.difference,
            "loss_low": self.loss.low,
            "loss_high": self.loss.high,
            "p": self.loss.p,
            "n": self.loss.n,
        }


def removal(
    subject: Subject,
    canary: Canary,
    heads: Sequence[Head],
    means: Sequence[Float[Tensor, "head d_head"]],
    rows: Rows,
    before: Sequence[float],
    *,
    ranked: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> Removal:
    """The canary's exposure and the loss on rows, with these heads set to their means.

    Args:
        subject: The model; it is not changed.
        canary: The canary.
        heads: The heads to take out.
        means: What the heads of each layer are set to; see `means_of`.
        rows: Held-out rows on which the loss is measured, paired.
        before: The unedited model's loss of each row; see `losses`.
        ranked: Kept in the result.
        seed: Of the exposure's sample of values.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    edited = without(subject, heads, means)
    tokens = spelt(subject, canary)
    own = torch.tensor([tokens.read], device=subject.device)
    with torch.no_grad():
        left = log_prob(edited.model(own, use_cache=False).logits, tokens.value)
    return Removal(
        [f"L{layer}H{head}" for layer, head in heads],
        ranked,
        exposure(edited, canary, seed=seed, progress=progress),
        float(left[0]),
        paired_difference(before, losses(edited, rows)),
    )


def without(
    subject: Subject, heads: Sequence[Head], means: Sequence[Float[Tensor, "head d_head"]]
) -> Subject:
    """The model with these heads set to their means at every position.

    Args:
        subject: The model; it is not changed.
        heads: The heads.
        means: What the heads of each layer are set to.
    """
    edits = tuple(
        Edit(layer, "z", (head,), "set", means[layer][head].tolist()) for layer, head in heads
    )
    name = "without-" + "-".join(f"L{layer}H{head}" for layer, head in heads)
    return apply(subject, Intervention(name[:80], subject.name, edits))


@torch.no_grad()
def means_of(subject: Subject, rows: Rows) -> list[Float[Tensor, "head d_head"]]:
    """The mean output of each head over all tokens of the rows but the first of each, by layer.

    Args:
        subject: The model.
        rows: Token ids, at least two in each row.
    """
    sums: list[Tensor] = []
    n = 0
    for row in rows:
        run = reader(subject).record(torch.tensor([row], device=subject.device))
        added = [z[0, 1:].sum(0) for z in run.z]  # [head, d_head]
        sums = (
            added if not sums else [total + more for total, more in zip(sums, added, strict=True)]
        )
        n += len(row) - 1
    return [total / n for total in sums]


def losses(subject: Subject, rows: Rows) -> list[float]:
    """The loss of each row in nats per token."""
    return [-float(scores.log_prob.mean()) for scores in row_scores(subject, rows)]
