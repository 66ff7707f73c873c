"""What the explorer is given: the triangles of all heads, quantised, in one block of bytes.

The block is a header and numbers: four bytes with the header's length, the header as JSON, and the
parts that the header names, each with its place, type and shape. All numbers are little-endian.

A row of a triangle is whole numbers from 0 to 255 or 65,535 and one scale, its largest weight; so
a weight is off by at most 1/510 of its row's largest in 8 bits, 1/131,070 in 16. Where all heads
do not fit the budget they are pooled: a dot stands for a block of queries and a block of keys, and
is the attention that these queries give to all of these keys, averaged over the queries. So rows
still sum to 1, and a thin diagonal stays as dark as it was.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Integer

from workbench.figures.style import visible

BUDGET = 2_000_000
"""Bytes of all heads at first sight; the head in view and the lengths of values come on top."""
FILE_BUDGET = 64_000_000
"""Bytes of all heads in a file, before it is packed: 512 tokens of 270 heads fit, 1,024 do not."""
SIDES = (128, 96, 64, 48, 32, 24, 16, 12, 8)
"""Dots along a pooled head, the most that fit."""
NORMS = 600_000
"""Bytes of value lengths above which they are sent in 8 bits."""


@dataclass(frozen=True)
class Heads:
    """The attention of one prompt as the explorer needs it.

    Args:
        pattern: `[layer, head, query, key]`; no query sees a later key.
        tokens: One string a position.
        name: What it is called on the screen, such as the model's name.
        value_norms: `|v W_O|` of every key by head; None where they are not known.
        scores: Numbers of every head, by what they say, such as "to the token before".
        url: Where the browser may ask for whole triangles; "" where it cannot.
    """

    pattern: Float[np.ndarray, "layer head query key"]
    tokens: Sequence[str]
    name: str
    value_norms: Float[np.ndarray, "layer head key"] | None = None
    scores: Mapping[str, Float[np.ndarray, "layer head"]] | None = None
    url: str = ""


def quantise(
    rows: Float[np.ndarray, "... query key"], bits: int
) -> tuple[Integer[np.ndarray, "... triangle"], Float[np.ndarray, "... query"]]:
    """The lower triangle in whole numbers, row after row, and each row's scale, its largest weight.

    Args:
        rows: Weights of at least 0; what is above the diagonal is left out.
        bits: 8 or 16.
    """
    rows = np.tril(np.asarray(rows, np.float32))
    scale = rows.max(-1)
    top = 2**bits - 1
    safe = np.where(scale > 0, scale, 1).astype(np.float32)
    levels = np.rint(rows / safe[..., None] * top).astype("<u2" if bits == 16 else "u1")
    query, key = np.tril_indices(rows.shape[-1])
    return levels[..., query, key], scale.astype("<f4")


def restore(
    levels: Integer[np.ndarray, "... triangle"], scale: Float[np.ndarray, "... query"]
) -> Float[np.ndarray, "... query key"]:
    """The rows that `quantise` was given, as near as the levels are."""
    n = scale.shape[-1]
    query, key = np.tril_indices(n)
    top = np.float32(np.iinfo(levels.dtype).max)
    rows = np.zeros((*levels.shape[:-1], n, n), np.float32)
    rows[..., query, key] = levels / top * scale[..., query]
    return rows


def pooled(
    pattern: Float[np.ndarray, "head query key"], side: int
) -> Float[np.ndarray, "head {side} {side}"]:
    """Attention of blocks of queries to blocks of keys: summed over keys, averaged over queries."""
    n = pattern.shape[-1]
    starts = np.arange(side) * n // side
    sizes = np.diff(np.append(starts, n))
    over_queries = np.add.reduceat(np.asarray(pattern, np.float32), starts, axis=1)
    return np.add.reduceat(over_queries, starts, axis=2) / sizes[:, None]


def resolution(n_heads: int, n_pos: int, budget: int) -> tuple[int, int]:
    """The dots along a head and the bits of a weight with which so many heads fit the budget."""
    for bits in (16, 8):
        if n_heads * n_pos * (n_pos + 1) // 2 * bits // 8 <= budget:
            return n_pos, bits
    for side in SIDES:
        if side < n_pos and n_heads * (side * (side + 1) // 2 + 4 * side) <= budget:
            return side, 8
    return min(n_pos, SIDES[-1]), 8


def payload(
    shown: Heads,
    *,
    chosen: tuple[int, int],
    other: Heads | None = None,
    budget: int = BUDGET,
    words: Mapping[str, Any] | None = None,
) -> bytes:
    """Everything that the explorer shows at first sight.

    Args:
        shown: The attention.
        chosen: The head that is open; it comes whole, in 16 bits, also where the others are pooled.
        other: Attention over as many tokens by as many heads, to be subtracted: another model's, or
            on another prompt.
        budget: Bytes that all heads may take.
        words: More for the header, such as a title.
    """
    parts: dict[str, np.ndarray] = {}
    header: dict[str, Any] = {
        "chosen": list(chosen),
        **_source(shown, parts, "", chosen, budget // (1 if other is None else 2)),
        **(words or {}),
    }
    if other is not None:
        header["other"] = _source(other, parts, "other_", chosen, budget // 2)
    return pack(header, parts)


def _source(
    heads: Heads, parts: dict[str, np.ndarray], prefix: str, chosen: tuple[int, int], budget: int
) -> dict[str, Any]:
    """Add the numbers of one attention to the parts, and say in words what they are."""
    n_layers, n_heads, n_pos = heads.pattern.shape[:3]
    side, bits = resolution(n_layers * n_heads, n_pos, budget)
    found = [
        quantise(layer if side == n_pos else pooled(layer, side), bits) for layer in heads.pattern
    ]
    parts[f"{prefix}levels"] = np.stack([levels for levels, _ in found])
    parts[f"{prefix}scale"] = np.stack([scale for _, scale in found])
    if side < n_pos:
        one = np.asarray(heads.pattern[chosen], np.float32)
        parts[f"{prefix}one_levels"], parts[f"{prefix}one_scale"] = quantise(one, 16)
    if heads.value_norms is not None:
        norms = heads.value_norms
        top = 65535 if norms.size * 2 <= NORMS else 255
        scale = np.maximum(norms.max(-1), np.float32(1e-30))
        levels = np.rint(norms / scale[..., None] * top)
        parts[f"{prefix}norm_levels"] = levels.astype("<u2" if top == 65535 else "u1")
        parts[f"{prefix}norm_scale"] = scale.astype("<f4")
    scores = {word: np.round(values, 3).tolist() for word, values in (heads.scores or {}).items()}
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
    }


def striking(pattern: Float[np.ndarray, "layer head query key"]) -> tuple[int, int]:
    """The head worth opening first: it looks most at single tokens, the first and its own aside."""
    best, found = -1.0, (0, 0)
    for layer, heads in enumerate(pattern):
        elsewhere = np.tril(np.asarray(heads, np.float32), -1)
        elsewhere[:, :, 0] = 0
        shares = elsewhere.max(-1).mean(-1)
        if shares.max() > best:
            best, found = float(shares.max()), (layer, int(shares.argmax()))
    return found


def pack(header: Mapping[str, Any], parts: Mapping[str, np.ndarray]) -> bytes:
    """The header and the parts in one block; each part starts at a multiple of four."""
    places, pieces, at = {}, [], 0
    for name, values in parts.items():
        data = values.tobytes()
        data += bytes(-len(data) % 4)
        places[name] = {"at": at, "type": values.dtype.str[-2:], "shape": list(values.shape)}
        pieces.append(data)
        at += len(data)
    body = b"".join(pieces)
    whole = {**header, "id": hashlib.sha256(body).hexdigest()[:16], "parts": places}
    words = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode()
    words += b" " * (-len(words) % 4)
    return len(words).to_bytes(4, "little") + words + body


def unpack(block: bytes) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The header and the parts that `pack` was given, as the browser reads them."""
    length = int.from_bytes(block[:4], "little")
    header = json.loads(block[4 : 4 + length])
    body = memoryview(block)[4 + length :]
    parts = {}
    for name, place in header["parts"].items():
        kind = np.dtype("<" + place["type"])
        count = int(np.prod(place["shape"]))
        values = np.frombuffer(body, kind, count, place["at"])
        parts[name] = values.reshape(place["shape"])
    return header, parts
