"""Converts between our GPT and GPT-2, Llama and nanoGPT: the names and layouts of their weights."""

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
from workbench.subjects.modules import moved

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
"""Parts of tensor names in our GPT, and in Llama."""


def to_gpt2(model: WorkbenchGPTForCausalLM) -> GPT2LMHeadModel:
    """A `GPT2LMHeadModel` that computes the same function.

    Raises:
        WorkbenchError: GPT-2 cannot express the configuration; the message names the settings. It
            needs learned positions, layernorm, gelu, no grouped heads, no QK-norm, `n_heads *
            d_head == d_model` and tied embeddings.
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
            "n_heads * d_head = d_model": c.n_heads * c.sizes.d_head == c.d_model,
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
    weights: dict[str, Tensor | None] = {
        "transformer.wte.weight": ours["model.tok.weight"],
        "transformer.wpe.weight": ours["model.pos.weight"],
    }
    for i in range(c.n_layers):
        our = f"model.layers.{i}."
        their = f"transformer.h.{i}."
        for kind in ("weight", "bias"):
            if f"{our}attn.q.{kind}" in ours:
                # GPT-2 has one matrix for queries, keys and values.
                qkv = torch.cat([ours[f"{our}attn.{part}.{kind}"] for part in "qkv"])
                weights[f"{their}attn.c_attn.{kind}"] = qkv
            weights |= {
                f"{their}attn.c_proj.{kind}": ours.get(f"{our}attn.o.{kind}"),
                f"{their}mlp.c_fc.{kind}": ours.get(f"{our}mlp.fc_in.{kind}"),
                f"{their}mlp.c_proj.{kind}": ours.get(f"{our}mlp.fc_out.{kind}"),
                f"{their}ln_1.{kind}": ours.get(f"{our}ln1.{kind}"),
                f"{their}ln_2.{kind}": ours.get(f"{our}ln2.{kind}"),
            }
    for kind in ("weight", "bias"):
        weights[f"transformer.ln_f.{kind}"] = ours.get(f"model.ln_out.{kind}")
    return moved(_fill_gpt2(twin, weights), model.dtype)


def to_llama(model: WorkbenchGPTForCausalLM) -> LlamaForCausalLM:
    """A `LlamaForCausalLM` that computes the same function, which most other programs can read.

    Raises:
        WorkbenchError: Llama cannot express the configuration; the message names the settings. It
            needs rotary positions, rmsnorm, swiglu and no QK-norm.
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
        intermediate_size=c.sizes.d_mlp,
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
    twin = moved(LlamaForCausalLM(config), model.dtype)
    twin.load_state_dict(weights)
    return twin.eval()


def nanogpt(
    weights: dict[str, Tensor], args: dict[str, Any], name: str
) -> tuple[GPT2LMHeadModel, str]:
    """A nanoGPT or minGPT state dict as a `GPT2LMHeadModel`, and a note on biases it lacks.

    Args:
        weights: By nanoGPT's names; matrices are `[out, in]`.
        args: nanoGPT's `model_args`, or minGPT's settings, which have a `model_type` and use the
            tanh form of GELU.
        name: The file, for errors.

    Raises:
        WorkbenchError: A size is not given, or a tensor is missing, left over or of another shape.
    """
    sizes = ("n_layer", "n_head", "n_embd", "block_size", "vocab_size")
    lacking = [word for word in sizes if not isinstance(args.get(word), int) or args[word] < 1]
    if lacking:
        raise WorkbenchError(
            f"{name} is a GPT whose settings lack {', '.join(lacking)}; they belong into "
            "model_args."
        )
    shape = {word: args[word] for word in sizes}
    shape["n_positions"] = shape.pop("block_size")
    weights = {key: tensor for key, tensor in weights.items() if is_needed(key)}
    wte = weights.get("transformer.wte.weight")
    head = weights.setdefault("lm_head.weight", wte) if wte is not None else None
    # Some forks of nanoGPT do not tie the embeddings.
    tied = head is not None and wte is not None and torch.equal(head, wte)
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
    """The kinds of biases that a checkpoint may lack and that are read as zero.

    All if it was trained without biases, none if with. Where its settings do not say, those kinds
    of which it has not a single one: converters that drop masks by the name `attn.bias` drop real
    biases too.

    Args:
        held: Names of the checkpoint's tensors.
        expected: Names of the model's tensors.
        bias: What the settings say.
    """
    kinds = {_kind(key) for key in expected if key.endswith(".bias")}
    if bias is None:
        return kinds - {_kind(key) for key in held}
    return set() if bias else kinds


def _kind(name: str) -> str:
    """A tensor's name without its layer number."""
    return re.sub(r"\.h\.\d+\.", ".", name).removeprefix("transformer.")


def _is_transposed(name: str) -> bool:
    """Whether GPT-2 stores this matrix as `[in, out]`."""
    return any(f".{part}.weight" in name for part in ("c_attn", "c_proj", "c_fc"))


def _fill_gpt2(twin: GPT2LMHeadModel, weights: dict[str, Tensor | None]) -> GPT2LMHeadModel:
    """Copy `[out, in]` weights into GPT-2's `[in, out]` ones; missing biases become zero."""
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
    dtype = next(tensor.dtype for tensor in weights.values() if tensor is not None)
    moved(twin, dtype).load_state_dict(filled)
    return twin.eval()


def require(cannot: str, settings: dict[str, bool]) -> None:
    """Raise `WorkbenchError` unless all settings hold.

    Args:
        cannot: What cannot be done; begins the message.
        settings: Whether each needed setting holds, by its description.
    """
    lacking = [setting for setting, holds in settings.items() if not holds]
    if lacking:
        raise WorkbenchError(f"{cannot}; it would need {', '.join(lacking)}.")
