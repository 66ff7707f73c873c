"""Tiny random models of every causal language model family in transformers.

They are built from the configuration classes, which are dataclasses: each field that `SMALL` knows
is set to its value there, and `OWN` holds what a family needs besides. Nothing is downloaded.
Families that cannot be made tiny are reported with the reason.
"""

import dataclasses
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from workbench.errors import WorkbenchError
from workbench.subjects.load import load
from workbench.subjects.modules import moved
from workbench.subjects.subject import Subject
from workbench.subjects.tokenizer import train_tokenizer

D_VOCAB = 300
N_CTX = 64
D_MODEL = 32
N_LAYERS = 2
N_HEADS = 4
N_KV_HEADS = 2
MOST_PARAMETERS = 3_000_000
"""Largest model that counts as tiny; a larger one has a size that `SMALL` does not know."""
WIDTH = 0.15
"""Standard deviation of every matrix, large enough that each head does something."""
END = 0
"""Token id for BOS, EOS and padding."""

SMALL: dict[str, Any] = {
    "vocab_size": D_VOCAB,
    # widths
    **dict.fromkeys(
        ("hidden_size", "n_embd", "d_model", "emb_dim", "dim", "embedding_size"), D_MODEL
    ),
    **dict.fromkeys(
        ("word_embed_proj_dim", "input_embedding_size", "output_embedding_size"), D_MODEL
    ),
    **dict.fromkeys(
        ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "dff", "d_inner", "ffn_hidden_size"), 64
    ),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "feed_forward_size", "dim_ff"), 64),
    **dict.fromkeys(
        ("intermediate_size_mlp", "shared_intermediate_size", "dense_intermediate_size"), 64
    ),
    **dict.fromkeys(("moe_intermediate_size", "expert_ffn_hidden_size", "block_ff_dim"), 32),
    **dict.fromkeys(("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size"), 32),
    "shared_experts_intermediate_size": 32,
    # layers
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), N_LAYERS
    ),
    **dict.fromkeys(
        ("encoder_layers", "num_encoder_layers", "num_decoder_layers", "num_blocks"), N_LAYERS
    ),
    # heads
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"), N_HEADS
    ),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), N_HEADS),
    **dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), N_HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads"), N_KV_HEADS),
    "swa_num_attention_heads": N_HEADS,
    **dict.fromkeys(
        (
            "head_dim",
            "swa_head_dim",
            "dim_head",
            "attention_head_size",
            "kv_channels",
            "v_head_dim",
        ),
        8,
    ),
    **dict.fromkeys(("qk_nope_head_dim", "global_head_dim", "swa_v_head_dim"), 8),
    **dict.fromkeys(("qk_rope_head_dim", "rotary_dim"), 4),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    # context
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"), N_CTX
    ),
    **dict.fromkeys(
        ("max_target_positions", "sliding_window", "window_size", "local_attention"), N_CTX
    ),
    # experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(
        ("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "moe_num_experts_per_tok"), 2
    ),
    **dict.fromkeys(("n_group", "topk_group", "n_shared_experts", "moe_num_shared_experts"), 1),
    # state-space and linear attention
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(
        ("mamba_d_head", "mamba_head_dim", "linear_key_head_dim", "linear_value_head_dim"), 8
    ),
    **dict.fromkeys(("linear_head_dim",), 8),
    **dict.fromkeys(("linear_num_heads", "linear_num_key_heads", "linear_num_value_heads"), 4),
    **dict.fromkeys(("mamba_num_heads", "mamba_n_heads"), 8),
    **dict.fromkeys(("mamba_n_groups", "n_groups"), 1),
    # odds and ends
    "pronunciation_vocab_size": D_VOCAB,
    "shape_vocab_size": D_VOCAB,
    "vocab_size_per_layer_input": D_VOCAB,
    "hidden_size_per_layer_input": 8,
    "image_size": 16,
    "patch_size": 8,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), END),
}
"""Values of configuration fields; a configuration gets those of its own fields."""

