"""Between our GPT and others' formats: the only file that knows foreign weight names."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from workbench.errors import WorkbenchError
from workbench.subjects.gpt import WorkbenchGPTForCausalLM


def to_gpt2(model: WorkbenchGPTForCausalLM) -> GPT2LMHeadModel:
    """The same function as a `GPT2LMHeadModel`, for configurations that GPT-2 can express.

    Needs learned positions, layernorm, gelu, no grouped heads, no QK-norm, `n_heads * d_head == d_model` and tied
    embeddings; raises `WorkbenchError` naming what stands in the way.
    """
    c = model.config
    _require(
        "GPT-2",
        {
            "positions = learned": c.positions == "learned",
            "norm = layernorm": c.norm == "layernorm",
            "mlp = gelu": c.mlp == "gelu",
            "n_kv_heads = n_heads": c.n_kv_heads == c.n_heads,
            "qk_norm = false": not c.qk_norm,
            "n_heads * d_head = d_model": c.n_heads * c.d_head == c.d_model,
            "tied embeddings": c.tie_word_embeddings,
        },
    )
    twin = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=c.d_vocab,
            n_positions=c.n_ctx,
            n_embd=c.d_model,
            n_layer=c.n_layers,
            n_head=c.n_heads,
            n_inner=c.d_mlp,
            layer_norm_epsilon=c.norm_eps,
            bos_token_id=c.bos_token_id,
            eos_token_id=c.eos_token_id,
        )
    )
    ours = model.state_dict()
    weights = {"transformer.wte.weight": ours["model.tok.weight"], "transformer.wpe.weight": ours["model.pos.weight"]}
    for i in range(c.n_layers):
        a, b = f"model.layers.{i}.", f"transformer.h.{i}."
        for kind in ("weight", "bias"):
            parts = [ours.get(f"{a}attn.{p}.{kind}") for p in "qkv"]
            weights |= {
                f"{b}attn.c_attn.{kind}": None if parts[0] is None else torch.cat(parts),
                f"{b}attn.c_proj.{kind}": ours.get(f"{a}attn.o.{kind}"),
                f"{b}mlp.c_fc.{kind}": ours.get(f"{a}mlp.fc_in.{kind}"),
                f"{b}mlp.c_proj.{kind}": ours.get(f"{a}mlp.fc_out.{kind}"),
                f"{b}ln_1.{kind}": ours.get(f"{a}ln1.{kind}"),
                f"{b}ln_2.{kind}": ours.get(f"{a}ln2.{kind}"),
            }
    weights |= {f"transformer.ln_f.{kind}": ours.get(f"model.ln_out.{kind}") for kind in ("weight", "bias")}
    return _fill_gpt2(twin, weights).to(model.dtype)


def to_llama(model: WorkbenchGPTForCausalLM) -> LlamaForCausalLM:
    """The same function as a `LlamaForCausalLM` (and so GGUF, vLLM, anything).

    Needs rotary, rmsnorm, swiglu and no QK-norm; raises `WorkbenchError` naming what stands in the way.
    """
    c = model.config
    _require(
        "Llama",
        {
            "positions = rotary": c.positions == "rotary",
            "norm = rmsnorm": c.norm == "rmsnorm",
            "mlp = swiglu": c.mlp == "swiglu",
            "qk_norm = false": not c.qk_norm,
        },
    )
    config = LlamaConfig(
        vocab_size=c.d_vocab,
        hidden_size=c.d_model,
        intermediate_size=c.d_mlp,
        num_hidden_layers=c.n_layers,
        num_attention_heads=c.n_heads,
        num_key_value_heads=c.n_kv_heads,
        head_dim=c.d_head,
        max_position_embeddings=c.n_ctx,
        rms_norm_eps=c.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": c.rotary_base},
        tie_word_embeddings=c.tie_word_embeddings,
        attention_bias=c.bias,
        mlp_bias=c.bias,
        bos_token_id=c.bos_token_id,
        eos_token_id=c.eos_token_id,
    )
    names = {
        "model.tok.": "model.embed_tokens.",
        "model.ln_out.": "model.norm.",
        ".ln1.": ".input_layernorm.",
        ".ln2.": ".post_attention_layernorm.",
        ".attn.q.": ".self_attn.q_proj.",
        ".attn.k.": ".self_attn.k_proj.",
        ".attn.v.": ".self_attn.v_proj.",
        ".attn.o.": ".self_attn.o_proj.",
        ".mlp.gate.": ".mlp.gate_proj.",
        ".mlp.fc_in.": ".mlp.up_proj.",
        ".mlp.fc_out.": ".mlp.down_proj.",
    }
    weights = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        weights[name] = tensor
    twin = LlamaForCausalLM(config).to(model.dtype)
    twin.load_state_dict(weights)
    return twin.eval()


def nanogpt(path: Path) -> GPT2LMHeadModel:
    """A nanoGPT `ckpt.pt`, read with `weights_only=True`, as a `GPT2LMHeadModel`.

    Raises `WorkbenchError` for a file that needs pickle, or that is no nanoGPT checkpoint.
    """
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        args, found = checkpoint["model_args"], checkpoint["model"]
        shape = {k: args[k] for k in ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")}
    except Exception as error:  # torch.load raises whatever the bytes provoke; all of them mean the same to a user
        raise WorkbenchError(
            f"{path} is not a nanoGPT checkpoint that loads without pickle ({type(error).__name__}); "
            "save it as safetensors, or with nanoGPT's train.py as it is."
        ) from error
    shape["n_positions"] = shape.pop("block_size")
    weights = {k.removeprefix("_orig_mod."): v for k, v in found.items() if not k.endswith(".attn.bias")}
    wte = weights["transformer.wte.weight"]
    tied = torch.equal(weights.setdefault("lm_head.weight", wte), wte)  # forks of nanoGPT untie them
    twin = GPT2LMHeadModel(
        GPT2Config(**shape, activation_function="gelu", tie_word_embeddings=tied, bos_token_id=None, eos_token_id=None)
    )
    return _fill_gpt2(twin, weights)


def _fill_gpt2(twin: GPT2LMHeadModel, weights: dict[str, Tensor | None]) -> GPT2LMHeadModel:
    """Copy `[out, in]` weights into GPT-2's transposed ones; biases that the source lacks become zero."""
    target = twin.state_dict()
    filled = {"lm_head.weight": weights.get("lm_head.weight", weights["transformer.wte.weight"])}
    for name, own in target.items():
        tensor = weights.get(name)
        if tensor is None and name.endswith(".bias"):
            tensor = torch.zeros_like(own)
        if tensor is not None and any(f".{p}.weight" in name for p in ("c_attn", "c_proj", "c_fc")):
            tensor = tensor.T
        if tensor is not None:
            filled[name] = tensor
    twin.to(next(t.dtype for t in weights.values() if t is not None)).load_state_dict(filled)
    return twin.eval()


def _require(what: str, conditions: dict[str, bool]) -> None:
    missing = [name for name, holds in conditions.items() if not holds]
    if missing:
        raise WorkbenchError(f"This model cannot be written as {what} exactly; it would need {', '.join(missing)}.")
