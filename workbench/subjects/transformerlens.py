"""Reads TransformerLens's state dicts (`blocks.0.attn.W_Q` ...) as our GPT, computing the same.

Two layouts are known: that of `HookedTransformer`, and that of the first notebooks on grokking
(Nanda et al. 2023), whose matrices are `[out, in]` and which have no norms. What a file's shapes do
not tell is read from settings named as in `HookedTransformerConfig`. What neither tells is asked
for in an error, never guessed.
"""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from workbench.errors import WorkbenchError
from workbench.subjects.gpt import WorkbenchGPTConfig, WorkbenchGPTForCausalLM
from workbench.subjects.loading_report import LoadingReport, is_needed
from workbench.subjects.modules import moved
from workbench.subjects.transformerlens_layout import (
    UNWRITABLE,
    Sizes,
    Weights,
    expected_shapes,
    modern,
    our_weights,
    sizes_of,
)

ALIASES = {
    "num_layers": "n_layers",
    "num_heads": "n_heads",
    "act_type": "act_fn",
    "pos_embed_type": "positional_embedding_type",
}
"""Current names of older settings."""
NORMS = {
    "LN": "layernorm",
    "LNPre": "layernorm",
    "RMS": "rmsnorm",
    "RMSPre": "rmsnorm",
    "None": "none",
}
ACTIVATIONS = {"relu": "relu", "gelu": "gelu_exact", "gelu_new": "gelu", "gelu_fast": "gelu"}
GATED = {"silu": "swiglu"}
POSITIONS = {"standard": "learned", "orig": "learned", "rotary": "rotary", "none": "none"}
ONLY = {
    "attention_dir": ("causal",),
    "parallel_attn_mlp": (False,),
    "use_local_attn": (False,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "use_qk_norm": (False,),
    "use_normalization_before_and_after": (False,),
    "post_embedding_ln": (False,),
    "rotary_adjacent_pairs": (False,),
    "use_NTK_by_parts_rope": (False,),
    "num_experts": (None, 0),
    "attn_scores_soft_cap": (-1, -1.0, 0, None),
    "output_logits_soft_cap": (-1, -1.0, 0, None),
    "shortformer_pos": (False,),
}
"""The values of settings that our GPT can compute."""


def gpt(
    weights: Mapping[str, Tensor], settings: Mapping[str, Any], name: str
) -> tuple[WorkbenchGPTForCausalLM, str]:
    """A TransformerLens model as our GPT in float32, and a note on what was assumed or changed.

    Args:
        weights: By TransformerLens's names.
        settings: Named as in `HookedTransformerConfig`, as far as they are known.
        name: The file, for errors.

    Raises:
        WorkbenchError: A tensor is missing, left over or of another shape, a setting that is needed
            is not given, or our GPT cannot compute one.
    """
    settings = {ALIASES.get(word, word): value for word, value in settings.items()}
    outputs = [tensor.ndim for key, tensor in weights.items() if key.endswith("blocks.0.attn.W_O")]
    if not outputs:
        raise WorkbenchError(f"{name} lacks blocks.0.attn.W_O; save the whole state dict again.")
    is_old = outputs[0] == 2
    plain = {
        re.sub(r"^attn_blocks\.", "blocks.", key): tensor
        for key, tensor in weights.items()
        if is_needed(key)
    }
    n_ctx = _context(weights, plain, settings)
    if is_old:
        plain = modern(plain, name)
    sizes = sizes_of(plain, name)
    config, notes = _config(plain, sizes, settings, n_ctx, is_old=is_old, name=name)
    model = WorkbenchGPTForCausalLM(config)
    LoadingReport.between(
        {key: tuple(tensor.shape) for key, tensor in plain.items()},
        expected_shapes(plain, sizes, config, settings, is_old=is_old),
    ).check(name, "save the whole state dict again, or correct its settings")
    ours = our_weights(plain, sizes, config)
    scale = _attention_scale(settings, sizes, name)
    if scale != 1:
        for i in range(sizes.n_layers):
            for kind in ("weight", "bias") if config.bias else ("weight",):
                query = f"model.layers.{i}.attn.q.{kind}"
                ours[query] = ours[query] * scale
        notes.append(
            f"W_Q is multiplied by {scale:.6g}, as this model's scores are not divided by "
            "sqrt(d_head)"
        )
    dtype = next(iter(plain.values())).dtype
    moved(model, dtype).load_state_dict(ours)
    return model.float().eval(), "; ".join(notes)


def _context(
    raw: Mapping[str, Tensor], weights: Weights, settings: Mapping[str, Any]
) -> int | None:
    """The context length: of learned positions, else of the settings, else of the causal mask."""
    if "pos_embed.W_pos" in weights:
        return len(weights["pos_embed.W_pos"])
    if settings.get("n_ctx"):
        return settings["n_ctx"]
    return next((t.shape[-1] for key, t in raw.items() if key.endswith("attn.mask")), None)


def _config(
    weights: Weights,
    sizes: Sizes,
    settings: Mapping[str, Any],
    n_ctx: int | None,
    *,
    is_old: bool,
    name: str,
) -> tuple[WorkbenchGPTConfig, list[str]]:
    """Our configuration, and what was assumed for it.

    Raises:
        WorkbenchError: A setting is not known, or our GPT cannot compute it.
    """
    notes: list[str] = []
    for word, values in ONLY.items():
        if word in settings and settings[word] not in values:
            raise WorkbenchError(
                f"{name} has {word} = {settings[word]!r}, which this workbench's GPT does not "
                "compute."
            )
    for word in ("n_layers", "n_heads", "d_model", "d_head", "d_vocab"):
        if settings.get(word) and settings[word] != getattr(sizes, word):
            raise WorkbenchError(
                f"{name}: its settings say {word} = {settings[word]}, its tensors "
                f"{getattr(sizes, word)}; correct one."
            )
    norm = _norm(weights, settings, is_old=is_old, name=name)
    mlp = _mlp(weights, sizes, settings, name)
    positions = _positions(weights, settings, sizes, name)
    if n_ctx is None:
        raise WorkbenchError(_asks(name, "n_ctx", "the longest input in tokens"))
    if norm != "none" and "eps" not in settings:
        notes.append("eps of the norms is not given: 1e-5, TransformerLens's default")
    n_unwritable = sizes.d_vocab - sizes.d_vocab_out
    if n_unwritable < 0:
        raise WorkbenchError(
            f"{name} writes {sizes.d_vocab_out} tokens and reads {sizes.d_vocab}; it must read all."
        )
    if n_unwritable:
        notes.append(
            f"the last {n_unwritable} tokens can be read and not written; their logits are "
            f"{UNWRITABLE:g}"
        )
    b_u = weights.get("unembed.b_U")
    has_bias = any(re.search(r"\.b_\w+$", key) for key in weights if key != "unembed.b_U")
    config = WorkbenchGPTConfig(
        d_vocab=sizes.d_vocab,
        n_ctx=n_ctx,
        n_layers=sizes.n_layers,
        n_heads=sizes.n_heads,
        n_kv_heads=sizes.n_kv_heads,
        d_model=sizes.d_model,
        d_head=sizes.d_head,
        d_mlp=sizes.d_mlp,
        positions=positions,
        norm=norm,
        mlp=mlp,
        bias=norm == "layernorm" or has_bias,
        unembed_bias=bool(n_unwritable or (b_u is not None and b_u.any())),
        tie_word_embeddings=False,
        rotary_base=settings.get("rotary_base") or 10000.0,
        norm_eps=settings.get("eps") or 1e-5,
    )
    return config, notes


def _norm(weights: Weights, settings: Mapping[str, Any], *, is_old: bool, name: str) -> str:
    if "normalization_type" in settings:
        given = str(settings["normalization_type"])
        if given not in NORMS:
            raise WorkbenchError(
                f"{name} has normalization_type = {given!r}; known are {', '.join(NORMS)}."
            )
        if settings.get("final_rms") and NORMS[given] == "layernorm":
            raise WorkbenchError(
                f"{name} ends in another norm (final_rms) than its blocks have, which is not read."
            )
        return NORMS[given]
    if "blocks.0.ln1.w" in weights:
        return "layernorm" if "blocks.0.ln1.b" in weights else "rmsnorm"
    if is_old:
        return "none"
    raise WorkbenchError(_asks(name, "normalization_type", f"one of {', '.join(NORMS)}"))


def _mlp(weights: Weights, sizes: Sizes, settings: Mapping[str, Any], name: str) -> str:
    if not sizes.d_mlp:
        return "none"
    known = GATED if "blocks.0.mlp.W_gate" in weights else ACTIVATIONS
    if not settings.get("act_fn"):
        raise WorkbenchError(
            _asks(name, "act_fn", f"the MLP's nonlinearity, one of {', '.join(known)}")
        )
    given = str(settings["act_fn"]).lower()
    if given not in known:
        raise WorkbenchError(
            f"{name} has act_fn = {settings['act_fn']!r}; known for its MLP are {', '.join(known)}."
        )
    return known[given]


def _positions(weights: Weights, settings: Mapping[str, Any], sizes: Sizes, name: str) -> str:
    given = settings.get("positional_embedding_type") or (
        "standard" if "pos_embed.W_pos" in weights else None
    )
    if given is None:
        raise WorkbenchError(
            _asks(name, "positional_embedding_type", f"one of {', '.join(POSITIONS)}")
        )
    if given not in POSITIONS:
        raise WorkbenchError(
            f"{name} has positional_embedding_type = {given!r}; known are {', '.join(POSITIONS)}."
        )
    if given == "rotary" and settings.get("rotary_dim") not in (None, sizes.d_head):
        raise WorkbenchError(
            f"{name} turns {settings['rotary_dim']} of {sizes.d_head} dimensions (rotary_dim); "
            "this workbench's GPT turns all."
        )
    return POSITIONS[given]


def _asks(name: str, word: str, what: str) -> str:
    stem = re.sub(r"\.[^./]*$", "", name)
    return (
        f"{name} does not say its {word} ({what}), and its tensors do not show it; write "
        f'{stem}.config.json beside it, such as {{"{word}": ...}}.'
    )


def _attention_scale(settings: Mapping[str, Any], sizes: Sizes, name: str) -> float:
    """Factor of W_Q that makes dividing scores by sqrt(d_head) right."""
    if settings.get("use_attn_scale") is False:
        return sizes.d_head**0.5
    given = settings.get("attn_scale")
    if given in (None, -1, -1.0):
        return 1.0
    if not isinstance(given, int | float) or given <= 0:
        raise WorkbenchError(f"{name} has attn_scale = {given!r}; it must be a number above 0.")
    scale = sizes.d_head**0.5 / given
    return 1.0 if abs(scale - 1) < 1e-9 else scale
