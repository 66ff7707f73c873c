"""The position encodings of the small GPT: learned, sinusoidal, rotary, ALiBi and none.

Learned and sinusoidal vectors are added to the token embedding; rotary turns queries and keys;
ALiBi adds a bias to the attention scores; `none` leaves order to the causal mask alone (Haviv et
al. 2022).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

ENCODINGS = ("learned", "sinusoidal", "rotary", "alibi", "none")


def sinusoidal(positions: Int[Tensor, "*pos"], d_model: int) -> Float[Tensor, "*pos d_model"]:
    """`PE[p, 2i] = sin(p / 10000^(2i/d))`, `PE[p, 2i+1] = cos(p / 10000^(2i/d))` (Vaswani et al.
    2017).

    The formula `sin(p / 10000)^(2 pi) + eps` that circulates in blog posts is wrong. Any position
    is allowed, also one beyond the trained context.
    """
    frequency = 10000.0 ** (
        -torch.arange(0, d_model, 2, device=positions.device, dtype=torch.float64) / d_model
    )
    angle = positions.to(torch.float64).unsqueeze(-1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[..., :d_model].float()


def rotary_frequencies(d_head: int, base: float = 10000.0) -> Float[Tensor, " pair"]:
    """Radians a token for each of the `d_head / 2` planes in which rotary turns q and k (Su et al.
    2021).
    """
    return base ** (-torch.arange(0, d_head, 2, dtype=torch.float64) / d_head)


def rotary_cos_sin(
    positions: Int[Tensor, "*pos"], d_head: int, base: float = 10000.0
) -> tuple[Float[Tensor, "*pos d_head"], Float[Tensor, "*pos d_head"]]:
    """Cosine and sine of every plane's angle, laid out twice as `rotate` expects (Llama's
    half-split pairs).
    """
    angle = positions.to(torch.float64).unsqueeze(-1) * rotary_frequencies(d_head, base).to(
        positions.device
    )
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(
    x: Float[Tensor, "batch head pos d_head"],
    cos: Float[Tensor, "#batch pos d_head"],
    sin: Float[Tensor, "#batch pos d_head"],
) -> Float[Tensor, "batch head pos d_head"]:
    """Turn dimension pairs `(i, i + d_head/2)` of `x` by the position's angle; lengths are kept."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.unsqueeze(1).to(x.dtype), sin.unsqueeze(1).to(x.dtype)
    return x * cos + torch.cat([-second, first], dim=-1) * sin


def alibi_slopes(n_heads: int) -> Float[Tensor, " head"]:
    """The slope of each head: `2^(-8h/n)` for h = 1..n, and the paper's rule where n is no power of
    two.

    Press et al. 2022: take the slopes of the next lower power of two, then every other one of the
    next higher.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    slopes = [2 ** (-8 * h / power) for h in range(1, power + 1)]
    extra = [2 ** (-8 * h / (2 * power)) for h in range(1, 2 * power + 1, 2)]
    return torch.tensor((slopes + extra)[:n_heads])


def alibi_bias(n_heads: int, n_queries: int, n_keys: int) -> Float[Tensor, "head query key"]:
    """`-slope * (query - key)`: what ALiBi adds to the scores. The last query stands at the last
    key.
    """
    query = torch.arange(n_keys - n_queries, n_keys).unsqueeze(1)
    distance = (query - torch.arange(n_keys)).clamp(min=0)
    return -alibi_slopes(n_heads)[:, None, None] * distance
