"""How likely a model finds each token of a row, and how that compares with what it might have read
instead.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from workbench.subjects import Subject

HELD = 40_000_000
"""Numbers of one kind that are held at once, logits or a layer's: 0.2 GB, a few times over."""
Progress = Callable[[float, str], None]


class RowScores(NamedTuple):
    """One row, a value a token from the second on.

    - `log_prob`: of the token, in nats
    - `z`: how many standard deviations that lies above the mean log-probability of the tokens that
      the model might have drawn there
    """

    log_prob: Float[np.ndarray, " token"]
    z: Float[np.ndarray, " token"]


def row_scores(
    subject: Subject, rows: Sequence[Sequence[int]], *, progress: Progress | None = None
) -> list[RowScores]:
    """The scores of every row of token ids, in the order given.

    Rows of a batch are padded on the right, which no token of a causal model sees.

    Args:
        subject: A causal model.
        rows: Each of two tokens or more, and no longer than the context.
        progress: Told the share that is done.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found: list[RowScores | None] = [None] * len(rows)
    done = 0
    while done < len(order):
        size = _batch_size(subject, rows, order, done)
        chosen = order[done : done + size]
        for i, scores in zip(chosen, _batch(subject, [rows[i] for i in chosen]), strict=True):
            found[i] = scores
        done += size
        if progress is not None:
            progress(done / len(order), f"{done:,} of {len(order):,} rows")
    return [scores for scores in found if scores is not None]


def _batch_size(
    subject: Subject, rows: Sequence[Sequence[int]], order: Sequence[int], done: int
) -> int:
    """Rows from `done` on whose numbers fit `HELD`, the longest of them counted for all."""
    room = HELD // max(subject.d_embed, 16 * subject.card.d_model)
    size = max(1, room // len(rows[order[done]]))
    longest = len(rows[order[min(done + size, len(order)) - 1]])
    return max(1, min(len(order) - done, room // longest))


@torch.no_grad()
def _batch(subject: Subject, rows: Sequence[Sequence[int]]) -> list[RowScores]:
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    ids = ids.to(subject.device)
    logits = subject.model(ids, use_cache=False).logits[:, :-1].float()
    every = torch.log_softmax(logits, -1)
    log_prob = every.gather(-1, ids[:, 1:, None])[..., 0]
    chance = every.exp()
    finite = torch.where(chance > 0, every, torch.zeros_like(every))  # 0 log 0 is 0
    mean = (chance * finite).sum(-1)
    spread = ((chance * finite**2).sum(-1) - mean**2).clamp(min=1e-12).sqrt()
    z = ((log_prob - mean) / spread).cpu().numpy()
    values = log_prob.cpu().numpy()
    return [
        RowScores(values[i, : len(row) - 1].astype(float), z[i, : len(row) - 1].astype(float))
        for i, row in enumerate(rows)
    ]
