"""The layouts of TransformerLens's tensors, old and new, and their conversion to our GPT's."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects.gpt import WorkbenchGPTConfig

UNWRITABLE = -1e4
"""Logit of tokens that a model can read but not write, so that their probability is 0."""

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Sizes:
    """Sizes read from shapes.

    - `d_mlp`: 0 for an attention-only model
    - `d_vocab_out`: number of tokens that the model can write
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    d_model: int
    d_head: int
    d_mlp: int
    d_vocab: int
    d_vocab_out: int


def modern(weights: Weights, name: str) -> Weights:
    """Weights of the first notebooks' layout in `HookedTransformer`'s, `[in, out]` per head."""
    heads = {
        key: len(tensor)
        for key, tensor in weights.items()
        if key.endswith("attn.W_Q") and tensor.ndim == 3
    }
    turned: dict[str, Callable[[Tensor, int], Tensor]] = {
        "embed.W_E": lambda x, n: x.T,
        "attn.W_Q": lambda x, n: x.transpose(1, 2),
        "attn.W_K": lambda x, n: x.transpose(1, 2),
        "attn.W_V": lambda x, n: x.transpose(1, 2),
        "attn.W_O": lambda x, n: x.T.unflatten(0, (n, -1)),
        "mlp.W_in": lambda x, n: x.T,
        "mlp.W_out": lambda x, n: x.T,
    }
    if not heads:
        raise WorkbenchError(
            f"{name} has no blocks.0.attn.W_Q with an axis of heads; save the whole state dict "
            "again."
        )
    n_heads = next(iter(heads.values()))
    modern = {}
    for key, tensor in weights.items():
        turn = next((f for end, f in turned.items() if key == end or key.endswith(f".{end}")), None)
        try:
            modern[key] = tensor if turn is None else turn(tensor, n_heads)
        except (RuntimeError, IndexError) as error:
            raise WorkbenchError(
                f"{name}: {key} has the shape {list(tensor.shape)}, which is none for {n_heads} "
                "heads; save it again."
            ) from error
    return modern


def sizes_of(weights: Weights, name: str) -> Sizes:
    """The model's sizes, from the shapes of its tensors.

    Raises:
        WorkbenchError: A tensor that is needed is missing or laid out otherwise.
    """
    w_k = "blocks.0.attn._W_K" if "blocks.0.attn._W_K" in weights else "blocks.0.attn.W_K"
    needed = ("embed.W_E", "unembed.W_U", "blocks.0.attn.W_Q", w_k)
    lacking = [key for key in needed if key not in weights]
    if lacking:
        raise WorkbenchError(f"{name} lacks {', '.join(lacking)}; save the whole state dict again.")
    shapes = {key: tuple(weights[key].shape) for key in needed}
    if [len(s) for s in shapes.values()] != [2, 2, 3, 3]:
        listed = ", ".join(f"{key} {list(shape)}" for key, shape in shapes.items())
        raise WorkbenchError(
            f"{name} is not laid out as TransformerLens does it ({listed}); save its state dict "
            "again."
        )
    n_heads, d_model, d_head = shapes["blocks.0.attn.W_Q"]
    matches = [re.match(r"blocks\.(\d+)\.", key) for key in weights]
    d_mlp = 0
    if "blocks.0.mlp.W_in" in weights:
        d_mlp = weights["blocks.0.mlp.W_in"].shape[-1]
    elif "blocks.0.mlp.W_out" in weights:
        d_mlp = weights["blocks.0.mlp.W_out"].mT.shape[-1]
    return Sizes(
        n_layers=max(int(match[1]) for match in matches if match) + 1,
        n_heads=n_heads,
        n_kv_heads=shapes[w_k][0],
        d_model=d_model,
        d_head=d_head,
        d_mlp=d_mlp,
        d_vocab=shapes["embed.W_E"][0],
        d_vocab_out=shapes["unembed.W_U"][1],
    )


