"""Between our GPT and others' formats: the only file that knows foreign weight names."""

import re
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from workbench.doors import reading
from workbench.errors import WorkbenchError
from workbench.subjects.claims import check_claims, held_in
from workbench.subjects.gpt import WorkbenchGPTForCausalLM
from workbench.subjects.loading_report import LoadingReport, is_needed

LLAMA_NAMES = {
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
"""What our GPT calls its tensors, and what Llama calls them."""


def to_gpt2(model: WorkbenchGPTForCausalLM) -> GPT2LMHeadModel:
    """The same function as a `GPT2LMHeadModel`, for configurations that GPT-2 can express.

    Needs learned positions, layernorm, gelu, no grouped heads, no QK-norm, `n_heads * d_head ==
    d_model` and tied embeddings; raises `WorkbenchError` naming what stands in the way.
    """
    c = model.config
    require(
        "This model cannot be written as GPT-2 exactly",
        {
            "positions = learned": c.positions == "learned",
            "norm = layernorm": c.norm == "layernorm",
            "mlp = gelu": c.mlp == "gelu",
            "n_kv_heads = n_heads": c.n_kv_heads == c.n_heads,
            "qk_norm = false": not c.qk_norm,
            "n_heads * d_head = d_model": c.n_heads * c.d_head == c.d_model,
            "tied embeddings": c.tie_word_embeddings,
            "unembed_bias = false": not c.unembed_bias,
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
    weights = {
        "transformer.wte.weight": ours["model.tok.weight"],
        "transformer.wpe.weight": ours["model.pos.weight"],
    }
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
    weights |= {
        f"transformer.ln_f.{kind}": ours.get(f"model.ln_out.{kind}") for kind in ("weight", "bias")
    }
    return _fill_gpt2(twin, weights).to(model.dtype)


def to_llama(model: WorkbenchGPTForCausalLM) -> LlamaForCausalLM:
    """The same function as a `LlamaForCausalLM` (and so GGUF, vLLM, anything).

    Needs rotary, rmsnorm, swiglu and no QK-norm; raises `WorkbenchError` naming what stands in the
    way.
    """
    c = model.config
    require(
        "This model cannot be written as Llama exactly",
        {
            "positions = rotary": c.positions == "rotary",
            "norm = rmsnorm": c.norm == "rmsnorm",
            "mlp = swiglu": c.mlp == "swiglu",
            "qk_norm = false": not c.qk_norm,
            "unembed_bias = false": not c.unembed_bias,
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
    weights = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in LLAMA_NAMES.items():
            name = name.replace(ours, theirs)
        weights[name] = tensor
    twin = LlamaForCausalLM(config).to(model.dtype)
    twin.load_state_dict(weights)
    return twin.eval()


def nanogpt(
    weights: dict[str, Tensor], args: dict[str, Any], name: str
) -> tuple[GPT2LMHeadModel, str]:
    """A nanoGPT or minGPT state dict as a `GPT2LMHeadModel`, and which biases it lacks ("" where
    none).

    Args:
        weights: By nanoGPT's names; matrices are `[out, in]`.
        args: nanoGPT's `model_args`; minGPT's settings, whose `model_type` names them, have the
            tanh form of GELU.
        name: The file, for errors.

    Raises:
        WorkbenchError: a size is not given, or a tensor is missing, left over or of another shape.
    """
    sizes = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    if lacking := [word for word in sizes if not isinstance(args.get(word), int) or args[word] < 1]:
        raise WorkbenchError(
            f"{name} is a GPT whose settings lack {', '.join(lacking)}; they belong into model_args."
        )
    shape = {word: args[word] for word in sizes}
    shape["n_positions"] = shape.pop("block_size")
    weights = {key: tensor for key, tensor in weights.items() if is_needed(key)}
    wte = weights.get("transformer.wte.weight")
    head = weights.setdefault("lm_head.weight", wte) if wte is not None else None
    tied = (
        head is not None and wte is not None and torch.equal(head, wte)
    )  # forks of nanoGPT untie them
    activation = "gelu_new" if "model_type" in args else "gelu"
    held = {key: tuple(tensor.shape) for key, tensor in weights.items()}
    with reading(name, "correct the sizes in its settings", "has settings of no GPT-2"):
        config = GPT2Config(
            **shape,
            activation_function=activation,
            tie_word_embeddings=tied,
            bos_token_id=None,
            eos_token_id=None,
        )
        check_claims(config, AutoModelForCausalLM, held_in(held), name)
        twin = GPT2LMHeadModel(config)
    shapes = {
        key: tuple(tensor.shape[::-1] if _is_transposed(key) else tensor.shape)
        for key, tensor in twin.state_dict().items()
    }
    zero = _absent_biases(held, shapes, args.get("bias"))
    report = LoadingReport.between(held, {k: s for k, s in shapes.items() if _kind(k) not in zero})
    report.check(name, "save the checkpoint again, or correct the sizes in its settings")
    with_some = any(key.endswith(".bias") for key in held)
    note = f"the file has no {', '.join(sorted(zero))}: read as zero" if zero and with_some else ""
    return _fill_gpt2(twin, dict(weights)), note


def _absent_biases(held: Iterable[str], expected: Iterable[str], bias: bool | None) -> set[str]:
    """The kinds of biases that a checkpoint may lack: all where it was trained without, none where
    with.

    Where its settings do not say, those of which it has not one: converters drop `attn.bias`,
    meaning the mask.
    """
    kinds = {_kind(key) for key in expected if key.endswith(".bias")}
    if bias is None:
        return kinds - {_kind(key) for key in held}
    return set() if bias else kinds


def _kind(name: str) -> str:
    """A tensor's name without the number of its layer."""
    return re.sub(r"\.h\.\d+\.", ".", name).removeprefix("transformer.")


def _is_transposed(name: str) -> bool:
    """Whether GPT-2 stores this matrix as `[in, out]`."""
    return any(f".{part}.weight" in name for part in ("c_attn", "c_proj", "c_fc"))


def _fill_gpt2(twin: GPT2LMHeadModel, weights: dict[str, Tensor | None]) -> GPT2LMHeadModel:
    """Copy `[out, in]` weights into GPT-2's transposed ones; biases that the source lacks become
    zero.
    """
    target = twin.state_dict()
    filled = {"lm_head.weight": weights.get("lm_head.weight", weights["transformer.wte.weight"])}
    for name, own in target.items():
        tensor = weights.get(name)
        if tensor is None and name.endswith(".bias"):
            tensor = torch.zeros_like(own)
        if tensor is not None and _is_transposed(name):
            tensor = tensor.T
        if tensor is not None:
            filled[name] = tensor
    twin.to(next(t.dtype for t in weights.values() if t is not None)).load_state_dict(filled)
    return twin.eval()


def require(cannot: str, settings: dict[str, bool]) -> None:
    """Raise `WorkbenchError` with what cannot be done, and with each setting that would have to
    hold for it.
    """
    lacking = [setting for setting, holds in settings.items() if not holds]
    if lacking:
        raise WorkbenchError(f"{cannot}; it would need {', '.join(lacking)}.")
