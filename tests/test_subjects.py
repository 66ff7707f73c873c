"""Loading: every source, every family's TransformerLens view, and clear words for what cannot be
loaded.
"""

import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel
from transformers.activations import NewGELUActivation

from tests.conftest import subject_of, tiny_gpt
from tests.families import FAMILIES, NORMED_TOGETHER, make
from workbench.errors import WorkbenchError
from workbench.subjects import available, load
from workbench.subjects.tokenizer import train_tokenizer

TEXT = "The cat sat on the mat. The dog sat on the cat. " * 40


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory):
    """A GPT-2 folder with a tokenizer, as a user would have it."""
    folder = tmp_path_factory.mktemp("models") / "my-gpt2"
    torch.manual_seed(0)
    tokenizer = train_tokenizer([TEXT], "bpe", 300)
    GPT2LMHeadModel(
        GPT2Config(vocab_size=len(tokenizer), n_positions=32, n_embd=32, n_layer=2, n_head=2)
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("family", [*FAMILIES, *NORMED_TOGETHER])
def test_the_transformerlens_view_gives_the_plain_models_logits(family):
    model = make(family).float()
    subject = subject_of(model, family)
    ids = torch.randint(0, 100, (2, 12), generator=torch.Generator().manual_seed(0))
    plain = model(ids).logits
    torch.testing.assert_close(subject.bridge(ids), plain, atol=1e-4, rtol=0)
    assert torch.equal(model(ids).logits, plain), "the view must leave the model itself alone"
    _, cache = subject.bridge.run_with_cache(ids)
    assert cache["pattern", 1].shape == (2, 4, 12, 12)


def test_a_folder_loads_with_its_card(gpt2_folder):
    subject = load(gpt2_folder)
    card = subject.card
    assert (subject.name, card.n_layers, card.n_heads, card.n_ctx) == ("my-gpt2", 2, 2, 32)
    assert (card.positions, card.architecture) == ("learned", "GPT2LMHeadModel")
    assert len(card.sha256) == 64 and card.n_params == sum(
        p.numel() for p in subject.model.parameters()
    )
    assert "".join(subject.tokens(subject.encode("The cat sat"))) == "The cat sat"


def test_models_loaded_at_once_are_all_whole():
    names = ("shelf-base", "shelf-tuned", "shelf-positions/rotary", "shelf-positions/learned") * 3
    with ThreadPoolExecutor(len(names)) as threads:
        subjects = list(threads.map(load, names))
    assert [s.name for s in subjects] == list(names)
    for subject in (*subjects, load("shelf-base")):
        devices = {p.device.type for p in (*subject.model.parameters(), *subject.model.buffers())}
        assert devices == {subject.device.type}, subject.name


def test_bytes_of_one_character_show_it_with_their_place():
    subject = load("shelf-base")
    ids = subject.encode("a 語ש")
    assert subject.tokens(ids) == ["a", " ", "語⟨1/3⟩", "語⟨2/3⟩", "語⟨3/3⟩", "ש⟨1/2⟩", "ש⟨2/2⟩"]
    assert "語⟨1/3⟩" not in subject.tokens(ids[:, :4]), "a character that is cut is not whole"
    assert subject.tokens(ids[:, 2:5], unrelated=True) == subject.tokenizer.convert_ids_to_tokens(
        ids[0, 2:5].tolist()
    )


def test_the_gguf_loads_saves_and_loads_again(smollm, tmp_path):
    subject = load(smollm)
    assert (subject.card.n_layers, subject.card.n_heads, subject.card.n_kv_heads) == (30, 9, 3)
    assert (subject.card.positions, subject.card.licence) == ("rotary", "apache-2.0")
    ids = subject.encode("When Mary and John went to the store, John gave a drink to")
    with torch.no_grad():
        logits = subject.model(ids).logits
        assert subject.tokens(logits[0, -1].argmax(-1, keepdim=True)) == [" Mary"]
        torch.testing.assert_close(subject.bridge(ids), logits, atol=1e-4, rtol=0)
    chat = subject.tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False
    )
    assert "<|im_start|>user\nHi" in chat
    subject.model.save_pretrained(tmp_path)
    subject.tokenizer.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(load(tmp_path).model(ids).logits, logits)


