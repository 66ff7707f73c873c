"""One tiny random model of every family that the loader promises, in float64."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import transformers as t

from tests.conftest import tiny_gpt

HF: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
GQA: dict[str, Any] = {**HF, "num_key_value_heads": 2}
GPT2: dict[str, Any] = {
    "vocab_size": 100,
    "n_embd": 32,
    "n_layer": 3,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": None,
}
SLIDING: dict[str, Any] = {"head_dim": 8, "sliding_window": 4}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]

FAMILIES: dict[str, Callable[[], t.PreTrainedModel]] = {
    "gpt2": lambda: t.GPT2LMHeadModel(t.GPT2Config(**GPT2, eos_token_id=None)),
    "neox": lambda: t.GPTNeoXForCausalLM(t.GPTNeoXConfig(**HF)),
    "llama": lambda: t.LlamaForCausalLM(t.LlamaConfig(**GQA)),
    "mistral": lambda: t.MistralForCausalLM(t.MistralConfig(**GQA, sliding_window=4)),
    "qwen2": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**GQA)),
    "qwen3": lambda: t.Qwen3ForCausalLM(t.Qwen3Config(**GQA, head_dim=8)),
    "gemma2": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**GQA, **SLIDING)),
    "gemma3": lambda: t.Gemma3ForCausalLM(
        t.Gemma3TextConfig(**GQA, **SLIDING, query_pre_attn_scalar=8, layer_types=LAYERS)
    ),
    **{
        f"workbench-{p}": partial(
            tiny_gpt, positions=p, n_layers=3, n_kv_heads=2, qk_norm=p == "rotary"
        )
        for p in ("learned", "sinusoidal", "rotary", "alibi", "none")
    },
}

NORMED_TOGETHER: dict[str, Callable[[], t.PreTrainedModel]] = {
    "olmo2": lambda: t.Olmo2ForCausalLM(t.Olmo2Config(**GQA))
}
"""One norm over the queries of all heads; what leaves a part is normed too, so circuits and the
anatomy refuse them.
"""


def make(family: str) -> t.PreTrainedModel:
    """The model, with matrices drawn wide enough that every head does something."""
    torch.manual_seed(0)
    model = (FAMILIES | NORMED_TOGETHER)[family]()
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
    return model.double().eval()
