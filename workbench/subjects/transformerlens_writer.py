"""Writes our GPT, a GPT-2 or a Llama as a TransformerLens state dict with its settings."""

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.own_names import OwnNames, own_names

NORMS = {"layernorm": "LN", "rmsnorm": "RMS", "none": None}
ACTIVATIONS = {
    "gelu": "gelu_new",
    "gelu_exact": "gelu",
    "relu": "relu",
    "swiglu": "silu",
    "none": "relu",
}
POSITIONS = {"learned": "standard", "rotary": "rotary"}
"""Values of our configuration, and those of `HookedTransformerConfig`."""


def transformerlens_state(model: PreTrainedModel) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A model's tensors by `HookedTransformer`'s names, and its `HookedTransformerConfig` as dict.

    Raises:
        WorkbenchError: `HookedTransformer` cannot compute the model; the message names the setting.
    """
    own = own_names(model, "transformerlens")
    return _weights(own), _settings(own)


def _settings(own: OwnNames) -> dict[str, Any]:
    c = own.config
    for word, value, known in (
        ("positions", c.positions, POSITIONS),
        ("norm", c.norm, NORMS),
        ("mlp", c.mlp, ACTIVATIONS),
        ("qk_norm", c.qk_norm, (False,)),
        ("bias of a swiglu MLP", _has_mlp_bias(own), (False,)),
        ("rotary_base", c.rotary_base, (int(c.rotary_base),)),
    ):
        if value not in known:
            raise WorkbenchError(
                f"TransformerLens's HookedTransformer does not compute {word} = {value}; it "
                f"computes {', '.join(str(each) for each in known)}."
            )
    settings = {
        "n_layers": c.n_layers,
        "n_heads": c.n_heads,
        "d_model": c.d_model,
        "d_head": c.d_head,
        "d_mlp": c.d_mlp or None,
        "d_vocab": c.d_vocab,
        "n_ctx": c.n_ctx,
        "act_fn": ACTIVATIONS[c.mlp],
        "gated_mlp": c.mlp == "swiglu",
        "attn_only": c.mlp == "none",
        "normalization_type": NORMS[c.norm],
        "final_rms": c.norm == "rmsnorm",
        "eps": c.norm_eps,
        "positional_embedding_type": POSITIONS[c.positions],
    }
    if c.n_kv_heads != c.n_heads:
        settings["n_key_value_heads"] = c.n_kv_heads
    if c.positions == "rotary":
        settings |= {"rotary_base": int(c.rotary_base), "rotary_dim": c.d_head}
    return settings


def _has_mlp_bias(own: OwnNames) -> bool:
    """Whether a gated MLP has biases; TransformerLens adds them after the product, not before."""
    biases = [
        tensor for name, tensor in own.weights.items() if name.endswith(("gate.bias", "fc_in.bias"))
    ]
    return own.config.mlp == "swiglu" and any(bool(tensor.any()) for tensor in biases)


def _weights(own: OwnNames) -> dict[str, Tensor]:
    """Tensors by TransformerLens's names, with zero biases where the model has none."""
    c = own.config
    weights = {
        "embed.W_E": own.weights["model.tok.weight"],
        "unembed.W_U": own.weights["lm_head.weight"].T,
        "unembed.b_U": own.get("lm_head.bias", c.d_vocab),
    }
    if c.positions == "learned":
        weights["pos_embed.W_pos"] = own.weights["model.pos.weight"]
    for i in range(c.n_layers):
        block = _attention(own, f"model.layers.{i}.attn.")
        if c.mlp != "none":
            block |= _mlp(own, f"model.layers.{i}.mlp.")
            block |= _norm(own, f"model.layers.{i}.ln2", "ln2")
        block |= _norm(own, f"model.layers.{i}.ln1", "ln1")
        weights |= {f"blocks.{i}.{name}": tensor for name, tensor in block.items()}
    weights |= _norm(own, "model.ln_out", "ln_final")
    return {name: tensor.contiguous().clone() for name, tensor in weights.items()}


def _attention(own: OwnNames, at: str) -> dict[str, Tensor]:
    """Attention of one block: `[head * d_head, d_model]` becomes `[head, d_model, d_head]`."""
    c = own.config
    n_kv_heads, d_head, _ = c.sizes
    block = {}
    for part in "QKV":
        n_heads = c.n_heads if part == "Q" else n_kv_heads
        # TransformerLens puts an underscore before the names of grouped keys and values.
        low = "_" if n_heads != c.n_heads else ""
        matrix = own.weights[f"{at}{part.lower()}.weight"].unflatten(0, (n_heads, d_head))
        bias = own.get(f"{at}{part.lower()}.bias", n_heads * d_head)
        block[f"attn.{low}W_{part}"] = matrix.transpose(1, 2)
        block[f"attn.{low}b_{part}"] = bias.unflatten(0, (n_heads, d_head))
    block["attn.W_O"] = own.weights[f"{at}o.weight"].T.unflatten(0, (c.n_heads, d_head))
    block["attn.b_O"] = own.get(f"{at}o.bias", c.d_model)
    return block


def _mlp(own: OwnNames, at: str) -> dict[str, Tensor]:
    c = own.config
    block = {
        "mlp.W_in": own.weights[f"{at}fc_in.weight"].T,
        "mlp.b_in": own.get(f"{at}fc_in.bias", c.sizes.d_mlp),
        "mlp.W_out": own.weights[f"{at}fc_out.weight"].T,
        "mlp.b_out": own.get(f"{at}fc_out.bias", c.d_model),
    }
    if c.mlp == "swiglu":
        block["mlp.W_gate"] = own.weights[f"{at}gate.weight"].T
    return block


def _norm(own: OwnNames, ours: str, theirs: str) -> dict[str, Tensor]:
    if own.config.norm == "none":
        return {}
    norm = {f"{theirs}.w": own.weights[f"{ours}.weight"]}
    if own.config.norm == "layernorm":
        norm[f"{theirs}.b"] = own.get(f"{ours}.bias", own.config.d_model)
    return norm
