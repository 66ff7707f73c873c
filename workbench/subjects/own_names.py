"""A GPT-2 or Llama under our GPT's tensor names, for the writers of other formats."""

from dataclasses import dataclass
from typing import Any

from torch import Tensor
from transformers import GPT2LMHeadModel, LlamaForCausalLM, PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.convert import LLAMA_NAMES, require
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM

GELU = {"gelu_new": "gelu", "gelu_pytorch_tanh": "gelu", "gelu": "gelu_exact", "relu": "relu"}
"""Our names of transformers' activations."""


@dataclass(frozen=True)
class OwnNames:
    """Tensors by our GPT's names, matrices `[out, in]`, and the matching configuration."""

    weights: dict[str, Tensor]
    config: WorkbenchGPTConfig

    def get(self, name: str, *size: int) -> Tensor:
        """The tensor of this name, or zeros of this size where the model has none (a bias)."""
        if name in self.weights:
            return self.weights[name]
        return self.weights["model.tok.weight"].new_zeros(size)


def own_names(model: PreTrainedModel, form: str) -> OwnNames:
    """The model's tensors and configuration by our names.

    Args:
        model: Our GPT, a `GPT2LMHeadModel` or a `LlamaForCausalLM`.
        form: The format to write, for errors.

    Raises:
        WorkbenchError: For another class, or a setting that our GPT does not have.
    """
    if isinstance(model, WorkbenchGPTForCausalLM):
        return OwnNames(dict(model.state_dict()), model.config)
    if isinstance(model, GPT2LMHeadModel):
        return _gpt2(model)
    if isinstance(model, LlamaForCausalLM):
        return _llama(model)
    raise WorkbenchError(
        f"A {type(model).__name__} cannot be written in the form {form}; our GPT, GPT-2 and Llama "
        "can. Choose the form transformers."
    )


def _gpt2(model: GPT2LMHeadModel) -> OwnNames:
    c: Any = model.config
    require(
        "This GPT-2 cannot be written by other names",
        {
            f"activation_function in {', '.join(GELU)}": c.activation_function in GELU,
            "scale_attn_weights = true": c.scale_attn_weights,
            "scale_attn_by_inverse_layer_idx = false": not c.scale_attn_by_inverse_layer_idx,
        },
    )
    theirs = model.state_dict()
    weights = {
        "model.tok.weight": theirs["transformer.wte.weight"],
        "model.pos.weight": theirs["transformer.wpe.weight"],
        "lm_head.weight": theirs["lm_head.weight"],
    }
    for i in range(c.n_layer):
        at = f"transformer.h.{i}."
        to = f"model.layers.{i}."
        # [3 d_model, d_model] to queries, keys and values, each [d_model, d_model], out first
        matrices = theirs[f"{at}attn.c_attn.weight"].T.split(c.n_embd)
        biases = theirs[f"{at}attn.c_attn.bias"].split(c.n_embd)
        for part, matrix, bias in zip("qkv", matrices, biases, strict=True):
            weights[f"{to}attn.{part}.weight"] = matrix
            weights[f"{to}attn.{part}.bias"] = bias
        for name, own in (
            ("attn.c_proj", "attn.o"),
            ("mlp.c_fc", "mlp.fc_in"),
            ("mlp.c_proj", "mlp.fc_out"),
        ):
            weights[f"{to}{own}.weight"] = theirs[f"{at}{name}.weight"].T
            weights[f"{to}{own}.bias"] = theirs[f"{at}{name}.bias"]
        for name, own in (("ln_1", "ln1"), ("ln_2", "ln2")):
            for kind in ("weight", "bias"):
                weights[f"{to}{own}.{kind}"] = theirs[f"{at}{name}.{kind}"]
    for kind in ("weight", "bias"):
        weights[f"model.ln_out.{kind}"] = theirs[f"transformer.ln_f.{kind}"]
    config = WorkbenchGPTConfig(
        d_vocab=c.vocab_size,
        n_ctx=c.n_positions,
        n_layers=c.n_layer,
        n_heads=c.n_head,
        d_model=c.n_embd,
        d_mlp=c.n_inner or 4 * c.n_embd,
        positions="learned",
        norm="layernorm",
        mlp=GELU[c.activation_function],
        bias=True,
        norm_eps=c.layer_norm_epsilon,
    )
    return OwnNames(weights, config)


def _llama(model: LlamaForCausalLM) -> OwnNames:
    c: Any = model.config
    rope = dict(c.rope_parameters or {})
    require(
        "This Llama cannot be written by other names",
        {
            "the default rotary encoding": rope.get("rope_type", "default") == "default",
            "hidden_act = silu": c.hidden_act == "silu",
        },
    )
    weights = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in LLAMA_NAMES.items():
            name = name.replace(theirs, ours)
        weights[name] = tensor
    config = WorkbenchGPTConfig(
        d_vocab=c.vocab_size,
        n_ctx=c.max_position_embeddings,
        n_layers=c.num_hidden_layers,
        n_heads=c.num_attention_heads,
        n_kv_heads=c.num_key_value_heads,
        d_model=c.hidden_size,
        d_head=c.head_dim,
        d_mlp=c.intermediate_size,
        positions="rotary",
        norm="rmsnorm",
        mlp="swiglu",
        bias=bool(c.attention_bias or c.mlp_bias),
        rotary_base=float(rope.get("rope_theta", 10000.0)),
        norm_eps=c.rms_norm_eps,
    )
    return OwnNames(weights, config)
