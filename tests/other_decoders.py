"""One tiny random model of many decoders beyond `tests.families`, and how each one writes into its
stream, by hand.

What is written down here is read off the models' own code, not found by the workbench: it is what
the workbench is held against.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import transformers as t

from tests.families import GPT2, GQA, HF, SLIDING

MOE: dict[str, Any] = {**GQA, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2}
DEEP: dict[str, Any] = {
    **HF,
    "moe_intermediate_size": 16,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 6,
    "n_group": 1,
    "topk_group": 1,
    "num_key_value_heads": 4,
}
SMALL: dict[str, Any] = {
    "vocab_size": 100,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
}
GPTJ: dict[str, Any] = {**GPT2, "rotary_dim": 4, "eos_token_id": None}
OPT: dict[str, Any] = {
    **SMALL,
    "ffn_dim": 64,
    "word_embed_proj_dim": 32,
    "max_position_embeddings": 64,
}


@dataclass(frozen=True)
class Decoder:
    """How to make one, and how its blocks write.

    - `attn`, `mlp`: the modules of a block whose output enters the stream, times `scale`
    - `adds`: those of the two whose output already contains the stream
    - `o`, `down`: the projections from heads and from neurons (None for experts); `layers`: the
        list of blocks
    """

    make: Callable[[], Any]
    attn: str = "self_attn"
    mlp: str = "mlp"
    o: str = "self_attn.o_proj"
    down: str | None = "mlp.down_proj"
    layers: str = "model.layers"
    scale: float = 1.0
    adds: tuple[str, ...] = ()
    parallel: bool = False


def _of(name: str, **config: Any) -> Callable[[], Any]:
    def make() -> Any:
        kind = {"gemma3": "Gemma3Text"}.get(name, name)
        return getattr(t, f"{kind}ForCausalLM")(getattr(t, f"{kind}Config")(**config))

    return make


NORMED: dict[str, Any] = {"attn": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}
GPT: dict[str, Any] = {"layers": "transformer.h", "attn": "attn"}
DECODERS = {
    "opt": Decoder(
        _of("OPT", **OPT),
        mlp="fc2",
        o="self_attn.out_proj",
        down="fc2",
        layers="model.decoder.layers",
    ),
    "gptj": Decoder(
        _of("GPTJ", **GPTJ), o="attn.out_proj", down="mlp.fc_out", parallel=True, **GPT
    ),
    "codegen": Decoder(
        _of("CodeGen", **GPTJ), o="attn.out_proj", down="mlp.fc_out", parallel=True, **GPT
    ),
    "gptneo": Decoder(
        _of(
            "GPTNeo",
            **{**SMALL, "num_layers": 3, "num_heads": 4},
            attention_types=[[["global", "local", "global"], 1]],
            max_position_embeddings=64,
            window_size=4,
        ),
        o="attn.attention.out_proj",
        down="mlp.c_proj",
        **GPT,
    ),
    "bloom": Decoder(
        _of("Bloom", vocab_size=100, hidden_size=32, n_layer=3, n_head=4),
        attn="self_attention",
        o="self_attention.dense",
        down="mlp.dense_4h_to_h",
        layers="transformer.h",
        adds=("attn", "mlp"),
    ),
    "falcon": Decoder(
        _of(
            "Falcon",
            **SMALL,
            multi_query=True,
            parallel_attn=True,
            alibi=False,
            new_decoder_architecture=False,
        ),
        attn="self_attention",
        o="self_attention.dense",
        down="mlp.dense_4h_to_h",
        layers="transformer.h",
        parallel=True,
    ),
    "mpt": Decoder(
        _of(
            "Mpt",
            vocab_size=100,
            d_model=32,
            n_layers=3,
            n_heads=4,
            expansion_ratio=2,
            max_seq_len=64,
        ),
        o="attn.out_proj",
        down="ffn.down_proj",
        attn="attn",
        mlp="ffn",
        layers="transformer.blocks",
        adds=("mlp",),
    ),
    "phi": Decoder(
        _of("Phi", **{**GQA, "pad_token_id": 0}),
        o="self_attn.dense",
        down="mlp.fc2",
        parallel=True,
    ),
    "phi3": Decoder(_of("Phi3", **GQA)),
    "stablelm": Decoder(_of("StableLm", **GQA)),
    "starcoder2": Decoder(_of("Starcoder2", **GQA), down="mlp.c_proj"),
    "gemma": Decoder(_of("Gemma", **GQA, head_dim=8)),
    "olmo": Decoder(_of("Olmo", **GQA)),
    "olmo2": Decoder(_of("Olmo2", **GQA), **NORMED),
    "olmo3": Decoder(_of("Olmo3", **GQA, sliding_window=4), **NORMED),
    "exaone4": Decoder(_of("Exaone4", **GQA, sliding_window=4), **NORMED),
    "granite": Decoder(
        _of(
            "Granite",
            **GQA,
            logits_scaling=8.0,
            residual_multiplier=0.22,
            embedding_multiplier=12.0,
        ),
        scale=0.22,
    ),
    "cohere": Decoder(_of("Cohere", **GQA, logit_scale=0.0625), parallel=True),
    "cohere2": Decoder(_of("Cohere2", **GQA, logit_scale=0.25, sliding_window=4), parallel=True),
    "mixtral": Decoder(_of("Mixtral", **MOE), down=None),
    "qwen2moe": Decoder(
        _of("Qwen2Moe", **MOE, moe_intermediate_size=16, shared_expert_intermediate_size=16),
        down=None,
    ),
    "qwen3moe": Decoder(_of("Qwen3Moe", **MOE, moe_intermediate_size=16, head_dim=8), down=None),
    "olmoe": Decoder(_of("Olmoe", **MOE), down=None),
    "gptoss": Decoder(_of("GptOss", **MOE, head_dim=8, sliding_window=4), down=None),
    "granitemoe": Decoder(
        _of("GraniteMoe", **MOE, logits_scaling=8.0, residual_multiplier=0.22),
        mlp="block_sparse_moe",
        down=None,
        scale=0.22,
    ),
    "deepseek2": Decoder(_of("DeepseekV2", **DEEP), down=None),
    "deepseek3": Decoder(_of("DeepseekV3", **DEEP), down=None),
    "glm": Decoder(_of("Glm", **GQA, head_dim=8)),
    "glm4": Decoder(
        _of("Glm4", **GQA, head_dim=8), attn="post_self_attn_layernorm", mlp="post_mlp_layernorm"
    ),
    "nemotron": Decoder(_of("Nemotron", **GQA)),
    "smollm3": Decoder(_of("SmolLM3", **GQA)),
    "arcee": Decoder(_of("Arcee", **GQA)),
    "apertus": Decoder(_of("Apertus", **GQA)),
    "ernie45": Decoder(_of("Ernie4_5", **GQA)),
    "seedoss": Decoder(_of("SeedOss", **GQA, head_dim=8)),
    "bigcode": Decoder(
        _of("GPTBigCode", **{**GPT2, "eos_token_id": None}),
        o="attn.c_proj",
        down="mlp.c_proj",
        **GPT,
    ),
    "gemma2": Decoder(_of("Gemma2", **GQA, **SLIDING), **NORMED),
    "llama": Decoder(_of("Llama", **GQA)),
    "neox": Decoder(
        _of("GPTNeoX", **HF),
        attn="attention",
        o="attention.dense",
        down="mlp.dense_4h_to_h",
        layers="gpt_neox.layers",
        parallel=True,
    ),
    "gpt2": Decoder(
        lambda: t.GPT2LMHeadModel(t.GPT2Config(**GPT2, eos_token_id=None)),
        o="attn.c_proj",
        down="mlp.c_proj",
        **GPT,
    ),
}


def make(name: str) -> Any:
    """The model in float64, with matrices drawn wide enough that every head does something, and
    uneven norms.
    """
    torch.manual_seed(0)
    model = DECODERS[name].make()
    for path, parameter in model.named_parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.3)
        else:
            spread = 0.2 * torch.randn(parameter.shape)
            parameter.data = (
                (1 + spread) if path.endswith("weight") and "bias" not in path else spread
            )
    if any("experts" in path for path, _ in model.named_modules()):
        model.set_experts_implementation("eager")  # the grouped product is not there in float64
    return model.double().eval()
