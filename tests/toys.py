"""Small trained models whose circuits are known, put into our own GPT so that everything runs on
them as on any other.

They have no norms. An RMSNorm with a vast epsilon and the root of it as weight is the identity, to
rounding: that is how they are held. What they lack besides (an MLP, some biases) is zero here.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import blocks, subject_of, tiny_gpt, weight_of
from workbench.subjects import Subject

EPSILON = 1e20
SHARPER = 1e6
"""GELU of a large number is its ReLU: inputs of neurons are stretched so much, and their outputs
shrunk again.
"""


def toy(name: str, prefix: str, **changes: Any) -> tuple[Subject, dict[str, torch.Tensor]]:
    """A Subject of one of the toys below WORKBENCH_MODELS in float64, and the weights as published.

    Args:
        name: The file's name below `small/toy`.
        prefix: What the names of a block's weights begin with in that file.
        changes: Settings of our GPT that the file does not show.
    """
    from safetensors.torch import load_file

    path = Path(os.environ.get("WORKBENCH_MODELS", "")) / f"small/toy/{name}.safetensors"
    if not path.is_file():
        pytest.skip("needs small/toy below WORKBENCH_MODELS")
    w = {key: value.double() for key, value in load_file(path).items()}
    d_model, d_vocab = w["embed.W_E"].shape
    n_heads = len(w[f"{prefix}.0.attn.W_Q"])
    shape = {
        "d_model": d_model,
        "d_vocab": d_vocab,
        "n_ctx": len(w["pos_embed.W_pos"]),
        "n_heads": n_heads,
    }
    fixed: dict[str, Any] = {
        "positions": "learned",
        "norm": "rmsnorm",
        "norm_eps": EPSILON,
        "mlp": "gelu",
        "bias": True,
    }
    model = tiny_gpt(**shape, **fixed, tie_word_embeddings=False, **changes).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)):
            norm.weight.fill_(EPSILON**0.5)
        weight_of(model.model.tok).copy_(w["embed.W_E"].T)
        weight_of(model.model.pos).copy_(w["pos_embed.W_pos"])
        model.lm_head.weight.copy_(w["unembed.W_U"].T)
        for i, block in enumerate(blocks(model)):
            for part, letter in ((block.attn.q, "Q"), (block.attn.k, "K"), (block.attn.v, "V")):
                part.weight.copy_(w[f"{prefix}.{i}.attn.W_{letter}"].flatten(0, 1))
            block.attn.o.weight.copy_(w[f"{prefix}.{i}.attn.W_O"])
            if f"{prefix}.{i}.mlp.W_in" in w:
                block.mlp.fc_in.weight.copy_(w[f"{prefix}.{i}.mlp.W_in"] * SHARPER)
                block.mlp.fc_in.bias.copy_(w[f"{prefix}.{i}.mlp.b_in"] * SHARPER)
                block.mlp.fc_out.weight.copy_(w[f"{prefix}.{i}.mlp.W_out"] / SHARPER)
                block.mlp.fc_out.bias.copy_(w[f"{prefix}.{i}.mlp.b_out"])
    return subject_of(model, name), w


def induction():
    """Two attention-only layers: previous-token head L0H2, induction heads L1H1 to L1H3 (the
    model's own notes).
    """
    return toy("induction_2l_attn_only", "attn_blocks", n_layers=2, d_mlp=1)


def modular_addition():
    """One layer that adds modulo 113: "a b 113" is followed by (a + b) mod 113."""
    return toy("mod_addition_no_wd", "blocks", n_layers=1, d_mlp=512)


SIZE = 20.0
"""What the planted head writes into the logit of token 3 if it sees nothing but token 9."""


def planted() -> Subject:
    """A model of even attention in which L1H1 alone writes token 3 where it sees token 9.

    Tokens are one-hot in the first half of the stream, and the logits are that half.
    """
    shape = {"n_layers": 2, "n_heads": 2, "d_model": 80, "d_vocab": 40, "n_ctx": 32, "d_mlp": 8}
    fixed = {"norm": "rmsnorm", "norm_eps": 1e20, "bias": True, "tie_word_embeddings": False}
    model = tiny_gpt(positions="none", **shape, **fixed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)):
            norm.weight.fill_(1e10)  # with that epsilon the identity
        weight_of(model.model.tok)[:, :40] = torch.eye(40)
        model.lm_head.weight[:, :40] = torch.eye(40)
        attn = blocks(model)[1].attn
        attn.v.weight[40, 9] = 1.0  # the first number of head 1: how much of token 9 it sees
        attn.o.weight[3, 40] = SIZE
    return subject_of(model, "planted")
