"""The position encodings of the small GPT: learned, sinusoidal, rotary, ALiBi and none.

Learned and sinusoidal vectors are added to the token embedding; rotary rotates queries and keys;
ALiBi adds a bias to the attention scores; with `none` only the causal mask tells order (Haviv et
al. 2022).

Reference:
    Vaswani et al. (2017), "Attention Is All You Need" (sinusoidal).
    Su et al. (2021), "RoFormer" (rotary).
    Press et al. (2022), "Train Short, Test Long" (ALiBi).
    Haviv et al. (2022), "Transformer Language Models without Positional Encodings Still Learn
    Positional Information" (none).
"""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor

ENCODINGS = ("learned", "sinusoidal", "rotary", "alibi", "none")


def sinusoidal(positions: Int[Tensor, "*pos"], d_model: int) -> Float[Tensor, "*pos d_model"]:
    """`PE[p, 2i] = sin(p / 10000^(2i/d))` and `PE[p, 2i+1] = cos(p / 10000^(2i/d))`.

    The formula `sin(p / 10000)^(2 pi) + eps` that circulates in blog posts is wrong. Positions
    beyond the trained context are allowed.
    """
    frequency = 10000.0 ** (
        -torch.arange(0, d_model, 2, device=positions.device, dtype=torch.float64) / d_model
    )
    angle = positions.to(torch.float64).unsqueeze(-1) * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)[..., :d_model].float()


def rotary_frequencies(
    d_head: int, base: float = 10000.0, device: torch.device | None = None
) -> Float[Tensor, " pair"]:
    """Angle per token, in radians, of each of the `d_head / 2` dimension pairs of rotary."""
    return base ** (-torch.arange(0, d_head, 2, dtype=torch.float64, device=device) / d_head)


def rotary_cos_sin(
    positions: Int[Tensor, "*pos"], d_head: int, base: float = 10000.0
) -> tuple[Float[Tensor, "*pos d_head"], Float[Tensor, "*pos d_head"]]:
    """Cosine and sine of every dimension pair's angle, as `rotate` takes them.

    Args:
        positions: Token positions.
        d_head: Even number of dimensions.
        base: Larger bases make the slowest pairs rotate slower; 10000 as in RoFormer.
    """
    frequency = rotary_frequencies(d_head, base, positions.device)
    angle = positions.to(torch.float64).unsqueeze(-1) * frequency  # [*pos, d_head / 2]
    # Twice, because the two dimensions of a pair are i and i + d_head/2 (Llama's layout).
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos().float(), angle.sin().float()


def rotate(
    x: Float[Tensor, "batch head pos d_head"],
    cos: Float[Tensor, "#batch pos d_head"],
    sin: Float[Tensor, "#batch pos d_head"],
) -> Float[Tensor, "batch head pos d_head"]:
    """`x` with dimension pairs `(i, i + d_head/2)` rotated by the position's angle.

    Args:
        x: Queries or keys.
        cos: Cosine of the angles (`rotary_cos_sin`).
        sin: Sine of the angles.
    """
    half = x.shape[-1] // 2
    cos = cos.unsqueeze(1).to(x.dtype)  # [batch, 1, pos, d_head], the same for all heads
    sin = sin.unsqueeze(1).to(x.dtype)
    # The other dimension of each pair comes by a roll; the first half's gets its minus from sin.
    # Few passes over x, as there are twice as many going back.
    signed = torch.cat([-sin[..., :half], sin[..., half:]], dim=-1)
    return torch.addcmul(x * cos, x.roll(half, -1), signed)


def alibi_slopes(n_heads: int, device: torch.device | None = None) -> Float[Tensor, " head"]:
    """The slope of each head: `2^(-8h/n)` for h = 1..n.

    Where n is not a power of two, the paper takes the slopes of the next lower power, then every
    other slope of the next higher one.
    """
    power = 2 ** math.floor(math.log2(n_heads))
    # Made where they are needed: a copy to a GPU would wait for it.
    first = torch.arange(2, 2 * power + 1, 2, dtype=torch.float64, device=device)
    extra = torch.arange(1, 2 * power + 1, 2, dtype=torch.float64, device=device)
    halves = torch.cat([first, extra])[:n_heads]
    return torch.exp2(-8 * halves / (2 * power)).float()


def alibi_bias(
    n_heads: int, n_queries: int, n_keys: int, device: torch.device | None = None
) -> Float[Tensor, "head query key"]:
    """The bias that ALiBi adds to the scores: `-slope * (query - key)`.

    Args:
        n_heads: Number of query heads.
        n_queries: Number of queries; the last one stands at the last key.
        n_keys: Number of keys; more than queries where earlier keys are cached.
        device: Where it is made.
    """
    query = torch.arange(n_keys - n_queries, n_keys, device=device).unsqueeze(1)  # [query, 1]
    key = torch.arange(n_keys, device=device)
    distance = (query - key).clamp(min=0)  # [query, key]; later keys are masked
    return -alibi_slopes(n_heads, device)[:, None, None] * distance