MIXED = {"layer_types": ["linear_attention", "full_attention"]}
"""One layer with linear attention, one with full attention."""
CONVOLVED = {"layer_types": ["conv", "full_attention"]}
QWEN4 = {"layer_types": ["linear_attention", "indexed_attention"]}
INKLING = {"unpadded_vocab_size": D_VOCAB}
OWN: dict[str, dict[str, Any]] = {
    "bailing_hybrid": MIXED,
    "bamba": {"attn_layer_indices": [1], "mamba_n_heads": 8},
    "cohere_compass_text": {"layer_types": ["full_attention", "full_attention"]},
    "dots3_note_text": {"num_key_value_heads": N_HEADS},
    "dbrx": {"ffn_config": {"ffn_hidden_size": 64, "moe_num_experts": 4, "moe_top_k": 2}},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_ssm": 64, "mamba_d_head": 8},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
        "laurel_rank": 8,
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": MIXED,
    "inkling2_loop_text": INKLING,
    "inkling2_text": INKLING,
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": MIXED,
    "lfm2": CONVOLVED,
    "lfm2_moe": CONVOLVED,
    "lfm3": CONVOLVED,
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "qwen3_5_moe_text": MIXED,
    "qwen3_5_text": MIXED,
    "qwen3_next": MIXED,
    "qwen4_exp_text": QWEN4,
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "reformer": {
        "attn_layers": ["local", "local"],
        "axial_pos_embds": False,
        "local_attn_chunk_length": 16,
    },
    "xmod": {"default_language": "en_XX"},
    "zamba": {"layers_block_type": ["linear_attention", "hybrid"], "attention_head_dim": 16},
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid"],
        "hybrid_layer_ids": [1],
        "attention_head_dim": 16,
        "mamba_headdim": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
    "longcat_flash": {"head_dim": 4},
}
"""Further fields that a family needs, by model type."""


def families() -> list[str]:
    """The model type of every causal language model in transformers, sorted."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def small_config(family: str) -> PretrainedConfig:
    """The configuration of a family with every size made small."""
    return _filled(CONFIG_MAPPING[family], OWN.get(family, {}))


def _filled(kind: type[PretrainedConfig], own: dict[str, Any]) -> PretrainedConfig:
    fields = {field.name for field in dataclasses.fields(kind)}
    values = {name: value for name, value in SMALL.items() if name in fields}
    if "kv_lora_rank" in fields:  # latent attention has keys and values for every head
        values["num_key_value_heads"] = N_HEADS
    if "is_decoder" in fields:
        values["is_decoder"] = True
    own = OWN.get(kind.model_type, {}) | own
    sub_configs = cast("dict[str, type[PretrainedConfig]]", kind.sub_configs)
    for name, inner in sub_configs.items():
        if dataclasses.is_dataclass(inner):
            values[name] = _filled(inner, own.get(name, {})).to_dict()
    return kind(**{**values, **own})


def build(family: str, *, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A tiny random model of a family, the same at every call.

    Args:
        family: A model type of `families()`.
        dtype: Dtype of the weights.

    Raises:
        WorkbenchError: The configuration cannot be made tiny, or the model cannot be built.
    """
    try:
        config = small_config(family)
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if size > MOST_PARAMETERS:
            raise WorkbenchError(f"A tiny {family} still has {size:,} parameters; it is left out.")
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config)
    except WorkbenchError:
        raise
    except Exception as error:  # families raise anything for sizes they refuse
        why = (str(error).strip() or type(error).__name__).splitlines()[-1][:160]
        raise WorkbenchError(f"A tiny {family} cannot be built: {why}") from error
    for parameter in model.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, 0, WIDTH)
    return moved(model, dtype).eval()


TEXT = (
    "When Mary and John went to the store, John gave a drink to Mary. The cat sat on the mat, and "
    "the dog slept. Then Anna and Peter walked home, and Peter gave the book to Anna.\n"
)


def write(family: str, folder: Path) -> Path:
    """Write a tiny model of a family with a BPE tokenizer to a folder, and return the folder.

    Raises:
        WorkbenchError: As `build`.
    """
    model = build(family)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    train_tokenizer([TEXT * 50], "bpe", D_VOCAB).save_pretrained(folder)
    return folder


def subject(family: str, folder: Path) -> Subject:
    """A tiny model of a family, written below a folder and loaded as a Subject.

    Raises:
        WorkbenchError: As `build` and `load`.
    """
    return load(write(family, folder / family), device="cpu")
