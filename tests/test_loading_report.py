"""Every load accounts for every tensor: what is missing, left over, of another shape or not finite
is refused.
"""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    LlamaModel,
)

from tests.conftest import tiny_gpt
from workbench.errors import WorkbenchError
from workbench.subjects import load
from workbench.subjects.gguf_file import LLAMA3
from workbench.subjects.loading_report import HARMLESS, LoadingReport, check_finite, is_needed
from workbench.training.resources import n_planned

LLAMA: dict[str, Any] = {
    "vocab_size": 60,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
}
GPT2: dict[str, Any] = {
    "vocab_size": 60,
    "n_positions": 32,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 2,
}
IDS = torch.arange(10)[None]
FAMILIES = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "ours": lambda: tiny_gpt(d_vocab=60),
}


def saved(model, folder) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
    """The tensors of a model by name as saved in a folder, and the logits that it must give.

    None in place of logits for a model without a head.
    """
    model.eval().save_pretrained(folder)
    with torch.no_grad():
        logits = model(IDS).logits if hasattr(model, "lm_head") else None
    return load_file(folder / "model.safetensors"), logits


def write(folder, weights):
    """Other weights for a folder."""
    save_file(
        {k: v.contiguous() for k, v in weights.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )


def refused(source, *words):
    """The sentence with which a source is refused; it holds all of `words`."""
    with pytest.raises(WorkbenchError) as caught:
        load(source)
    sentence = str(caught.value)
    assert "\n" not in sentence and len(sentence) < 500, sentence
    for word in words:
        assert word in sentence, sentence
    return sentence


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_any_one_of_its_tensors_is_refused(family, tmp_path):
    weights, logits = saved(FAMILIES[family](), tmp_path)
    with torch.no_grad():
        assert logits is not None and torch.equal(load(tmp_path).model(IDS).logits, logits)
    assert len(weights) > 15
    for name in weights:
        write(tmp_path, {key: tensor for key, tensor in weights.items() if key != name})
        refused(tmp_path, "that the model needs, missing", name)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "prefix", ["_orig_mod.", "module.", "module._orig_mod.", "base_model.model.", "net."]
)
def test_a_mere_prefix_is_left_out_and_said(family, prefix, tmp_path):
    weights, logits = saved(FAMILIES[family](), tmp_path)
    assert load(tmp_path).card.loaded == ""
    write(tmp_path, {prefix + name: tensor for name, tensor in weights.items()})
    subject = load(tmp_path)
    with torch.no_grad():
        assert logits is not None and torch.equal(subject.model(IDS).logits, logits)
    assert (
        "left out of the names" in subject.card.loaded
        and prefix.split(".")[0] in subject.card.loaded
    )
    several = {
        (prefix if i % 2 else "") + name: tensor for i, (name, tensor) in enumerate(weights.items())
    }
    if "_orig_mod" not in prefix:  # torch's own words are no part of any name, wherever they stand
        write(tmp_path, several)
        refused(tmp_path, "missing")


@pytest.mark.parametrize(
    ("family", "word"), [("llama", "num_hidden_layers"), ("gpt2", "n_layer"), ("ours", "n_layers")]
)
def test_a_configuration_of_more_or_fewer_layers_than_the_file_is_refused(family, word, tmp_path):
    saved(FAMILIES[family](), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    for n, reason in ((1, "no place for"), (3, "missing"), (None, "missing")):
        changed = {**config, word: n} if n else {k: v for k, v in config.items() if k != word}
        path.write_text(json.dumps(changed | ({} if n else {word: 4})))
        refused(tmp_path, reason, "layers" if n == 3 else "")


def test_models_without_a_language_models_head_are_refused(tmp_path):
    saved(LlamaModel(LlamaConfig(**LLAMA)), tmp_path / "bare")
    refused(tmp_path / "bare", "lm_head.weight", "predicts no next token")
    for name, model in (
        ("llama", LlamaForSequenceClassification(LlamaConfig(**LLAMA))),
        ("gpt2", GPT2ForSequenceClassification(GPT2Config(**GPT2, pad_token_id=0))),
    ):
        saved(model, tmp_path / name)
        refused(tmp_path / name, "score.weight", "SequenceClassification", "predicts no next token")
    tied = LlamaModel(LlamaConfig(**LLAMA, tie_word_embeddings=True))
    saved(tied, tmp_path / "tied")  # a bare model whose head is its embedding lacks nothing
    with torch.no_grad():
        expected = tied.eval()(IDS).last_hidden_state @ tied.embed_tokens.weight.T
        torch.testing.assert_close(load(tmp_path / "tied").model(IDS).logits, expected)


def test_shapes_that_differ_are_named(tmp_path):
    weights, _ = saved(FAMILIES["ours"](), tmp_path)
    name = "model.layers.1.mlp.fc_in.weight"
    write(tmp_path, {**weights, name: weights[name][:-1]})
    shape = list(weights[name].shape)
    refused(tmp_path, name, f"[{shape[0] - 1}, {shape[1]}] where the model has {shape}")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_name(value, tmp_path):
    weights, _ = saved(FAMILIES["gpt2"](), tmp_path)
    name = "transformer.h.1.ln_2.bias"
    broken = weights[name].clone()
    broken[3] = value
    write(tmp_path, {**weights, name: broken})
    refused(tmp_path, "1 tensor with NaN or infinite values", name)


def test_large_finite_weights_are_finite():
    huge = torch.full((4,), torch.finfo(torch.float32).max)
    check_finite([("w", huge)], "a file")  # its sum is infinite, it is not
    with pytest.raises(WorkbenchError, match=r"2 tensors with NaN or infinite values \(a, b\)"):
        check_finite([("a", huge * 2), ("b", huge - torch.inf), ("c", huge)], "a file")


def test_masks_and_angles_of_older_files_are_harmless(tmp_path):
    weights, logits = saved(FAMILIES["gpt2"](), tmp_path)
    masks = {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 32, 32).tril() for i in range(2)}
    write(tmp_path, {**weights, **masks})
    with torch.no_grad():
        assert logits is not None and torch.equal(load(tmp_path).model(IDS).logits, logits)
    needed = (
        "h.0.attn.c_attn.bias",
        "layers.0.self_attn.q_proj.bias",
        "blocks.0.attn.W_Q",
        "attn.q.bias",
    )
    assert all(map(is_needed, needed)) and len(HARMLESS) > 3
    assert not any(
        map(is_needed, ("h.1.attn.masked_bias", "layers.2.self_attn.rotary_emb.inv_freq"))
    )


