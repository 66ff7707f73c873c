"""What passes between the packed engine and its callers: a recorded run, patched runs that branch
off it, edits.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass
class Recording:
    """What one ordinary forward pass leaves behind, for each layer; `batch` is the prompts' axis.

    `resid` has n_layers + 1 entries `[batch, pos, d_model]` (the last is `resid_post` of the last
    layer), `mid` is the stream between attention and MLP (of parallel blocks meaningless),
    `attn_out` and `mlp_out` what enters the stream (after a norm or a factor, where the model has
    one), `post` the neurons `[batch, pos, d_mlp]` (of experts none), `z` what is projected into
    attention's output `[batch, pos, head, d_head]`.

    The packed engine also keeps `attended`, what attention gathered (z but for a gate), queries
    `[batch, head, pos, d_head]`, keys and values `[batch, kv_head, pos, d_head]` after rotary
    turns, each layer's other
    `arguments`, and `scaling`: of the scores, their softcap and their sinks.
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
    """What a branch has replaced further up: `site` (attn_out, mlp_out, z or post) of `layer` at
    positions `pos`.

    `value` is `[n, row, ...]`, of z with heads `[n, row, head, d_head]`; only `heads` (or neurons)
    of it where given.
    """

    layer: int
    site: str
    pos: Int[Tensor, " row"]
    value: Tensor
    heads: list[int] | None = None


@dataclass
class Branches:
    """`n` patched runs that differ from the target run from position `pos` on: rows `[n, n_pos -
    pos, d_model]`.

    They enter before layer `layer` (n_layers: straight to the readout); `make` computes the rows
    when they do. `key` is the caller's.
    """

    layer: int
    pos: int
    n: int
    make: Callable[[], Float[Tensor, "n suffix d_model"]]
    key: Any = None
    edits: list[Edit] = field(default_factory=list)