def expected_shapes(
    weights: Weights,
    sizes: Sizes,
    config: WorkbenchGPTConfig,
    settings: Mapping[str, Any],
    *,
    is_old: bool,
) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor that a file must have, by name.

    `HookedTransformer` always has biases; the old layout has none in attention, and in the MLP both
    or none.

    Args:
        weights: Tensors of the file, whose names tell which optional ones there are.
        sizes: Sizes of the model.
        config: Our configuration of the model.
        settings: Settings of the file.
        is_old: Whether the file is in the first notebooks' layout.
    """
    h = sizes.n_heads
    kv = sizes.n_kv_heads
    m = sizes.d_model
    d = sizes.d_head
    f = sizes.d_mlp
    # TransformerLens puts an underscore before the names of grouped keys and values.
    low = "_" if kv != h or "blocks.0.attn._W_K" in weights else ""
    has_mlp_bias = not is_old or any(key.endswith((".mlp.b_in", ".mlp.b_out")) for key in weights)
    has_bias = not is_old
    learned = {"w": (m,), "b": (m,)} if config.norm == "layernorm" else {"w": (m,)}
    pre = str(settings.get("normalization_type", "")).endswith("Pre") or config.norm == "none"
    norm = {} if pre else learned
    block: dict[str, tuple[int, ...]] = {"attn.W_Q": (h, m, d), "attn.W_O": (h, d, m)}
    block |= {f"attn.{low}W_{part}": (kv, m, d) for part in "KV"}
    if has_bias:
        block |= {
            "attn.b_Q": (h, d),
            "attn.b_O": (m,),
            **{f"attn.{low}b_{part}": (kv, d) for part in "KV"},
        }
    block |= {f"ln1.{kind}": shape for kind, shape in norm.items()}
    if f:
        block |= {"mlp.W_in": (m, f), "mlp.W_out": (f, m)}
        block |= {"mlp.W_gate": (m, f)} if config.mlp == "swiglu" else {}
        block |= {"mlp.b_in": (f,), "mlp.b_out": (m,)} if has_mlp_bias else {}
        block |= {f"ln2.{kind}": shape for kind, shape in norm.items()}
    expected = {
        f"blocks.{i}.{key}": shape for i in range(sizes.n_layers) for key, shape in block.items()
    }
    expected |= {f"ln_final.{kind}": shape for kind, shape in norm.items()}
    expected |= {"embed.W_E": (sizes.d_vocab, m), "unembed.W_U": (m, sizes.d_vocab_out)}
    if config.positions == "learned":
        expected["pos_embed.W_pos"] = (config.n_ctx, m)
    if has_bias:
        expected["unembed.b_U"] = (sizes.d_vocab_out,)
    return expected


def our_weights(w: Weights, sizes: Sizes, config: WorkbenchGPTConfig) -> Weights:
    """Tensors by our names; missing biases are 0 and missing gains of norms 1.

    Args:
        w: Tensors in `HookedTransformer`'s layout.
        sizes: Sizes of the model.
        config: Our configuration of the model.
    """
    m = sizes.d_model
    like = w["embed.W_E"]

    def zeros(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=like.dtype)

    ours = {"model.tok.weight": w["embed.W_E"], "lm_head.weight": zeros(sizes.d_vocab, m)}
    ours["lm_head.weight"][: sizes.d_vocab_out] = w["unembed.W_U"].T
    if config.unembed_bias:
        ours["lm_head.bias"] = torch.full((sizes.d_vocab,), UNWRITABLE, dtype=like.dtype)
        ours["lm_head.bias"][: sizes.d_vocab_out] = w.get("unembed.b_U", zeros(sizes.d_vocab_out))
    if config.positions == "learned":
        ours["model.pos.weight"] = w["pos_embed.W_pos"]
    for i in range(sizes.n_layers):
        ours |= _block(w, f"blocks.{i}.", f"model.layers.{i}.", config)
    norms = {"ln_final": "model.ln_out"} | {
        f"blocks.{i}.ln{k}": f"model.layers.{i}.ln{k}"
        for i in range(sizes.n_layers)
        for k in (1, 2)
    }
    for theirs, our in norms.items() if config.norm != "none" else ():
        ours[f"{our}.weight"] = w.get(f"{theirs}.w", 1 + zeros(m))
        if config.norm == "layernorm":
            ours[f"{our}.bias"] = w.get(f"{theirs}.b", zeros(m))
    return ours


def _block(w: Weights, theirs: str, our: str, config: WorkbenchGPTConfig) -> Weights:
    """Attention and MLP of one block by our names.

    Attention's `[head, d_model, d_head]` becomes `[head * d_head, d_model]`.
    """
    block: Weights = {}
    for part in "QKV":
        weight = w.get(f"{theirs}attn.W_{part}", w.get(f"{theirs}attn._W_{part}"))
        assert weight is not None
        block[f"{our}attn.{part.lower()}.weight"] = weight.transpose(1, 2).flatten(0, 1)
        if config.bias:
            bias = w.get(f"{theirs}attn.b_{part}", w.get(f"{theirs}attn._b_{part}"))
            if bias is None:
                bias = weight.new_zeros(weight.shape[0], weight.shape[2])
            block[f"{our}attn.{part.lower()}.bias"] = bias.flatten()
    block[f"{our}attn.o.weight"] = w[f"{theirs}attn.W_O"].flatten(0, 1).T
    if config.bias:
        zero = w["embed.W_E"].new_zeros(config.d_model)
        block[f"{our}attn.o.bias"] = w.get(f"{theirs}attn.b_O", zero)
    d_mlp = config.sizes.d_mlp
    empty = w["embed.W_E"].new_zeros(d_mlp, config.d_model)
    names = {"fc_in": "W_in", "gate": "W_gate"} if config.mlp == "swiglu" else {"fc_in": "W_in"}
    for part, word in names.items():
        block[f"{our}mlp.{part}.weight"] = w[f"{theirs}mlp.{word}"].T if d_mlp else empty
    block[f"{our}mlp.fc_out.weight"] = w[f"{theirs}mlp.W_out"].T if d_mlp else empty.T
    if config.bias and d_mlp:
        b_in = w.get(f"{theirs}mlp.b_in", empty.new_zeros(d_mlp))
        b_out = w.get(f"{theirs}mlp.b_out", empty.new_zeros(config.d_model))
        if config.mlp == "swiglu":
            # TransformerLens adds b_in after the product with the gate, our GPT before it. After
            # the product it is a constant that W_out maps into the stream, so b_out takes it.
            b_out = b_out + b_in @ w[f"{theirs}mlp.W_out"]
            b_in = torch.zeros_like(b_in)
            block[f"{our}mlp.gate.bias"] = torch.zeros_like(b_in)
        block[f"{our}mlp.fc_in.bias"] = b_in
        block[f"{our}mlp.fc_out.bias"] = b_out
    return block