@pytest.mark.parametrize("bias", [True, False])
def test_a_nanogpt_checkpoint_is_the_same_function(tmp_path, bias):
    """The checkpoint is written by nanoGPT's naming and its forward pass is worked out here, step
    by step.
    """
    torch.manual_seed(0)
    d = 16
    n_head = 2
    vocab = 30
    ctx = 8
    shapes: dict[str, tuple[int, ...]] = {
        "transformer.wte.weight": (vocab, d),
        "transformer.wpe.weight": (ctx, d),
    }
    block = {
        "ln_1": (d,),
        "attn.c_attn": (3 * d, d),
        "attn.c_proj": (d, d),
        "ln_2": (d,),
        "mlp.c_fc": (4 * d, d),
        "mlp.c_proj": (d, 4 * d),
    }
    for name, shape in block.items():
        shapes[f"transformer.h.0.{name}.weight"] = shape
        if bias:
            shapes[f"transformer.h.0.{name}.bias"] = shape[:1]
    shapes["transformer.ln_f.weight"] = (d,)
    if bias:
        shapes["transformer.ln_f.bias"] = (d,)
    w = {k: torch.randn(s) * 0.3 for k, s in shapes.items()}
    w["lm_head.weight"] = w["transformer.wte.weight"]
    args = {
        "n_layer": 1,
        "n_head": n_head,
        "n_embd": d,
        "block_size": ctx,
        "vocab_size": vocab,
        "bias": bias,
    }
    checkpoint = {
        "model": {f"_orig_mod.{k}": v for k, v in w.items()},
        "model_args": args,
        "iter_num": 5,
    }
    torch.save(checkpoint, tmp_path / "ckpt.pt")

    def linear(x, name):
        return torch.nn.functional.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))

    def norm(x, name):
        return torch.nn.functional.layer_norm(x, (d,), w[f"{name}.weight"], w.get(f"{name}.bias"))

    ids = torch.randint(0, vocab, (1, ctx))
    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"]
    q, k, v = linear(norm(x, "transformer.h.0.ln_1"), "transformer.h.0.attn.c_attn").split(d, dim=2)
    q, k, v = (y.view(1, ctx, n_head, d // n_head).transpose(1, 2) for y in (q, k, v))
    y = (
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        .transpose(1, 2)
        .reshape(1, ctx, d)
    )
    x = x + linear(y, "transformer.h.0.attn.c_proj")
    inner = torch.nn.functional.gelu(
        linear(norm(x, "transformer.h.0.ln_2"), "transformer.h.0.mlp.c_fc")
    )
    x = x + linear(inner, "transformer.h.0.mlp.c_proj")
    expected = norm(x, "transformer.ln_f") @ w["lm_head.weight"].T

    subject = load(tmp_path / "ckpt.pt")
    torch.testing.assert_close(subject.model(ids).logits, expected, atol=1e-5, rtol=0)
    # No tokenizer came with it: a text is its ids.
    assert subject.encode("3 1 2").tolist() == [[3, 1, 2]]


def test_the_sorting_model_with_a_published_answer_sorts(tmp_path, smollm):
    """minGPT's six-digit sorter (3 layers, every one of its 729 inputs right) through the GPT-2
    mapping.
    """
    import json
    import os
    from pathlib import Path

    from safetensors.torch import load_file

    toy = Path(os.environ["WORKBENCH_MODELS"]) / "small/toy/gpt_nano_sort"
    config = json.loads(toy.with_suffix(".config.json").read_text())
    weights = {
        k: v
        for k, v in load_file(toy.with_suffix(".safetensors")).items()
        if not k.endswith(".attn.bias")
    }
    args = {"n_layer": 3, "n_head": 3, "n_embd": 48, "block_size": 11, "vocab_size": 3}
    assert config is not None
    torch.save({"model": weights, "model_args": args}, tmp_path / "ckpt.pt")
    model = load(tmp_path / "ckpt.pt").model
    for block in model.get_submodule("transformer.h").children():
        # minGPT's GELU is the tanh form, nanoGPT's the exact one.
        block.get_submodule("mlp").act = NewGELUActivation()
    inputs = torch.cartesian_prod(*[torch.arange(3)] * 6)
    ids = inputs
    with torch.no_grad():
        for _ in range(6):
            ids = torch.cat([ids, model(ids).logits[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(ids[:, 6:], inputs.sort(dim=1).values)


def bad_inputs(tmp_path):
    """Name, file to write (or None), and what the sentence must say."""
    empty = tmp_path / "empty"
    no_weights = tmp_path / "no-weights"
    broken = tmp_path / "broken"
    for folder in (empty, no_weights, broken):
        folder.mkdir()
    (empty / "readme.txt").write_text("nothing")
    (no_weights / "config.json").write_text('{"model_type": "gpt2"}')
    (no_weights / "pytorch_model.bin").write_bytes(pickle.dumps({}))
    tiny_gpt().save_pretrained(broken)
    whole = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(40))
    (tmp_path / "fake.gguf").write_bytes(b"not a gguf file at all")
    (tmp_path / "model.pkl").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(print))
    return [
        (empty, "no config.json"),
        (no_weights, "no safetensors"),
        (broken, "not a whole safetensors file"),
        (tmp_path / "broken.gguf", "broken.gguf"),
        (tmp_path / "fake.gguf", "not a GGUF file"),
        (tmp_path / "model.pkl", "Pickled weights are not read"),
        (tmp_path / "evil.pt", "without pickle"),
        (tmp_path / "missing.gguf", "no file or folder"),
        ("nobody/no-such-model", "not in the Hugging Face cache"),
        ("../../etc/passwd", "no file or folder|cannot|is a"),
        ("", "No model was named"),
    ]


def test_what_cannot_be_loaded_is_said_in_one_sentence(tmp_path):
    for source, message in bad_inputs(tmp_path):
        with pytest.raises(WorkbenchError, match=message) as caught:
            load(source)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


def test_prompts_that_cannot_be_read_are_said_in_one_sentence(tiny):
    for text, message in (
        ("", "empty"),
        (" ".join(["1"] * 65), "65 tokens, and the context of tiny holds 64"),
    ):
        with pytest.raises(WorkbenchError, match=message):
            tiny.encode(text)
    with pytest.raises(WorkbenchError, match=r"is 2 tokens for tiny \('1' \+ '2'\)"):
        tiny.answer_id("1 2")
    assert tiny.answer_id("7") == 7


def test_bundled_models_are_listed_first():
    names = [listed.name for listed in available()]
    assert names[:4] == ["shelf-base", "shelf-digits", "shelf-english", "shelf-tuned"]


def test_importing_the_package_imports_no_model_library():
    code = (
        "import workbench, sys; "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'streamlit')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
