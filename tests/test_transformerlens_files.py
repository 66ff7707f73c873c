"""State dicts of TransformerLens: the same logits as a float64 forward pass written out here, or a
sentence.
"""

import itertools
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import workbench as wb
from tests.hooked_transformer import hooked_forward
from tests.test_loading_report import refused
from workbench.subjects import available, load

MODELS = Path(os.environ.get("WORKBENCH_MODELS", "")) / "small/toy"
needs_toys = pytest.mark.skipif(
    not MODELS.is_dir(), reason="needs small/toy below WORKBENCH_MODELS"
)
N_LAYERS = 2
N_HEADS = 3
D_MODEL = 24
D_HEAD = 6
D_MLP = 20
D_VOCAB = 30
N_CTX = 12


def toy(name, folder, settings=None):
    """A toy copied to a folder that can be written, and its tensors in float64."""
    shutil.copy(MODELS / f"{name}.safetensors", folder)
    beside = MODELS / f"{name}.config.json"
    if settings is not None:
        (folder / beside.name).write_text(json.dumps(settings))
    elif beside.is_file():
        shutil.copy(beside, folder)
    return folder / f"{name}.safetensors", {
        k: v.double() for k, v in load_file(folder / f"{name}.safetensors").items()
    }


def grokking_forward(w, ids, blocks):
    """The first notebooks' model: no norms, matrices `[out, in]`."""
    x = w["embed.W_E"].T[ids] + w["pos_embed.W_pos"][: ids.shape[1]]
    mask = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).tril()
    for i in range(sum(k.endswith("W_Q") for k in w)):
        at = f"{blocks}.{i}."
        q, k, v = (torch.einsum("bpm,hdm->bhpd", x, w[f"{at}attn.W_{p}"]) for p in "QKV")
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask, -torch.inf)
        z = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + z @ w[f"{at}attn.W_O"].T
        if f"{at}mlp.W_in" in w:
            inner = torch.relu(x @ w[f"{at}mlp.W_in"].T + w[f"{at}mlp.b_in"])
            x = x + inner @ w[f"{at}mlp.W_out"].T + w[f"{at}mlp.b_out"]
    return x @ w["unembed.W_U"]


@needs_toys
@pytest.mark.parametrize(
    ("name", "blocks", "settings"),
    [
        ("induction_2l_attn_only", "attn_blocks", None),
        ("mod_addition_no_wd", "blocks", {"act_fn": "relu"}),
        ("5_digit_addition_infinite", "blocks", {"act_fn": "relu"}),
    ],
)
def test_the_published_toys_compute_what_they_compute_by_hand(name, blocks, settings, tmp_path):
    path, w = toy(name, tmp_path, settings)
    subject = load(path)
    n_tokens = w["embed.W_E"].shape[1]
    n_written = w["unembed.W_U"].shape[1]
    ids = torch.randint(0, n_tokens, (4, subject.n_ctx), generator=torch.Generator().manual_seed(0))
    expected = grokking_forward(w, ids, blocks)
    logits = subject.model.double()(ids).logits
    torch.testing.assert_close(
        logits[..., :n_written], expected, atol=1e-9 * float(expected.abs().max()), rtol=0
    )
    assert (logits[..., n_written:].softmax(-1).sum() > 0) == (n_written < n_tokens)
    assert (
        logits.softmax(-1)[..., n_written:] == 0
    ).all() and "read as a TransformerLens" in subject.card.loaded
    torch.testing.assert_close(subject.bridge(ids), logits, atol=1e-6, rtol=1e-6)


