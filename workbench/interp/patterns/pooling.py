"""Heads of long prompts made small for the explorer, by matrix products instead of sums."""

import numpy as np
import torch
from jaxtyping import Float
from torch.nn import functional

from workbench.interp.patterns.looking import BLOCK


def pooled(
    pattern: Float[np.ndarray, "head query key"], side: int
) -> Float[np.ndarray, "head {side} {side}"]:
    """Attention of blocks of queries to blocks of keys: summed over keys, averaged over queries.

    What `figures.explorer.payload.pooled` gives, five times as fast on 1,024 tokens in half
    precision.

    Args:
        pattern: One layer's heads; later keys are read where any query sees one.
        side: Blocks of queries, and of keys.
    """
    n_pos = pattern.shape[-1]
    starts = torch.arange(side) * n_pos // side
    block = torch.searchsorted(starts, torch.arange(n_pos), right=True) - 1
    member = functional.one_hot(block, side).float()  # [position, block]
    by_key_block = torch.empty(len(pattern), n_pos, side)
    causal = not bool(pattern[:, 0, 1:].any())
    for i in range(0, n_pos, BLOCK):
        seen = i + BLOCK if causal else n_pos
        rows = torch.from_numpy(pattern[:, i : i + BLOCK, :seen])
        by_key_block[:, i : i + BLOCK] = rows.float() @ member[:seen]
    return (member.T @ by_key_block / member.sum(0)[:, None]).numpy()
