"""Attention of short rows in bfloat16 on a CPU, where PyTorch's fused kernel is slow to go back.

The kernel's backward pass converts every block of scores one by one. For rows of up to a few
hundred tokens two batched products and a softmax, which keep the pattern, are 2 to 8 times as fast.
Scores are rounded to bfloat16 once more, as in other models' attention without fused kernels.
Transformers lets attention be exchanged by name (`AttentionInterface`).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from workbench.subjects.gpt_config import SHORT_ROWS

LONGEST = 384
"""Tokens of a row up to which keeping the pattern is faster; measured, with heads of 32 and 64."""
LARGEST = 1 << 27
"""Entries of a layer's pattern at most: each is kept in two bytes until the backward pass."""
UNWRITTEN = ("softcap", "position_bias", "s_aux", "sinks")
"""Arguments that change attention in ways which are not written out here."""


def keep_short_patterns(model: PreTrainedModel) -> None:
    """Let a model that attends through PyTorch's fused kernel treat short rows in bfloat16 apart.

    All else, such as evaluation in float32, is computed as before.
    """
    if getattr(model.config, "_attn_implementation", None) == "sdpa":
        model.set_attn_implementation(SHORT_ROWS)


def _attention(
    module: nn.Module,
    query: Float[Tensor, "batch head query d_head"],
    key: Float[Tensor, "batch kv_head key d_head"],
    value: Float[Tensor, "batch kv_head key d_value"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "batch query head d_value"], None]:
    """The attention's z, and no pattern, as transformers calls it."""
    precise = query.dtype != torch.bfloat16 and not torch.is_autocast_enabled("cpu")
    rare = any(others.get(name) is not None for name in UNWRITTEN)
    if precise or rare or _long(query, key) or query.device.type != "cpu":
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
    causal = others.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    if attention_mask is None and causal:
        attention_mask = _causal(query.shape[2], key.shape[2])
    with torch.autocast("cpu", enabled=False):
        return _written_out(query, key, value, attention_mask, scaling, dropout), None


def _long(query: Tensor, key: Tensor) -> bool:
    """Whether rows are too long, or too many, for patterns to be kept."""
    n_keys = key.shape[2]
    return n_keys > LONGEST or query.shape[:3].numel() * n_keys > LARGEST


def _causal(n_queries: int, n_keys: int) -> Tensor:
    """Which keys each query sees, `[query, key]`; the first query stands at the first key."""
    return torch.ones(n_queries, n_keys, dtype=torch.bool).tril()


def _written_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float | None,
    dropout: float,
) -> Float[Tensor, "batch query head d_value"]:
    """Attention in bfloat16 by two batched products, each of which is one call for all heads.

    Args:
        query: `[batch, head, query, d_head]`.
        key: `[batch, kv_head, key, d_head]`; each serves as many query heads as come on it.
        value: `[batch, kv_head, key, d_value]`.
        mask: Boolean (True: attend) or added to the scores; None lets all be seen.
        scaling: Of the scores; None is `d_head ** -0.5`.
        dropout: Share of the pattern that is left out.
    """
    batch, n_heads, n_queries, d_head = query.shape
    groups = n_heads // key.shape[1]
    factor = d_head**-0.5 if scaling is None else scaling
    q = query.to(torch.bfloat16).flatten(0, 1)  # (b h) q e
    k = _for_each_head(key, groups).flatten(0, 1)
    v = _for_each_head(value, groups).flatten(0, 1)
    if mask is None:
        scores = torch.bmm(q, k.mT) * factor
    else:
        added = _added(mask)
        if added.ndim > 2:  # not the causal one, which all rows and heads share
            added = added.expand(batch, n_heads, n_queries, key.shape[2]).flatten(0, 1)
        scores = torch.baddbmm(added, q, k.mT, alpha=factor)
    pattern = F.dropout(scores.softmax(-1), dropout) if dropout else scores.softmax(-1)
    z = torch.bmm(pattern, v)
    return z.view(batch, n_heads, n_queries, -1).transpose(1, 2).contiguous()


def _for_each_head(x: Tensor, groups: int) -> Tensor:
    """Keys or values in bfloat16, repeated for the query heads that share them."""
    x = x.to(torch.bfloat16)
    return x.repeat_interleave(groups, 1) if groups > 1 else x


def _added(mask: Tensor) -> Tensor:
    """A mask that is added to scores, in bfloat16: a very low number where none is seen."""
    if mask.dtype != torch.bool:
        return mask.to(torch.bfloat16)
    low = torch.finfo(torch.bfloat16).min
    return torch.zeros(mask.shape, dtype=torch.bfloat16).masked_fill_(~mask, low)


AttentionInterface.register(SHORT_ROWS, _attention)
AttentionMaskInterface.register(SHORT_ROWS, sdpa_mask)
