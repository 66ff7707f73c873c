"""Writes our GPT or a GPT-2 as a nanoGPT checkpoint."""

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from workbench.subjects.convert import require
from workbench.subjects.own_names import OwnNames, own_names


def nanogpt_state(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's tensors by nanoGPT's names, matrices `[out, in]`, and its `model_args`.

    Raises:
        WorkbenchError: nanoGPT's model cannot compute this one; the message names the settings.
    """
    own = own_names(model, "nanogpt")
    _check(own)
    c = own.config
    has_bias = any(
        name.endswith(".bias") and bool(tensor.any()) for name, tensor in own.weights.items()
    )
    state = {
        "transformer.wte.weight": own.weights["model.tok.weight"],
        "transformer.wpe.weight": own.weights["model.pos.weight"],
    }
    for i in range(c.n_layers):
        block = _block(own, f"model.layers.{i}.", "weight")
        if has_bias:
            block |= _block(own, f"model.layers.{i}.", "bias")
        state |= {f"transformer.h.{i}.{name}": tensor for name, tensor in block.items()}
    state["transformer.ln_f.weight"] = own.weights["model.ln_out.weight"]
    if has_bias:
        state["transformer.ln_f.bias"] = own.get("model.ln_out.bias", c.d_model)
    state["lm_head.weight"] = state["transformer.wte.weight"]
    arguments = {
        "n_layer": c.n_layers,
        "n_head": c.n_heads,
        "n_embd": c.d_model,
        "block_size": c.n_ctx,
        "bias": has_bias,  # one switch for all linear layers and norms
        "vocab_size": c.d_vocab,
        "dropout": 0.0,
    }
    return {name: tensor.contiguous().clone() for name, tensor in state.items()}, arguments


def _check(own: OwnNames) -> None:
    c = own.config
    settings = {
        "positions = learned": c.positions == "learned",
        "norm = layernorm": c.norm == "layernorm",
        "mlp = gelu_exact (its GELU is not the tanh form)": c.mlp == "gelu_exact",
        "n_kv_heads = n_heads": c.n_kv_heads == c.n_heads,
        "n_heads * d_head = d_model": c.n_heads * (c.d_head or 0) == c.d_model,
        "d_mlp = 4 d_model": c.d_mlp == 4 * c.d_model,
        "norm_eps = 1e-5": abs(c.norm_eps - 1e-5) < 1e-9,
        "qk_norm = false": not c.qk_norm,
        "unembed_bias = false": "lm_head.bias" not in own.weights,
        "tied embeddings": torch.equal(
            own.weights["lm_head.weight"], own.weights["model.tok.weight"]
        ),
    }
    require("nanoGPT's model does not compute this one", settings)


def _block(own: OwnNames, at: str, kind: str) -> dict[str, Tensor]:
    """One block's weights, or its biases (kind); biases that the model does not have are zero."""
    c = own.config
    sizes = {
        "attn.o": c.d_model,
        "mlp.fc_in": c.d_mlp,
        "mlp.fc_out": c.d_model,
        "ln1": c.d_model,
        "ln2": c.d_model,
    }
    names = {
        "attn.o": "attn.c_proj",
        "mlp.fc_in": "mlp.c_fc",
        "mlp.fc_out": "mlp.c_proj",
        "ln1": "ln_1",
        "ln2": "ln_2",
    }
    block = {
        f"{names[part]}.{kind}": own.get(f"{at}{part}.{kind}", size or 0)
        for part, size in sizes.items()
    }
    block[f"attn.c_attn.{kind}"] = torch.cat(
        [own.get(f"{at}attn.{part}.{kind}", c.d_model) for part in "qkv"]
    )
    return block
