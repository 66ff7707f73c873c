"""Attention written out for encoders and encoder-decoders, open to whoever wants to look or change.

Transformers lets attention be exchanged by name (`AttentionInterface`). Blocks of such a model call
the function here, one after another in an order that never changes, so the number of the call says
which attention it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

NAME = "workbench_stacks"
FIELDS = ("q", "k", "v", "pattern", "z")
"""What passes here, `[batch, head, pos, d_head]`; pattern `[batch, head, query, key]`."""
UNKNOWN = ("s_aux", "sinks", "head_mask", "attention_bias", "softcap")
"""Additions to attention that are not written out here."""

Touch = Callable[[int, str, Tensor], Tensor]
"""(number of the call, field, activation) -> the activation that goes on."""


class UnknownAttentionError(Exception):
    """The model's attention has an addition that is not written out here."""


@dataclass
class _Pass:
    touch: Touch
    call: int = 0


_PASS: ContextVar[_Pass | None] = ContextVar("stacks_pass", default=None)


@contextmanager
def touched(touch: Touch) -> Iterator[None]:
    """Pass every activation of every attention through `touch` while the context lasts."""
    token = _PASS.set(_Pass(touch))
    try:
        yield
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
) -> tuple[Float[Tensor, "batch query head d_value"], None]:
    """What the model's attention calls: `softmax(q k^T * scaling + bias + mask) v`.

    The mask comes from transformers' eager masks: None where every query sees every key.
    """
    state = _PASS.get()
    if any(more.get(word) is not None for word in UNKNOWN):
        raise UnknownAttentionError

    def touch(field: str, x: Tensor) -> Tensor:
        return x if state is None else state.touch(state.call, field, x)

    query = touch("q", query)
    key = touch("k", key)
    value = touch("v", value)
    groups = query.shape[1] // key.shape[1]
    scores = query @ key.repeat_interleave(groups, 1).transpose(-2, -1)
    scores = scores * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    for added in (more.get("position_bias"), attention_mask):
        scores = scores if added is None else scores + added[..., : key.shape[-2]]
    pattern = touch("pattern", scores.softmax(-1))
    z = touch("z", pattern @ value.repeat_interleave(groups, 1))
    if state is not None:
        state.call += 1
    return z.transpose(1, 2), None


AttentionInterface.register(NAME, _attention)
AttentionMaskInterface.register(NAME, eager_mask)


def put_in(model: Any) -> None:
    """Exchange the attention of a model (a clone) for the one that is written out here."""
    model.set_attn_implementation(NAME)
    # Each stack of an encoder-decoder has a configuration of its own.
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and hasattr(config, "_attn_implementation_internal"):
            config._attn_implementation_internal = NAME
