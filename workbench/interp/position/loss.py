"""Loss by position, inside the trained context and beyond it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch.nn import functional as F

from workbench.errors import WorkbenchError
from workbench.interp.families import any_family
from workbench.modes import own_modes
from workbench.public import public
from workbench.records import Record
from workbench.statistics import mean_interval
from workbench.subjects import Subject, SubjectOrName

LONGEST = 1024
"""Tokens read at most, whatever the context."""


@dataclass(frozen=True)
class PositionLoss(Record):
    """Mean next-token loss by bin of positions, in nats, with 95 % intervals over `n` texts.

    - `width`: positions of a bin
    - `start`: each bin's first position; bins from `n_ctx` on lie beyond the trained context
    """

    subject: str
    positions: str
    n_ctx: int
    width: int
    start: Int[np.ndarray, " bin"]
    mean: Float[np.ndarray, " bin"]
    low: Float[np.ndarray, " bin"]
    high: Float[np.ndarray, " bin"]
    n: int

    def headline(self) -> str:
        """The result in a few words."""
        return (
            f"{self.positions} positions: {self.inside():.3f} nats a token inside the context of "
            f"{self.n_ctx}, {self.beyond():.3f} beyond"
        )

    def inside(self) -> float:
        """Mean loss of the bins inside the context."""
        return float(self.mean[self.start < self.n_ctx].mean())

    def beyond(self) -> float:
        """Mean loss of the bins beyond the context; NaN if none was read."""
        outside = self.mean[self.start >= self.n_ctx]
        return float(outside.mean()) if len(outside) else float("nan")

    def to_frame(self) -> pd.DataFrame:
        """One row per bin."""
        columns = {"position": self.start, "loss": self.mean, "low": self.low, "high": self.high}
        return pd.DataFrame({**columns, "beyond": self.start >= self.n_ctx})


@public("subject")
@own_modes
@any_family
@torch.no_grad()
def loss_by_position(
    subject: SubjectOrName, texts: Sequence[str], *, reach: float = 2.0, width: int = 16
) -> PositionLoss:
    """Next-token loss by position, up to and beyond the context.

    The texts are read one after the other, once starting from each of them, so that each position
    is read at as many places as there are texts.

    Args:
        subject: The model.
        texts: The texts.
        reach: How far to read, as a multiple of the context, at most `LONGEST` tokens; learned
            positions end with the context.
        width: Positions of a bin.

    Raises:
        WorkbenchError: Together the texts are shorter than two bins.
    """
    subject = cast(Subject, subject)
    limit = min(LONGEST, int(reach * subject.n_ctx))
    if limit > subject.n_ctx and not _reads_beyond(subject):
        limit = subject.n_ctx
    rows = []
    for i in range(len(texts)):
        text = "\n\n".join([*texts[i:], *texts[:i]])
        rows.append(torch.tensor(subject.ids(text)))
    n_bins = (min([limit, *map(len, rows)]) - 1) // width
    if n_bins < 2:
        raise WorkbenchError(
            f"The texts are shorter than {2 * width + 1} tokens for {subject.name}; give longer "
            "ones."
        )
    length = n_bins * width + 1
    samples = []
    for row in rows:
        ids = row[:length].long().to(subject.device)
        logits = subject.model(ids[None], use_cache=False).logits[0, :-1]
        loss = F.cross_entropy(logits.float(), ids[1:], reduction="none")
        samples.append(loss.view(n_bins, width).mean(-1).cpu().numpy())
    mean, low, high = mean_interval(np.stack(samples).astype(float))
    start = np.arange(n_bins) * width
    return PositionLoss(
        subject.name,
        subject.card.positions,
        subject.n_ctx,
        width,
        start,
        mean,
        low,
        high,
        len(samples),
    )


def _reads_beyond(subject: Subject) -> bool:
    """Whether the model can read past its context: not if a table of positions ends there."""
    if subject.card.positions in ("learned", "unknown"):
        return False
    ids = torch.zeros(1, subject.n_ctx + 1, dtype=torch.long, device=subject.device)
    try:
        subject.model(ids, use_cache=False)
    except (IndexError, RuntimeError):
        return False
    return True
