"""`HookedTransformer`'s formulas written out in float64: what state dicts by its names must
compute.
"""

import torch
from torch import Tensor

ACTS = {
    "relu": torch.relu,
    "gelu": torch.nn.functional.gelu,
    "gelu_new": lambda x: 0.5 * x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))),
    "silu": lambda x: x * torch.sigmoid(x),
}


def rotated(x: Tensor, base: float) -> Tensor:
    """Rotary on `[batch, head, pos, d_head]`: dimension i turns with i + d/2 by position /
    base^(2i/d).
    """
    d_head = x.shape[-1]
    half = d_head // 2
    angle = torch.arange(x.shape[2])[:, None] / base ** (
        torch.arange(half, dtype=torch.float64) * 2 / d_head
    )
    a = x[..., :half]
    b = x[..., half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def hooked_forward(weights: dict, settings: dict, ids: Tensor) -> Tensor:
    """Logits `[batch, pos, d_vocab]` of a state dict, its settings in the words of
    `HookedTransformerConfig`.
    """
    w = {name: tensor.double() for name, tensor in weights.items()}
    kind = str(settings["normalization_type"])
    n_heads, _, d_head = w["blocks.0.attn.W_Q"].shape
    n_layers = 1 + max(int(name.split(".")[1]) for name in w if name.startswith("blocks."))

    def norm(x, at):
        if kind == "None":
            return x
        x = x - x.mean(-1, keepdim=True) if kind.startswith("LN") else x
        x = x / (x.square().mean(-1, keepdim=True) + settings["eps"]).sqrt()
        return x * w.get(f"{at}.w", 1.0) + w.get(f"{at}.b", 0.0)

    x = w["embed.W_E"][ids] + (
        w["pos_embed.W_pos"][: ids.shape[1]] if "pos_embed.W_pos" in w else 0
    )
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    scale = d_head**0.5 if settings.get("use_attn_scale", True) else 1.0
    for i in range(n_layers):
        at = f"blocks.{i}."
        parts = []
        for part in "QKV":
            low = "_" if f"{at}attn._W_{part}" in w else ""
            y = torch.einsum("bpm,hmd->bhpd", norm(x, f"{at}ln1"), w[f"{at}attn.{low}W_{part}"])
            y = y + w[f"{at}attn.{low}b_{part}"][:, None]
            parts.append(y.repeat_interleave(n_heads // y.shape[1], 1))
        q, k, v = parts
        if settings["positional_embedding_type"] == "rotary":
            base = settings.get("rotary_base", 10000)
            q = rotated(q, base)
            k = rotated(k, base)
        pattern = (q @ k.mT / scale).masked_fill(~mask, -torch.inf).softmax(-1)
        x = x + torch.einsum("bhpd,hdm->bpm", pattern @ v, w[f"{at}attn.W_O"]) + w[f"{at}attn.b_O"]
        if f"{at}mlp.W_in" in w:
            y = norm(x, f"{at}ln2")
            act = ACTS[settings["act_fn"]]
            inner = y @ w[f"{at}mlp.W_in"]
            gate = w.get(f"{at}mlp.W_gate")
            inner = (
                act(inner + w[f"{at}mlp.b_in"])
                if gate is None
                else act(y @ gate) * inner + w[f"{at}mlp.b_in"]
            )
            x = x + inner @ w[f"{at}mlp.W_out"] + w[f"{at}mlp.b_out"]
    return norm(x, "ln_final") @ w["unembed.W_U"] + w["unembed.b_U"]