@needs_toys
def test_the_induction_heads_have_their_published_scores():
    subject = load(MODELS / "induction_2l_attn_only.safetensors")
    assert subject.card.n_params == sum(t.numel() for t in load_file(subject.card.source).values())
    frame = wb.head_scores(subject, length=16).to_frame()
    table = dict(zip(frame["name"], frame["induction_score"], strict=True))
    assert [table.pop(f"L1H{i}") for i in (1, 2, 3)] == pytest.approx([0.195] * 3, abs=0.01)
    assert max(table.values()) < 0.08
    assert "small/toy/induction_2l_attn_only.safetensors" in [a.name for a in available()]
    patching = wb.patch(subject, "1 2 3 4 1", "1 9 3 4 1", answer="2", wrong="9", audit=2)
    assert max(patching.checks.values()) < 1e-4
    steps = wb.anatomy(subject, "1 2 3 1 2", layer=1, head=1).steps
    assert max(step.deviation for step in steps if step.deviation is not None) < 1e-5


@needs_toys
def test_what_shapes_do_not_say_is_asked_for(tmp_path):
    path, _ = toy("mod_addition_no_wd", tmp_path)
    refused(path, "does not say its act_fn", "mod_addition_no_wd.config.json")
    settings = path.with_name(f"{path.stem}.config.json")
    for given, words in (
        ({"act_fn": "swish"}, ["act_fn = 'swish'", "relu"]),
        ({"act_fn": "relu", "n_heads": 8}, ["n_heads = 8", "tensors 4"]),
        ({"act_fn": "relu", "attention_dir": "bidirectional"}, ["attention_dir = 'bidirectional'"]),
        (
            {"act_fn": "relu", "normalization_type": "Batch"},
            ["normalization_type = 'Batch'", "LNPre"],
        ),
        ({"act_fn": "relu", "normalization_type": "LN"}, ["missing", "ln1"]),
    ):
        settings.write_text(json.dumps(given))
        refused(path, *words)
    settings.write_text("[1]")
    refused(path, "an object of names and values")


@needs_toys
def test_every_tensor_of_a_toy_is_needed(tmp_path):
    path, w = toy("mod_addition_no_wd", tmp_path, {"act_fn": "relu"})
    for name in w:
        save_file({k: v for k, v in w.items() if k != name}, path)
        shown = {"pos_embed.W_pos": "positional_embedding_type"}
        refused(path, shown.get(name, name))
    save_file({**w, "blocks.0.mlp.extra": torch.ones(3)}, path)
    refused(path, "no place for (blocks.0.mlp.extra)")
    save_file({f"model.{k}": v.float() for k, v in w.items()}, path)
    assert "model. was left out of the names" in load(path).card.loaded
    torch.save(
        {"model": {k: v.float() for k, v in w.items()}, "cfg": {"act_fn": "relu"}},
        tmp_path / "toy.pt",
    )
    ids = torch.tensor([[3, 5, 113]])
    assert torch.equal(load(tmp_path / "toy.pt").model(ids).logits, load(path).model(ids).logits)


# -- HookedTransformer's own layout ----------------------------------------------------------------


def hooked(norm, act, *, n_kv=N_HEADS, positions="standard", attn_only=False):
    """A random state dict with every tensor that `HookedTransformer` saves, and its settings."""
    shapes = {
        "embed.W_E": (D_VOCAB, D_MODEL),
        "unembed.W_U": (D_MODEL, D_VOCAB),
        "unembed.b_U": (D_VOCAB,),
    }
    low = "_" if n_kv != N_HEADS else ""
    block = {
        "attn.W_Q": (N_HEADS, D_MODEL, D_HEAD),
        "attn.W_O": (N_HEADS, D_HEAD, D_MODEL),
        "attn.b_O": (D_MODEL,),
    }
    block |= {"attn.b_Q": (N_HEADS, D_HEAD)}
    for part in "KV":
        block |= {
            f"attn.{low}W_{part}": (n_kv, D_MODEL, D_HEAD),
            f"attn.{low}b_{part}": (n_kv, D_HEAD),
        }
    if not attn_only:
        block |= {"mlp.W_in": (D_MODEL, D_MLP), "mlp.W_out": (D_MLP, D_MODEL), "mlp.b_in": (D_MLP,)}
        block |= {"mlp.b_out": (D_MODEL,)} | (
            {"mlp.W_gate": (D_MODEL, D_MLP)} if act == "silu" else {}
        )
    learned = {"LN": ("w", "b"), "RMS": ("w",)}.get(str(norm), ())
    for kind, name in itertools.product(learned, ("ln1",) if attn_only else ("ln1", "ln2")):
        block[f"{name}.{kind}"] = (D_MODEL,)
    shapes |= {
        f"blocks.{i}.{name}": shape for i in range(N_LAYERS) for name, shape in block.items()
    }
    shapes |= {f"ln_final.{kind}": (D_MODEL,) for kind in learned}
    if positions == "standard":
        shapes["pos_embed.W_pos"] = (N_CTX, D_MODEL)
    generator = torch.Generator().manual_seed(0)
    weights = {
        k: torch.randn(s, generator=generator, dtype=torch.float64) * 0.4 for k, s in shapes.items()
    }
    masks = {
        f"blocks.{i}.attn.mask": torch.ones(N_CTX, N_CTX, dtype=torch.bool).tril()
        for i in range(N_LAYERS)
    }
    settings = {
        "normalization_type": norm,
        "act_fn": act,
        "eps": 1e-5,
        "n_ctx": N_CTX,
        "attn_only": attn_only,
    }
    return {**weights, **masks}, {**settings, "positional_embedding_type": positions}


