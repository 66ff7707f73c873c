"""The block of bytes that the explorer is given: the quantised triangles of all heads.

A model whose queries see later keys too (an encoder) has squares in place of triangles; the header
says so. Cross-attention is a triangle over both texts, with empty rows for the one that is read.

The block holds the length of its header in four bytes, the header as JSON, and arrays one after
another. The header gives each array's place, type and shape. All numbers are little-endian.

A row is sent as whole numbers from 0 to 255 (8 bits) or to 65,535 (16 bits) and as
one scale, the row's largest weight. So a weight is off by at most 1/510 of the row's largest in 8
bits and by at most 1/131,070 in 16.

Heads that do not fit the budget are pooled. A dot then stands for a block of queries and a block of
keys: the attention that these queries give to all of these keys together, averaged over the
queries. So rows still sum to 1, and a thin diagonal stays as dark as it was.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from workbench.figures.style import visible

BUDGET = 2_000_000
"""Bytes that all heads may take on a page; the open head and the value lengths come on top."""
FILE_BUDGET = 64_000_000
"""Bytes that all heads may take in a file, uncompressed: 270 heads fit whole at 512 tokens."""
SIDES = (128, 96, 64, 48, 32, 24, 16, 12, 8)
"""Dots along a side of a pooled head; the largest number that fits the budget is taken."""
NORMS_BUDGET = 600_000
"""Bytes that value lengths may take in 16 bits; where they take more they are sent in 8 bits."""


Pool = Callable[[Float[np.ndarray, "head query key"], int], np.ndarray]
"""A function that does what `pooled` does."""


@dataclass(frozen=True)
class Heads:
    """The attention of one prompt as the explorer needs it.

    Args:
        pattern: `[layer, head, query, key]`, square.
        tokens: One string for each position.
        name: What the attention is called on the screen, such as the model's name.
        value_norms: The length of every key's contribution, `|v W_O|`, by head; None where it is
            not known.
        scores: One number for every head, under the words that describe it, such as "to the token
            before".
        url: The address that the browser asks for whole triangles; "" where there is no server.
        pool: `pooled`, or a faster function for the same; None for `pooled`.
        causal: Whether no query sees a later key, so that the upper half need not be sent.
        read: Tokens at the beginning that are only looked at, as in cross-attention.
    """

    pattern: Float[np.ndarray, "layer head query key"]
    tokens: Sequence[str]
    name: str
    value_norms: Float[np.ndarray, "layer head key"] | None = None
    scores: Mapping[str, Float[np.ndarray, "layer head"]] | None = None
    url: str = ""
    pool: Pool | None = None
    causal: bool = True
    read: int = 0


def quantise(
    rows: Float[np.ndarray, "... query key"], bits: int, *, causal: bool = True
) -> tuple[Integer[np.ndarray, "... cell"], Float[np.ndarray, "... query"]]:
    """The weights as whole numbers, row by row, and each row's scale, its largest weight.

    Args:
        rows: Weights of 0 or more.
        bits: Bits of a whole number, 8 or 16.
        causal: Leave out what is above the diagonal.
    """
    rows = np.asarray(rows, np.float32)
    rows = np.tril(rows) if causal else rows
    scale = rows.max(-1)
    top = 2**bits - 1
    divisor = np.where(scale > 0, scale, 1).astype(np.float32)  # a row of zeros stays zeros
    levels = np.rint(rows / divisor[..., None] * top).astype("<u2" if bits == 16 else "u1")
    if not causal:
        return levels.reshape(*levels.shape[:-2], -1), scale.astype("<f4")
    query, key = np.tril_indices(rows.shape[-1])
    return levels[..., query, key], scale.astype("<f4")


def restore(
    levels: Integer[np.ndarray, "... cell"],
    scale: Float[np.ndarray, "... query"],
    *,
    causal: bool = True,
) -> Float[np.ndarray, "... query key"]:
    """The rows that `quantise` was given, up to its rounding; 0 above a causal diagonal."""
    n_pos = scale.shape[-1]
    query, key = np.tril_indices(n_pos) if causal else np.indices((n_pos, n_pos)).reshape(2, -1)
    top = np.float32(np.iinfo(levels.dtype).max)
    rows = np.zeros((*levels.shape[:-1], n_pos, n_pos), np.float32)
    rows[..., query, key] = levels / top * scale[..., query]
    return rows


def pooled(
    pattern: Float[np.ndarray, "head query key"], side: int
) -> Float[np.ndarray, "head {side} {side}"]:
    """Attention of blocks of queries to blocks of keys: summed over keys, averaged over queries."""
    n_pos = pattern.shape[-1]
    starts = np.arange(side) * n_pos // side
    sizes = np.diff(np.append(starts, n_pos))
    over_queries = np.add.reduceat(np.asarray(pattern, np.float32), starts, axis=1)
    return np.add.reduceat(over_queries, starts, axis=2) / sizes[:, None]


def cells(n_pos: int, causal: bool) -> int:
    """The weights of a head of `n_pos` tokens that are sent."""
    return n_pos * (n_pos + 1) // 2 if causal else n_pos**2


def resolution(n_heads: int, n_pos: int, budget: int, *, causal: bool = True) -> tuple[int, int]:
    """The dots along a side of each head and the bits of a weight, the finest that fit the budget.

    Args:
        n_heads: Heads of all layers together.
        n_pos: Tokens of the prompt.
        budget: Bytes that all heads may take; the coarsest resolution may take more.
        causal: As in `quantise`.
    """
    for bits in (16, 8):
        if n_heads * cells(n_pos, causal) * bits // 8 <= budget:
            return n_pos, bits
    for side in SIDES:
        if side < n_pos and n_heads * (cells(side, causal) + 4 * side) <= budget:
            return side, 8
    return min(n_pos, SIDES[-1]), 8


def payload(
    shown: Heads,
    *,
    chosen: tuple[int, int],
    other: Heads | None = None,
    budget: int = BUDGET,
) -> bytes:
    """The block of bytes with everything that the explorer shows before it asks for more.

    Args:
        shown: The attention to show.
        chosen: The layer and number of the head that is open; it comes whole, in 16 bits, even
            where the others are pooled.
        other: Attention to subtract, of another model or on another prompt; it has the same numbers
            of layers, heads and tokens.
        budget: Bytes that all heads may take, those of `other` included.
    """
    share = budget if other is None else budget // 2
    parts: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {
        "chosen": list(chosen),
        **_source(shown, parts, "", chosen, share),
    }
    if other is not None:
        header["other"] = _source(other, parts, "other_", chosen, share)
    return pack(header, parts)


def _source(
    heads: Heads, parts: dict[str, np.ndarray], prefix: str, chosen: tuple[int, int], budget: int
) -> dict[str, Any]:
    """One attention's entries of the header; its arrays are added to `parts`."""
    n_layers, n_heads, n_pos = heads.pattern.shape[:3]
    causal = heads.causal
    side, bits = resolution(n_layers * n_heads, n_pos, budget, causal=causal)
    pool = heads.pool or pooled
    quantised = [
        quantise(layer if side == n_pos else pool(layer, side), bits, causal=causal)
        for layer in heads.pattern
    ]
    parts[f"{prefix}levels"] = np.stack([levels for levels, _ in quantised])
    parts[f"{prefix}scale"] = np.stack([scale for _, scale in quantised])
    if side < n_pos:
        open_head = np.asarray(heads.pattern[chosen], np.float32)
        parts[f"{prefix}one_levels"], parts[f"{prefix}one_scale"] = quantise(
            open_head, 16, causal=causal
        )
    if heads.value_norms is not None:
        norms = heads.value_norms
        top = 65535 if norms.size * 2 <= NORMS_BUDGET else 255
        scale = np.maximum(norms.max(-1), np.float32(1e-30))
        levels = np.rint(norms / scale[..., None] * top)
        parts[f"{prefix}norm_levels"] = levels.astype("<u2" if top == 65535 else "u1")
        parts[f"{prefix}norm_scale"] = scale.astype("<f4")
    scores = {words: np.round(values, 3).tolist() for words, values in (heads.scores or {}).items()}
    return {
        "name": heads.name,
        "layers": n_layers,
        "heads": n_heads,
        "n": n_pos,
        "side": side,
        "tokens": [visible(token) for token in heads.tokens],
        "breaks": [i for i, token in enumerate(heads.tokens) if "\n" in token],
        "scores": scores,
        "url": heads.url,
        "causal": causal,
        "read": heads.read,
    }