def test_a_report_names_the_first_and_counts_the_rest():
    assert (
        LoadingReport(missing=("a", "b", "c", "d")).words().endswith("missing (a, b, c and 1 more)")
    )
    report = LoadingReport.between(
        {"a": (1,), "z": (2,)}, {"z": (3,), **{f"m{i}": (1,) for i in range(5)}}
    )
    assert report.n_open == 7 and not report.is_clean
    assert report.words() == (
        "5 tensors that the model needs, missing (m0 and 4 more) "
        "and 1 tensor that the model has no place for (a) "
        "and 1 tensor of another shape (z: [2] where the model has [3])"
    )


# -- nanoGPT ---------------------------------------------------------------------------------------


def nanogpt_weights(bias=True):
    """A checkpoint's tensors by nanoGPT's names, matrices `[out, in]`."""
    weights = GPT2LMHeadModel(GPT2Config(**GPT2)).state_dict()
    turned = ("c_attn.weight", "c_proj.weight", "c_fc.weight")
    weights = {k: (v.T if k.endswith(turned) else v).clone() for k, v in weights.items()}
    return {k: v for k, v in weights.items() if bias or not k.endswith(".bias")}


def nanogpt_file(path, weights, **args):
    sizes = {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 32,
        "block_size": 32,
        "vocab_size": 60,
        "bias": True,
    }
    torch.save({"model": weights, "model_args": {**sizes, **args}}, path)
    return path


def test_a_nanogpt_checkpoint_accounts_for_every_tensor(tmp_path):
    weights = nanogpt_weights()
    path = nanogpt_file(tmp_path / "ckpt.pt", weights)
    load(path)
    for name in weights:
        if name == "lm_head.weight":
            continue  # tied to wte, and older checkpoints leave it out
        nanogpt_file(path, {key: tensor for key, tensor in weights.items() if key != name})
        refused(path, "missing", name)
    nanogpt_file(path, {**weights, "transformer.extra.weight": torch.ones(2)})
    refused(path, "no place for", "transformer.extra.weight")
    for n_layer, word in ((1, "no place for"), (3, "missing")):
        refused(nanogpt_file(path, weights, n_layer=n_layer), word)
    refused(nanogpt_file(path, weights, vocab_size=61), "[60, 32] where the model has [61, 32]")
    refused(
        nanogpt_file(path, {**weights, "transformer.ln_f.weight": torch.full((32,), torch.nan)}),
        "NaN",
    )
    load(nanogpt_file(path, nanogpt_weights(bias=False), bias=False))
    refused(nanogpt_file(path, weights, bias=False), "no place for")


# -- GGUF ------------------------------------------------------------------------------------------