def check(weights, settings, folder):
    save_file(weights, folder / "m.safetensors")
    (folder / "m.config.json").write_text(json.dumps(settings))
    subject = load(folder / "m.safetensors")
    ids = torch.randint(0, D_VOCAB, (2, N_CTX), generator=torch.Generator().manual_seed(1))
    expected = hooked_forward(weights, settings, ids)
    torch.testing.assert_close(subject.model(ids).logits.double(), expected, atol=2e-4, rtol=1e-4)
    return subject


@pytest.mark.parametrize("norm", ["LN", "LNPre", "RMS", "RMSPre", None])
@pytest.mark.parametrize("act", ["relu", "gelu", "gelu_new"])
def test_hooked_transformers_of_every_norm_and_activation(norm, act, tmp_path):
    check(*hooked(norm, act), tmp_path)


@pytest.mark.parametrize(
    "shape",
    [
        {"n_kv": 1},
        {"positions": "rotary"},
        {"positions": "none"},
        {"attn_only": True},
        {"act": "silu"},
    ],
)
def test_hooked_transformers_of_other_shapes(shape, tmp_path):
    weights, settings = hooked("RMS", **{"act": "relu", **shape})
    subject = check(weights, settings, tmp_path)
    assert subject.card.n_kv_heads == shape.get("n_kv", N_HEADS)
    unscaled = check(weights, {**settings, "use_attn_scale": False}, tmp_path)
    assert "W_Q is multiplied by" in unscaled.card.loaded and "W_Q" not in subject.card.loaded
    for name in weights:
        if name.endswith("mask"):
            continue
        save_file({k: v for k, v in weights.items() if k != name}, tmp_path / "m.safetensors")
        refused(tmp_path / "m.safetensors")


def test_norms_and_positions_that_nothing_shows_are_asked_for(tmp_path):
    weights, _ = hooked("LNPre", "relu")
    save_file(weights, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "does not say its normalization_type", "LNPre")
    (tmp_path / "m.config.json").write_text(
        json.dumps({"normalization_type": "LNPre", "act_fn": "relu"})
    )
    assert "1e-5, TransformerLens's default" in load(tmp_path / "m.safetensors").card.loaded
    save_file({k: v for k, v in weights.items() if "W_pos" not in k}, tmp_path / "m.safetensors")
    refused(tmp_path / "m.safetensors", "positional_embedding_type")


def test_the_command_line_reads_a_state_dict(tmp_path):
    from typer.testing import CliRunner

    from workbench.cli.app import app

    weights, settings = hooked("LN", "gelu_new")
    check(weights, settings, tmp_path)
    result = CliRunner().invoke(
        app, ["attention", str(tmp_path / "m.safetensors"), "--prompt", "1 2 3", "--json"]
    )
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["tokens"] == ["1", "2", "3"]
