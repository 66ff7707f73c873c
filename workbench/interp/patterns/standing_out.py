"""Heads that attend to one offset more than to any other: a null for the labels of small models.

On random tokens given twice, one token back is the previous token, `length` back the first copy,
and `length - 1` back the token after it. A head that does none of these spreads its attention, or
lets it fall with distance; its best offset other than the tested one shows how much that gives.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from workbench.interp.patterns.heads import repeated_tokens
from workbench.interp.patterns.passing import each_pattern
from workbench.subjects import Subject

FLOOR = 0.1
"""Attention below which a head gets no label, however far above the null."""
TIMES = 2.0
"""Factor by which attention must exceed that of the next best offset."""
ALPHA = 0.05
"""Chance that any head of the model gets a label by chance (Holm, over all heads and questions)."""


def stands_out(
    subject: Subject, *, n: int = 8, length: int = 50, seed: int = 0
) -> dict[str, Bool[np.ndarray, "layer head"]]:
    """The heads whose attention at a score's offset is significantly above `FLOOR` and the null.

    The null is `TIMES` the attention at the best other offset. The margin is taken per sequence,
    its mean tested against 0 (one-sided Student), and the p-values are Holm-corrected. The best
    other offset is chosen on the same sequences, which only makes the margin smaller. The first
    key, where many heads park attention, is no offset. With fewer than two sequences, or fewer than
    eight tokens, no head stands out.

    Args:
        subject: The model.
        n: Random sequences, the same as in `head_scores`.
        length: Random tokens of a sequence, which are given twice.
        seed: Of the random tokens.
    """
    length = min(length, (subject.n_ctx - 1) // 2)
    shape = (subject.card.n_layers, subject.card.n_heads)
    offsets = {
        "previous_token_score": 1,
        "duplicate_token_score": length,
        "induction_score": length - 1,
    }
    if n < 2 or length < 8:
        return {score: np.zeros(shape, dtype=bool) for score in offsets}
    profile = offset_profile(subject, n=n, length=length, seed=seed)
    p_values = np.stack([_p_values(profile, offset) for offset in offsets.values()])
    significant = _holm(p_values.ravel()).reshape(p_values.shape) < ALPHA
    return dict(zip(offsets, significant, strict=True))


def offset_profile(
    subject: Subject, *, n: int, length: int, seed: int
) -> Float[np.ndarray, "n layer head offset"]:
    """Mean attention of the second copies by offset; NaN for offsets that few of them have.

    Args:
        subject: The model.
        n: Random sequences.
        length: Random tokens of a sequence, which are given twice.
        seed: Of the random tokens.
    """
    ids = repeated_tokens(subject, n, length, seed)
    n_pos = ids.shape[1]
    first_key = max(1, n_pos - 2 * length)
    profile = np.full((n, subject.card.n_layers, subject.card.n_heads, n_pos), np.nan)

    def look(layer: int, pattern: Float[Tensor, "n head query key"]) -> None:
        for offset in range(n_pos):
            first_query = max(n_pos - length, first_key + offset)
            queries = torch.arange(first_query, n_pos, device=pattern.device)
            if 2 * len(queries) >= length:
                mean = pattern[..., queries, queries - offset].mean(-1)
                profile[:, layer, :, offset] = mean.cpu().numpy()

    each_pattern(subject, ids, look)
    return profile


def _p_values(
    profile: Float[np.ndarray, "n layer head offset"], offset: int
) -> Float[np.ndarray, "layer head"]:
    """One-sided p-values that a head's margin over `FLOOR`, or over the null, is not above 0."""
    from scipy.stats import t

    own = profile[..., offset]
    others = np.delete(profile, offset, axis=-1)
    best = np.nanargmax(others.mean(0), axis=-1)  # by the mean over the sequences
    other = np.take_along_axis(others, best[None, ..., None], axis=-1)[..., 0]
    worst = np.zeros(own.shape[1:])
    for margin in (own - FLOOR, own - TIMES * other):
        error = margin.std(0, ddof=1) / np.sqrt(len(margin))
        size = margin.mean(0)
        ratio = size / np.maximum(error, 1e-12)
        worst = np.maximum(worst, t.sf(ratio, len(margin) - 1))  # both must hold
    return worst


def _holm(p_values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(p_values, method="holm")[1])