def gguf_file(path, *, without="", extra=None, n_layers=2, split=1):
    """A tiny Llama as GGUF, written tensor by tensor."""
    from gguf import GGUFWriter

    d = 32
    d_mlp = 48
    vocab = 60
    kv = 16
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(d)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(d_mlp)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(vocab)
    if split > 1:
        writer.add_uint16("split.count", split)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(["!#", *(chr(33 + i) for i in range(vocab - 1))])
    writer.add_token_types([1] * vocab)
    writer.add_token_merges(["! #"])
    shapes = {
        "token_embd.weight": (vocab, d),
        "output_norm.weight": (d,),
        "output.weight": (vocab, d),
    }
    for i in range(2):
        block = {
            "attn_norm": (d,),
            "ffn_norm": (d,),
            "attn_q": (d, d),
            "attn_k": (kv, d),
            "attn_v": (kv, d),
        }
        block |= {
            "attn_output": (d, d),
            "ffn_gate": (d_mlp, d),
            "ffn_up": (d_mlp, d),
            "ffn_down": (d, d_mlp),
        }
        shapes |= {f"blk.{i}.{name}.weight": shape for name, shape in block.items()}
    noise = np.random.default_rng(0)
    for name, shape in shapes.items():
        if name != without:
            writer.add_tensor(name, noise.normal(0, 0.1, shape).astype(np.float32))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_gguf_file_accounts_for_every_tensor(tmp_path):
    whole = load(gguf_file(tmp_path / "whole.gguf"))
    assert whole.card.n_layers == 2 and whole.card.n_params == 2 * 60 * 32 + 32 + 2 * (
        64 + 3072 + 3 * 48 * 32
    )
    for name in (
        "blk.0.attn_q.weight",
        "blk.1.ffn_norm.weight",
        "output_norm.weight",
        "token_embd.weight",
    ):
        refused(gguf_file(tmp_path / "less.gguf", without=name), "missing")
    refused(gguf_file(tmp_path / "long.gguf", n_layers=3), "missing")
    refused(gguf_file(tmp_path / "short.gguf", n_layers=1), "block_count is 1", "blk.1.")
    refused(gguf_file(tmp_path / "part.gguf", split=3), "one of 3 parts", "--merge")
    bias = {"blk.0.attn_q.bias": np.ones(32, np.float32)}
    refused(gguf_file(tmp_path / "bias.gguf", extra=bias), "would be left out")


def test_llama_3s_rotary_factors_of_a_gguf_file_reach_the_configuration(tmp_path):
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, **LLAMA3}
    reference = LlamaForCausalLM(LlamaConfig(**LLAMA, rope_parameters=rope))
    plain = LlamaForCausalLM(LlamaConfig(**LLAMA))
    factors = plain.model.rotary_emb.inv_freq / reference.model.rotary_emb.inv_freq
    path = gguf_file(
        tmp_path / "llama3.gguf", extra={"rope_freqs.weight": factors.numpy().astype(np.float32)}
    )
    turned = load(path).model.model.rotary_emb.inv_freq
    torch.testing.assert_close(turned, reference.model.rotary_emb.inv_freq)
    wrong = {"rope_freqs.weight": np.array([1, 5, 2, 1], np.float32)}
    refused(gguf_file(tmp_path / "other.gguf", extra=wrong), "not Llama 3's")


# -- training --------------------------------------------------------------------------------------


def test_a_checkpoint_that_lost_a_tensor_is_not_trained_on(tmp_path):
    from types import SimpleNamespace

    from workbench.store import Tracker
    from workbench.subjects.tokenizer import id_tokenizer
    from workbench.training import checkpoints
    from workbench.training.loop import resumed

    folder = tmp_path / "checkpoints" / "step-0000010"
    weights, _ = saved(FAMILIES["ours"](), folder)
    id_tokenizer(60).save_pretrained(folder)
    torch.save({}, folder / checkpoints.STATE)
    tracker = cast("Tracker", SimpleNamespace(folder=tmp_path))
    trainee = resumed(tracker)
    assert trainee is not None and trainee.first == 10
    write(folder, {k: v for k, v in weights.items() if k != "model.layers.0.attn.q.weight"})
    with pytest.raises(WorkbenchError, match=r"missing \(model.layers.0.attn.q.weight\)"):
        resumed(tracker)
    shutil.rmtree(folder)


def test_threads_that_load_and_plan_at_once_leave_torch_as_it_was():
    """transformers replaces functions of torch while it builds a model; what one thread found is
    another's.
    """
    drawing = {
        name: getattr(torch.nn.init, name) for name in ("normal_", "ones_", "zeros_", "uniform_")
    }
    shape = {"n_layers": 4, "d_model": 64, "n_heads": 4}

    def work(turn: int) -> None:
        for _ in range(4):
            load("shelf-base") if turn % 2 else n_planned(shape, 300)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(8)))
    assert {name: getattr(torch.nn.init, name) for name in drawing} == drawing
    assert all(parameter.isfinite().all() for parameter in tiny_gpt().parameters())


def test_infinite_limits_of_clipping_are_no_damage():
    check_finite(
        [("layers.0.input_min", torch.tensor(-torch.inf)), ("layers.0.w", torch.ones(2))], "m"
    )
    for name, value in (("layers.0.input_min", torch.nan), ("layers.0.w", torch.inf)):
        with pytest.raises(WorkbenchError, match=name):
            check_finite([(name, torch.tensor(value))], "m")
