"""Rotary turns of queries and keys, in the two layouts that models use."""

import torch
from jaxtyping import Float
from torch import Tensor


def by_pair(x: Float[Tensor, "pos d_turning"]) -> Float[Tensor, "pos pair"]:
    """Cosines or sines once per pair; models hold them twice, as halves or as neighbours."""
    first, second = x.chunk(2, -1)
    return first if torch.equal(first, second) else x[..., ::2]


def turn_halves(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Dimensions i and i + d/2 turned together, as Llama does; those past the turning ones stay.

    Args:
        x: Queries or keys, `[pos, head, d_head]`.
        cos: Cosines by position and pair, `[pos, 1, pair]`.
        sin: Sines.
    """
    n_pairs = cos.shape[-1]
    first = x[..., :n_pairs]
    second = x[..., n_pairs : 2 * n_pairs]
    rest = x[..., 2 * n_pairs :]
    return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)


def turn_neighbours(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Dimensions 2i and 2i + 1 turned together, as GPT-J, Cohere and Ernie do.

    Args:
        x: Queries or keys, `[pos, head, d_head]`.
        cos: Cosines by position and pair, `[pos, 1, pair]`.
        sin: Sines.
    """
    n_turning = 2 * cos.shape[-1]
    first = x[..., :n_turning:2]
    second = x[..., 1:n_turning:2]
    turned = torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
    return torch.cat([turned, x[..., n_turning:]], -1)
