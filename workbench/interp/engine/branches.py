"""Records of the packed engine: a recorded run, patched runs that branch off it, their edits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Recording:
    """The activations of one ordinary forward pass, one list entry per layer.

    - `resid`: the residual stream `[batch, pos, d_model]`; n_layers + 1 entries, of which the last
        is `resid_post` of the last layer
    - `mid`: the stream between attention and MLP (without meaning for parallel blocks)
    - `attn_out`, `mlp_out`: what enters the stream, after the model's own norm or factor there
    - `post`: the neurons `[batch, pos, d_mlp]` (empty for mixtures of experts)
    - `z`: what is projected into attention's output `[batch, pos, head, d_head]`
    - `arguments`: each block's other arguments
    - `logits`: `[batch, pos, vocab]`

    Only the packed engine fills these:

    - `attended`: what attention gathered (z before a gate), laid out as `z`
    - `queries` `[batch, head, pos, d_head]`, `keys` and `values` `[batch, kv_head, pos, d_head]`,
        after rotary turns
    - `scaling`: the scores' factor, their softcap and their sinks
    """

    resid: list[Tensor] = field(default_factory=list)
    mid: list[Tensor] = field(default_factory=list)
    post: list[Tensor] = field(default_factory=list)
    queries: list[Tensor] = field(default_factory=list)
    attn_out: list[Tensor] = field(default_factory=list)
    mlp_out: list[Tensor] = field(default_factory=list)
    z: list[Tensor] = field(default_factory=list)
    attended: list[Tensor] = field(default_factory=list)
    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)
    arguments: list[dict[str, Any]] = field(default_factory=list)
    scaling: list[tuple[float | None, float | None, Tensor | None]] = field(default_factory=list)
    logits: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass
class Edit:
    """One activation that a branch has replaced in a layer above the one where it starts.

    - `layer`, `site` (attn_out, mlp_out, z or post), `pos`: where
    - `value`: `[n, row, ...]`, for z `[n, row, head, d_head]`
    - `heads`: the heads or neurons that are replaced; None for all
    """

    layer: int
    site: str
    pos: Int[Tensor, " row"]
    value: Tensor
    heads: list[int] | None = None


@dataclass
class Branches:
    """`n` patched runs that differ from the target run from position `pos` on.

    - `layer`: they start before this layer; n_layers means after the last one
    - `make`: computes their stream there `[n, n_pos - pos, d_model]`, called when it is needed
    - `key`: the caller's own label
    - `edits`: activations that are replaced in layers above
    - `prompt`: which prompt of the target run they differ from
    """

    layer: int
    pos: int
    n: int
    make: Callable[[], Float[Tensor, "n suffix d_model"]]
    key: Any = None
    edits: list[Edit] = field(default_factory=list)
    prompt: int = 0
