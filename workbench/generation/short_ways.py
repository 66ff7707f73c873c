"""Which models have a short way to the next token (`short_way`), and the parts of it."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.generation.short_way import Layer, Matrix, ShortWay, Sizes, Table
from workbench.subjects import positions as encoding
from workbench.subjects.gpt import WorkbenchGPTForCausalLM

LLAMAS = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
"""Classes of transformers whose layers are Llama's, with or without biases and QK-norm."""
FIXED = ("default", "linear", "llama3", "yarn")
"""Kinds of rotary encoding whose angles do not depend on the length of the text."""


class _UnlikeError(Exception):
    """A part of the model is not what its class has."""


def short_way(model: Any, most: int = 1 << 62) -> ShortWay | None:
    """The model as a `ShortWay`; None where it is too large, elsewhere than on the CPU or another.

    Args:
        model: A causal model.
        most: Bytes that its weights may have.
    """
    weights = list(model.parameters())
    fits = sum(w.numel() * w.element_size() for w in weights) <= most
    plain = all(
        w.dtype in (torch.float32, torch.float64) and w.device.type == "cpu" for w in weights
    )
    if not fits or not plain:
        return None
    build = _of_gpt if type(model) is WorkbenchGPTForCausalLM else None
    if type(model).__name__ in LLAMAS and type(model).__module__.startswith("transformers."):
        build = _of_llama
    try:
        return None if build is None else build(model)
    except _UnlikeError:
        return None


def _parts(n: int) -> int:
    """Into how many equal parts `n` inputs are divided: one a core where they can be."""
    cores = torch.get_num_threads()
    return next((parts for parts in range(cores, min(n, 2 * cores) + 1) if n % parts == 0), 1)


def _matrix(*linears: Any) -> Matrix:
    """Linear layers with the same input as one; the copies are in the order of rows."""
    if any(type(linear) is not nn.Linear for linear in linears):
        raise _UnlikeError
    weight = torch.cat([linear.weight.detach() for linear in linears]).t().contiguous()
    weight = weight.unflatten(0, (_parts(weight.shape[0]), -1))
    if all(linear.bias is None for linear in linears):
        return Matrix(weight, None)
    bias = [
        linear.weight.new_zeros(linear.out_features) if linear.bias is None else linear.bias
        for linear in linears
    ]
    return Matrix(weight, torch.cat(bias).detach())


def _norm(module: Any) -> Callable[[Tensor], Tensor]:
    """A norm as a function; Llama's own, written in five operations, as one."""
    if type(module).__name__.endswith("RMSNorm") and hasattr(module, "variance_epsilon"):
        weight = module.weight.detach()
        eps = module.variance_epsilon
        return lambda x: F.rms_norm(x, weight.shape, weight, eps)
    if not isinstance(module, nn.RMSNorm | nn.LayerNorm | nn.Identity):
        raise _UnlikeError
    return module


def _gains(q_norm: Any, k_norm: Any, sizes: Sizes) -> Tensor | None:
    """QK-norm's gains for every head, `[head + kv_head, d_head]`; None without it."""
    if q_norm is None or k_norm is None:
        return None
    rows = [q_norm.weight] * sizes.n_heads + [k_norm.weight] * sizes.n_kv_heads
    return torch.stack(rows).detach()


def _turns(cos: Tensor, sin: Tensor) -> Tensor:
    """Rows of `angles`: cosines, and sines whose first half's sign is turned."""
    half = sin.shape[-1] // 2
    return torch.cat([cos, -sin[..., :half], sin[..., half:]], -1)


def _of_llama(model: Any) -> ShortWay:
    config = model.config
    rope = getattr(config, "rope_parameters", None) or {}
    windows = getattr(config, "layer_types", None) or []
    windowed = "sliding_attention" in windows or (
        not windows and getattr(config, "sliding_window", None) is not None
    )
    if windowed or rope.get("rope_type", "default") not in FIXED:
        raise _UnlikeError
    inner = model.model
    first = inner.layers[0].self_attn
    eps = getattr(getattr(first, "q_norm", None), "variance_epsilon", config.rms_norm_eps)
    sizes = Sizes(
        config.num_attention_heads,
        config.num_key_value_heads,
        first.head_dim,
        first.scaling,
        eps,
    )
    layers = []
    for block in inner.layers:
        attention = block.self_attn
        mlp = block.mlp
        q_norm = getattr(attention, "q_norm", None)
        k_norm = getattr(attention, "k_norm", None)
        layers.append(
            Layer(
                _norm(block.input_layernorm),
                _matrix(attention.q_proj, attention.k_proj, attention.v_proj),
                _gains(q_norm, k_norm, sizes),
                _matrix(attention.o_proj),
                _norm(block.post_attention_layernorm),
                _matrix(mlp.gate_proj, mlp.up_proj),
                True,
                mlp.act_fn,
                _matrix(mlp.down_proj),
            )
        )
    embedding = inner.embed_tokens.weight.detach()

    def angles(at: Tensor) -> Tensor:
        cos, sin = inner.rotary_emb(embedding[:1, None], at[None])
        return _turns(cos[0], sin[0])

    return ShortWay(
        layers, sizes, embedding, _norm(inner.norm), _matrix(model.lm_head), angles=Table(angles)
    )


def _of_gpt(model: WorkbenchGPTForCausalLM) -> ShortWay:
    config = model.config
    inner = model.model
    n_kv_heads, d_head, _ = config.sizes
    sizes = Sizes(config.n_heads, n_kv_heads, d_head, d_head**-0.5, config.norm_eps)
    layers = []
    for module in inner.layers:
        block: Any = module
        mlp = block.mlp
        gated = mlp.gate is not None
        layers.append(
            Layer(
                _norm(block.ln1),
                _matrix(block.attn.q, block.attn.k, block.attn.v),
                _gains(block.attn.q_norm, block.attn.k_norm, sizes),
                _matrix(block.attn.o),
                _norm(block.ln2),
                _matrix(mlp.gate, mlp.fc_in) if gated else _matrix(mlp.fc_in),
                gated,
                mlp.act,
                _matrix(mlp.fc_out),
            )
        )
    embedding: Any = inner.tok.weight
    embedding = embedding.detach()
    given: dict[str, Any] = {}
    if config.positions == "rotary":
        given["angles"] = Table(
            lambda at: _turns(*encoding.rotary_cos_sin(at, d_head, config.rotary_base)).to(
                embedding.dtype
            )
        )
    elif config.positions in ("learned", "sinusoidal"):

        def added(at: Tensor) -> Tensor:
            last = config.n_ctx - 1
            vectors = inner.position_vectors(at.clamp(max=last) if inner.pos is not None else at)
            assert vectors is not None
            return vectors.detach().to(embedding.dtype)

        given["added"] = Table(added)
    elif config.positions == "alibi":
        given["slopes"] = encoding.alibi_slopes(config.n_heads).to(embedding.dtype)
    return ShortWay(layers, sizes, embedding, _norm(inner.ln_out), _matrix(model.lm_head), **given)
