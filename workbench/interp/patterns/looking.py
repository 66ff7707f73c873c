"""Attention patterns while a model runs, through transformers' attention interface, without hooks.

Each layer's pattern is computed, passed on, and dropped before the next, so memory does not grow
with depth; the run ends at the last layer's attention.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from workbench.subjects import Subject
from workbench.subjects.bridge import CHECKED, HALF_TOLERANCE, TOLERANCE, shared_clone

NAME = "workbench_looking"
BLOCK = 128
"""Queries at once on the CPU: their rows stay in its cache, and later keys are left out."""
UNREAD = ("s_aux", "sinks", "position_bias", "head_mask", "attention_bias")
"""Additions to attention that are not written out here; TransformerLens's hooks read those."""

See = Callable[
    [int, Float[Tensor, "batch head query key"], Float[Tensor, "batch kv_head key d_head"]], None
]
"""Gets a layer's number, pattern and values."""


@dataclass
class _Look:
    see: See
    n_layers: int
    seen: int = 0


class _SeenError(Exception):
    """Ends the run once the last layer's attention was seen."""


class UnreadableError(Exception):
    """The model's attention bypasses the interface, or is of a kind not written out here."""


_LOOK: ContextVar[_Look | None] = ContextVar("look", default=None)
_CLONES: WeakKeyDictionary[Subject, Any] = WeakKeyDictionary()


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
    """What the model's attention calls: attention written out, its pattern shown."""
    look = _LOOK.get()
    if look is None or any(more.get(word) is not None for word in UNREAD):
        raise UnreadableError
    pattern = written_out(query, key, attention_mask, scaling, more.get("softcap"))
    look.see(look.seen, pattern, value)
    look.seen += 1
    if look.seen == look.n_layers:
        raise _SeenError
    groups = query.shape[1] // key.shape[1]
    batch, _, n_pos, _ = query.shape
    # Query heads that share values are rows of one product: nothing is copied.
    z = pattern.to(value.dtype).view(batch, -1, groups * n_pos, key.shape[2]) @ value
    return z.view(batch, -1, n_pos, value.shape[-1]).transpose(1, 2), None


def written_out(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    mask: Tensor | None,
    scaling: float | None,
    softcap: float | None,
) -> Float[Tensor, "batch head query key"]:
    """The attention pattern `softmax(q k^T * scaling + mask)`.

    Args:
        query: Queries.
        key: Keys; several heads may share one (grouped queries).
        mask: Boolean (True may be looked at) or added to the scores; None means causal.
        scaling: Factor of the scores; None for `d_head ** -0.5`.
        softcap: Bound of the scores, kept by a tanh; None for none.
    """
    query = query * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    n_queries = query.shape[2]
    n_keys = key.shape[2]
    if mask is None:
        mask = torch.ones(n_queries, n_keys, dtype=torch.bool, device=query.device).tril(
            n_keys - n_queries
        )
    mask = mask[..., :n_keys]
    if n_queries <= BLOCK or query.device.type != "cpu":
        return _rows(query, key, mask, softcap)
    dtype = torch.promote_types(query.dtype, torch.float32)
    pattern = torch.empty(*query.shape[:3], n_keys, dtype=dtype)
    for start in range(0, n_queries, BLOCK):
        rows = slice(start, start + BLOCK)
        seen = _reach(mask[..., rows, :])
        part = _rows(query[:, :, rows], key[:, :, :seen], mask[..., rows, :seen], softcap)
        pattern[:, :, rows, :seen] = part
        pattern[:, :, rows, seen:] = 0
    return pattern


def _reach(mask: Tensor) -> int:
    """The number of keys up to the last one that any of a mask's queries may look at."""
    if mask.dtype != torch.bool:
        return mask.shape[-1]
    looked_at = mask.flatten(0, -2).any(0).nonzero()
    return int(looked_at[-1]) + 1 if len(looked_at) else mask.shape[-1]


def _rows(
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    mask: Tensor,
    softcap: float | None,
) -> Float[Tensor, "batch head query key"]:
    """The pattern of scaled queries."""
    batch, n_heads, n_queries, d_head = query.shape
    n_keys = key.shape[2]
    grouped = query.reshape(batch, key.shape[1], -1, d_head)
    scores = (grouped @ key.transpose(-2, -1)).view(batch, n_heads, n_queries, n_keys)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    # In place: the scores are ours, and as large as the pattern.
    scores = scores.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    return scores.softmax(-1, dtype=torch.promote_types(scores.dtype, torch.float32))


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, sdpa_mask)


def _checked_clone(subject: Subject) -> Any:
    """A clone whose attention shows its patterns; None if its logits differ from the model's.

    A model may change scores outside the interface, or attend more than once per layer.
    """
    clone = shared_clone(subject.model)
    clone.set_attn_implementation(NAME)
    ids = (torch.arange(1, CHECKED + 1, device=subject.device) % subject.card.d_vocab)[None]
    look = _Look(lambda layer, pattern, values: None, -1)
    token = _LOOK.set(look)
    try:
        ours = clone(input_ids=ids, use_cache=False).logits
    except UnreadableError:
        return None
    finally:
        _LOOK.reset(token)
    theirs = subject.model(input_ids=ids, use_cache=False).logits
    limit = TOLERANCE if theirs.dtype in (torch.float32, torch.float64) else HALF_TOLERANCE
    close = (ours - theirs).abs().max() <= limit * theirs.abs().max()
    return clone if close and look.seen == subject.card.n_layers else None


@torch.no_grad()
def look_through(subject: Subject, ids: Int[Tensor, "batch pos"], see: See) -> None:
    """Run the model up to its last attention and pass on every layer's pattern.

    Args:
        subject: The model.
        ids: Token ids.
        see: Called with each layer's number, pattern and values.

    Raises:
        UnreadableError: Some layers attend in another way. `see` may have been called before.
    """
    if not getattr(subject.model, "_supports_attention_backend", False):
        raise UnreadableError
    if subject not in _CLONES:
        _CLONES[subject] = _checked_clone(subject)
    clone = _CLONES[subject]
    if clone is None:
        raise UnreadableError
    look = _Look(see, subject.card.n_layers)
    token = _LOOK.set(look)
    try:
        clone(input_ids=ids, use_cache=False)
    except _SeenError:
        return
    finally:
        _LOOK.reset(token)
    raise UnreadableError  # it ended by itself: some layers attend in another way
