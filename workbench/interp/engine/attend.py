"""Attention of the packed engine: the function that a model's blocks call in place of their own.

Transformers lets attention be exchanged by name (`AttentionInterface`). What the exchanged one does
depends on the pass under way: record queries, keys and values; hand back an output that is already
known; stop after the projections; or let packed rows attend to a recorded run.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from workbench.interp.engine.branches import Recording

NAME = "workbench_packed"

Group = tuple[int, list[int]]
"""Runs of a packed row that start at one position: the position, and the prompt of each run."""


@dataclass
class Pass:
    """The state of the pass under way: recording, or packed rows against a recorded target.

    - `groups`: the runs in the order of the packed row
    - `prompt`: of a pass over one block, which prompt of the target it belongs to
    - `z`: attention's output where it is known already, `[1, row, head, d_head]`
    - `only_projects`: stop once queries, keys and values are there
    """

    recording: Recording | None = None
    target: Recording | None = None
    prompt: int = 0
    layer: int = 0
    groups: list[Group] = field(default_factory=list)
    z: Tensor | None = None
    only_projects: bool = False


class ProjectedError(Exception):
    """Carries queries, keys, values and how they are scored out of a block, which ends there."""


# A context variable and not an attribute: two threads may run two engines at once.
_PASS: ContextVar[Pass | None] = ContextVar("packed_pass", default=None)


@contextmanager
def active(state: Pass) -> Iterator[Pass]:
    """Make `state` the pass under way while the context lasts."""
    token = _PASS.set(state)
    try:
        yield state
    finally:
        _PASS.reset(token)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **more: Any,
) -> tuple[Tensor, None]:
    """The output `[batch, query, head, d_head]` that the pass under way asks for."""
    state = _PASS.get()
    softcap = more.get("softcap")
    sinks = more.get("s_aux")
    # An ordinary run, recorded or not: all queries over all keys.
    if state is None or state.recording is not None:
        out = attend(query, key, value, attention_mask, scaling, softcap, sinks).transpose(1, 2)
        if state is not None and state.recording is not None:
            recording = state.recording
            recording.scaling.append((scaling, softcap, sinks))
            recording.queries.append(query)
            recording.keys.append(key)
            recording.values.append(value)
            recording.attended.append(out)
        return out, None
    # One block at known attention: what this function would work out is given already.
    if state.z is not None:
        return state.z, None
    if state.only_projects:
        # The only way out of a block half-way that needs no knowledge of its code.
        raise ProjectedError(query, key, value, (scaling, softcap, sinks))
    return packed_attention(state, query, key, value, (scaling, softcap, sinks)), None


def packed_attention(
    state: Pass,
    query: Float[Tensor, "1 head row d_head"],
    key: Float[Tensor, "1 kv_head row d_head"],
    value: Float[Tensor, "1 kv_head row d_value"],
    how: tuple[float | None, float | None, Tensor | None],
    last: int | None = None,
) -> Float[Tensor, "1 looking head d_value"]:
    """Each run of the packed row attends to the recorded prefix and to its own rows, no others.

    Args:
        state: The pass, whose groups say which rows make a run.
        query: Queries of all rows.
        key: Keys of all rows.
        value: Values of all rows.
        how: Scaling, softcap and sinks, as `attend` takes them.
        last: Rows of each run that look, from its end; None for all.
    """
    assert state.target is not None
    keys = state.target.keys[state.layer]  # [prompt, kv_head, pos, d_head]
    values = state.target.values[state.layer]
    n_pos = keys.shape[-2]
    mask = _added(state.target.arguments[state.layer].get("attention_mask"), n_pos, query)
    parts = []
    start = 0
    for pos, prompts in state.groups:
        # Runs that branch off at one position have rows of one length, so they make a batch.
        n = len(prompts)
        rows = slice(start, start + n * (n_pos - pos))
        start = rows.stop
        q, k, v = (x[0, :, rows].unflatten(1, (n, -1)).transpose(0, 1) for x in (query, key, value))
        # [n, head, n_pos - pos, d_head]: before them the recorded keys and values of its prompt.
        k = torch.cat([_of_each(keys, prompts)[:, :, :pos], k], dim=2)
        v = torch.cat([_of_each(values, prompts)[:, :, :pos], v], dim=2)
        own_mask = _of_each(mask, prompts)[:, :, pos:]
        if last is not None:
            q = q[:, :, -last:]
            own_mask = own_mask[:, :, -last:]
        out = attend(q, k, v, own_mask, *how)
        parts.append(out.transpose(1, 2).flatten(0, 1))  # [n * looking, head, d_head]
    return torch.cat(parts).unsqueeze(0)


def _added(
    mask: Bool[Tensor, "prompt _head query key"] | Float[Tensor, "prompt _head query key"] | None,
    n_pos: int,
    like: Tensor,
) -> Float[Tensor, "prompt _head query key"]:
    """A recorded mask as what is added to the scores, which is what PyTorch makes of it each time.

    Args:
        mask: As in `attend`; None means causal. One for all heads, or one for each.
        n_pos: Positions of the recorded run.
        like: A tensor of the wanted type and device.
    """
    if mask is None:
        mask = torch.ones(1, 1, n_pos, n_pos, dtype=torch.bool, device=like.device).tril()
    mask = mask[:, :, :n_pos, :n_pos]
    if mask.dtype != torch.bool:
        return mask
    added = torch.zeros(mask.shape, dtype=like.dtype, device=like.device)
    return added.masked_fill_(~mask, -torch.inf)


def _of_each(recorded: Tensor, prompts: list[int]) -> Tensor:
    """What was recorded `[prompt, ...]` of the prompt of each run, `[n, ...]`."""
    first = prompts[0]
    if len(recorded) == 1:
        # A mask without a batch of its own serves every prompt.
        return recorded.expand(len(prompts), *recorded.shape[1:])
    if all(prompt == first for prompt in prompts):
        return recorded[first].expand(len(prompts), *recorded.shape[1:])
    return recorded[torch.tensor(prompts, device=recorded.device)]


def attend(
    q: Float[Tensor, "batch head query d_head"],
    k: Float[Tensor, "batch kv_head key d_head"],
    v: Float[Tensor, "batch kv_head key d_value"],
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Float[Tensor, "batch head query d_value"]:
    """Attention of the last queries over all keys.

    Args:
        q: Queries; the last one stands where the last key stands.
        k: Keys; several heads may share one (grouped queries).
        v: Values.
        mask: Boolean (True may be looked at) or added to the scores, `[batch, head, query, key]`;
            None means causal.
        scaling: Factor of the scores; None for `d_head ** -0.5`.
        softcap: Bound of the scores, kept by a tanh (Gemma 2); None for none.
        sinks: One score a head for a key that has no value (GPT-OSS); None for none.
    """
    n_queries = q.shape[-2]
    n_keys = k.shape[-2]
    if mask is None:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q.device)
        mask = mask.tril(n_keys - n_queries)
    if softcap is None and sinks is None:
        grouped = q.shape[1] != k.shape[1]
        return F.scaled_dot_product_attention(q, k, v, mask, scale=scaling, enable_gqa=grouped)
    # PyTorch's fused kernel knows neither softcaps nor sinks, so these are written out.
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    # [batch, head, query, key]
    scores = q @ k.transpose(-2, -1) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if sinks is None:
        return scores.softmax(-1) @ v
    # [batch, head, query, 1]: the same score for every query.
    column = sinks.to(scores).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    # The sink takes its share of the softmax and gives nothing, so its column is dropped after it.
    return torch.cat([scores, column], -1).softmax(-1)[..., :-1] @ v


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)
