"""Log-probabilities of the tokens of a row, and how they compare with those of all other tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float

from workbench.subjects import Subject

HELD = 40_000_000
"""How many logits, or numbers of one layer, are in memory at once. They take 0.2 GB, and a few such
arrays are needed at a time.
"""
Progress = Callable[[float, str], None]


class RowScores(NamedTuple):
    """Scores of one row: one value for each token from the second on.

    - `log_prob`: the log-probability of the token, in nats
    - `z`: the standard deviations by which it lies above the mean log-probability of all tokens in
      that place, weighted by their probability
    """

    log_prob: Float[np.ndarray, " token"]
    z: Float[np.ndarray, " token"]


def row_scores(
    subject: Subject,
    rows: Sequence[Sequence[int]],
    parts: Sequence[Sequence[bool]] = (),
    *,
    progress: Progress | None = None,
) -> list[RowScores]:
    """The scores of every row of token ids, in the order given.

    Rows of a batch are padded on the right, where the tokens of a causal model cannot look.

    Args:
        subject: A causal model.
        rows: Token ids of each row, at least two and at most as many as the context holds.
        parts: For each row, which of its tokens are scored, never the first; empty for all.
        progress: Called with the share that is done, from 0 to 1, and a few words.
    """
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # similar lengths, less padding
    scores_by_row: dict[int, RowScores] = {}
    done = 0
    while done < len(order):
        size = _batch_size(subject, rows, order, done)
        chosen = order[done : done + size]
        batch = _batch_scores(subject, [rows[i] for i in chosen])
        scores_by_row.update(zip(chosen, batch, strict=True))
        done += size
        if progress is not None:
            progress(done / len(order), f"{done:,} of {len(order):,} rows")
    scores = [scores_by_row[i] for i in range(len(rows))]
    if not parts:
        return scores
    chosen_tokens = [np.array(part[1:]) for part in parts]
    return [
        RowScores(row.log_prob[chosen], row.z[chosen])
        for row, chosen in zip(scores, chosen_tokens, strict=True)
    ]


def _batch_size(
    subject: Subject, rows: Sequence[Sequence[int]], order: Sequence[int], done: int
) -> int:
    """How many rows from `done` on fit in `HELD` numbers, all padded to the longest of them."""
    room = HELD // max(subject.d_embed, 16 * subject.card.d_model)
    size = max(1, room // len(rows[order[done]]))
    longest = len(rows[order[min(done + size, len(order)) - 1]])
    return max(1, min(len(order) - done, room // longest))


@torch.no_grad()
def _batch_scores(subject: Subject, rows: Sequence[Sequence[int]]) -> list[RowScores]:
    """The scores of rows that fit in memory together."""
    width = max(map(len, rows))
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row)
    ids = ids.to(subject.device)
    logits = subject.model(ids, use_cache=False).logits[:, :-1].float()
    log_probs = torch.log_softmax(logits, -1)  # (row, token, vocabulary)
    log_prob = log_probs.gather(-1, ids[:, 1:, None])[..., 0]  # (row, token)
    chance = log_probs.exp()
    finite = torch.where(chance > 0, log_probs, torch.zeros_like(log_probs))  # 0 log 0 is 0
    mean = (chance * finite).sum(-1)
    spread = ((chance * finite**2).sum(-1) - mean**2).clamp(min=1e-12).sqrt()
    z = ((log_prob - mean) / spread).cpu().numpy()
    values = log_prob.cpu().numpy()
    return [
        RowScores(values[i, : len(row) - 1].astype(float), z[i, : len(row) - 1].astype(float))
        for i, row in enumerate(rows)
    ]