def striking(
    pattern: Float[np.ndarray, "layer head query key"], *, causal: bool = True
) -> tuple[int, int]:
    """The head worth opening first: it looks most at single tokens, the first and its own aside."""
    largest_share = -1.0
    head_to_open = (0, 0)
    for layer, heads in enumerate(pattern):
        heads = np.asarray(heads, np.float32)
        elsewhere = np.tril(heads, -1) if causal else heads * (1 - np.eye(heads.shape[-1]))
        elsewhere[:, :, 0] = 0
        shares = elsewhere.max(-1).mean(-1)
        if shares.max() > largest_share:
            largest_share = float(shares.max())
            head_to_open = (layer, int(shares.argmax()))
    return head_to_open


def pack(header: Mapping[str, Any], parts: Mapping[str, np.ndarray]) -> bytes:
    """The header and the arrays in one block of bytes; each array starts at a multiple of four."""
    places: dict[str, dict[str, Any]] = {}
    pieces: list[bytes] = []
    start = 0
    for name, values in parts.items():
        piece = values.tobytes()
        piece += bytes(-len(piece) % 4)
        places[name] = {"at": start, "type": values.dtype.str[-2:], "shape": list(values.shape)}
        pieces.append(piece)
        start += len(piece)
    body = b"".join(pieces)
    full_header = {**header, "id": hashlib.sha256(body).hexdigest()[:16], "parts": places}
    encoded = json.dumps(full_header, ensure_ascii=False, allow_nan=False).encode()
    encoded += b" " * (-len(encoded) % 4)
    return len(encoded).to_bytes(4, "little") + encoded + body


def unpack(block: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the arrays that `pack` was given, read as the browser reads them."""
    length = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + length])
    body = memoryview(block)[4 + length :]
    parts = {}
    for name, place in header["parts"].items():
        dtype = np.dtype("<" + place["type"])
        count = int(np.prod(place["shape"]))
        values = np.frombuffer(body, dtype, count, place["at"])
        parts[name] = values.reshape(place["shape"])
    return header, parts
