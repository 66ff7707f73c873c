"""Exports: read by plain transformers and as GGUF, with the same logits, or refused naming the
setting.
"""

import json
import subprocess
import sys

import pytest
import torch
from gguf import GGUFReader
from safetensors.torch import load_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
)

import workbench as wb
from tests.conftest import tiny_gpt
from tests.hooked_transformer import hooked_forward
from workbench.errors import WorkbenchError
from workbench.subjects import Subject
from workbench.subjects.card import make_card
from workbench.subjects.export import export
from workbench.subjects.tokenizer import train_tokenizer

TEXT = (
    "When Mary and John went to the store, John gave a drink to Mary. The cat sat on the mat. " * 20
)
GPT = {
    "n_heads": 4,
    "d_vocab": 300,
    "positions": "rotary",
    "norm": "rmsnorm",
    "mlp": "swiglu",
    "bias": False,
}
SHAPES = {
    "ours as Llama": lambda: tiny_gpt(**GPT),
    "ours as Llama, grouped heads, untied": lambda: tiny_gpt(
        **GPT, n_kv_heads=2, tie_word_embeddings=False
    ),
    "ours as GPT-2": lambda: tiny_gpt(
        d_vocab=300, n_ctx=1024, positions="learned", norm="layernorm", mlp="gelu", bias=True
    ),
    "Llama": lambda: LlamaForCausalLM(
        LlamaConfig(
            vocab_size=300,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            rope_parameters={"rope_type": "default", "rope_theta": 5e4},
        )
    ),
    "GPT-2": lambda: GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4)),
}
PLAIN = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1])
ids = AutoTokenizer.from_pretrained(sys.argv[1])(sys.argv[2], return_tensors="pt")["input_ids"]
assert "workbench" not in sys.modules
torch.save(model(ids).logits.detach(), sys.argv[3])
"""


def subject(model) -> Subject:
    torch.manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, 0, 0.15)
    card = make_card(model, "tiny", "made by a test", "0" * 64, {"licence": "MIT"})
    return Subject("tiny", model, train_tokenizer([TEXT], "bpe", 300), card)


def logits(subject: Subject) -> torch.Tensor:
    return subject.model(subject.encode("Mary gave the cat a drink")).logits


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("half", [False, True])
def test_a_gguf_file_computes_the_same(shape, half, tmp_path, home):
    ours = subject(SHAPES[shape]())
    path = export(ours, tmp_path / "m.gguf", form="gguf", half=half)
    read = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, gguf_file="m.gguf")
    ids = tokenizer("Mary gave the cat a drink", return_tensors="pt")["input_ids"]
    assert ids.tolist() == ours.encode("Mary gave the cat a drink").tolist()
    torch.testing.assert_close(read(ids).logits, logits(ours), atol=2e-2 if half else 1e-5, rtol=0)
    torch.testing.assert_close(
        logits(wb.load(path)), logits(ours), atol=2e-2 if half else 1e-5, rtol=0
    )
    fields = GGUFReader(path)
    licence = fields.get_field("general.license")
    assert licence is not None and licence.contents() == "MIT"
    sizes = {tensor.tensor_type.name for tensor in fields.tensors if len(tensor.shape) > 1}
    assert sizes == ({"F16"} if half else {"F32"})


def test_a_folder_is_read_by_transformers_without_this_package(tmp_path):
    ours = subject(SHAPES["ours as Llama, grouped heads, untied"]())
    folder = export(ours, tmp_path / "m")
    arguments = [
        sys.executable,
        "-c",
        PLAIN,
        str(folder),
        "Mary gave the cat a drink",
        str(tmp_path / "logits.pt"),
    ]
    subprocess.run(arguments, check=True, cwd=tmp_path)
    torch.testing.assert_close(torch.load(tmp_path / "logits.pt"), logits(ours), atol=1e-5, rtol=0)
    assert "| Licence and data | MIT |" in (folder / "README.md").read_text()
    torch.testing.assert_close(logits(wb.load(folder)), logits(ours), atol=1e-5, rtol=0)


def test_the_bundled_model_is_exported_exactly(tmp_path):
    base = wb.load("shelf-base")
    for form, name in (("transformers", "folder"), ("gguf", "shelf.gguf"), ("workbench", "own")):
        read = wb.load(export(base, tmp_path / name, form=form))
        torch.testing.assert_close(logits(read), logits(base), atol=2e-4, rtol=0)
        assert (
            read.tokenizer("He had a sister")["input_ids"]
            == base.tokenizer("He had a sister")["input_ids"]
        )


def test_a_model_that_no_plain_class_computes_is_refused_naming_the_setting(tmp_path):
    ours = subject(tiny_gpt(d_vocab=300, positions="alibi"))
    with pytest.raises(
        WorkbenchError, match=r"positions = rotary.*positions = learned.*form workbench"
    ):
        export(ours, tmp_path / "m")
    assert not (tmp_path / "m").exists()
    export(ours, tmp_path / "m", form="workbench")
    torch.testing.assert_close(logits(wb.load(tmp_path / "m")), logits(ours))


@pytest.mark.parametrize(
    ("target", "form", "message"),
    [
        ("m", "onnx", "form is 'onnx'; choose transformers"),
        ("m.bin", "gguf", "must end in .gguf"),
        ("", "transformers", "exists already"),
    ],
)
def test_what_cannot_be_written_is_a_sentence(target, form, message, tmp_path, tiny):
    with pytest.raises(WorkbenchError, match=message):
        export(tiny, tmp_path / target, form=form)


def test_a_gpt2_of_other_length_is_refused_as_gguf(tmp_path):
    ours = subject(
        GPT2LMHeadModel(GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, n_positions=64))
    )
    with pytest.raises(WorkbenchError, match="1,024 positions only, and this model has 64"):
        export(ours, tmp_path / "m.gguf", form="gguf")


def test_a_tokenizer_without_bytes_is_refused_and_nothing_is_left(tmp_path):
    ours = subject(SHAPES["Llama"]())
    ours.tokenizer = train_tokenizer([TEXT], "char")
    with pytest.raises(WorkbenchError, match="only byte-level BPE"):
        export(ours, tmp_path / "m.gguf", form="gguf")
    assert list(tmp_path.iterdir()) == []


STATE_DICTS = {
    **{name: make for name, make in SHAPES.items() if name != "ours as GPT-2"},
    "ours as GPT-2": lambda: tiny_gpt(
        d_vocab=300, positions="learned", norm="layernorm", mlp="gelu", bias=True
    ),
    "ours, no norms, no MLPs": lambda: tiny_gpt(
        d_vocab=300, positions="learned", norm="none", mlp="none", bias=False
    ),
    "ours, ReLU, rotary, layernorm": lambda: tiny_gpt(
        d_vocab=300, positions="rotary", norm="layernorm", mlp="relu", bias=True, unembed_bias=True
    ),
    "ours, exact GELU": lambda: tiny_gpt(
        d_vocab=300, positions="learned", norm="layernorm", mlp="gelu_exact", bias=False
    ),
}


@pytest.mark.parametrize("shape", STATE_DICTS)
def test_a_transformerlens_state_dict_computes_the_same_by_hand_and_read_back(
    shape, tmp_path, home
):
    ours = subject(STATE_DICTS[shape]())
    with torch.no_grad():
        for name, parameter in ours.model.named_parameters():
            if name.endswith("bias") and "swiglu" not in str(getattr(ours.model.config, "mlp", "")):
                parameter.normal_(0, 0.1)
    folder = export(ours, tmp_path / "lens", form="transformerlens")
    settings = json.loads((folder / "model.config.json").read_text())
    ids = ours.encode("Mary gave the cat a drink")
    by_hand = hooked_forward(load_file(folder / "model.safetensors"), settings, ids)
    torch.testing.assert_close(by_hand.float(), ours.model(ids).logits, atol=2e-5, rtol=0)
    again = wb.load(folder)
    assert again.encode("Mary gave").tolist() == ours.encode("Mary gave").tolist()
    torch.testing.assert_close(again.model(ids).logits, ours.model(ids).logits, atol=2e-5, rtol=0)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("class_", ["ours", "GPT-2"])
def test_a_nanogpt_checkpoint_computes_the_same_by_hand_and_read_back(class_, bias, tmp_path, home):
    model = (
        tiny_gpt(d_vocab=300, positions="learned", norm="layernorm", mlp="gelu_exact", bias=bias)
        if class_ == "ours"
        else GPT2LMHeadModel(
            GPT2Config(vocab_size=300, n_embd=32, n_layer=2, n_head=4, activation_function="gelu")
        )
    )
    ours = subject(model)
    if bias:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(0, 0.1)
    folder = export(ours, tmp_path / "nano", form="nanogpt")
    checkpoint = torch.load(folder / "ckpt.pt", weights_only=True)
    assert checkpoint["model_args"]["bias"] is bias
    assert any(name.endswith(".bias") for name in checkpoint["model"]) is bias
    ids = ours.encode("Mary gave the cat a drink")
    torch.testing.assert_close(
        _nanogpt(checkpoint, ids[0]).float(), ours.model(ids).logits[0], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(
        wb.load(folder).model(ids).logits, ours.model(ids).logits, atol=1e-5, rtol=0
    )


def _nanogpt(checkpoint: dict, ids: torch.Tensor) -> torch.Tensor:
    """Logits `[pos, d_vocab]` of nanoGPT's model, written out in float64 from its published
    description.
    """
    w = {name: tensor.double() for name, tensor in checkpoint["model"].items()}
    heads = checkpoint["model_args"]["n_head"]

    def affine(x, name):
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", 0)

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, unbiased=False) + 1e-5).sqrt()
        return x * w[f"{name}.weight"] + w.get(f"{name}.bias", 0)

    x = w["transformer.wte.weight"][ids] + w["transformer.wpe.weight"][: len(ids)]
    mask = torch.full((len(ids), len(ids)), -torch.inf, dtype=torch.float64).triu(1)
    for i in range(checkpoint["model_args"]["n_layer"]):
        at = f"transformer.h.{i}."
        q, k, v = (
            t.unflatten(-1, (heads, -1))
            for t in affine(norm(x, f"{at}ln_1"), f"{at}attn.c_attn").chunk(3, -1)
        )
        scores = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5 + mask
        z = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).flatten(1)
        x = x + affine(z, f"{at}attn.c_proj")
        hidden = affine(norm(x, f"{at}ln_2"), f"{at}mlp.c_fc")
        x = x + affine(hidden * (1 + torch.erf(hidden / 2**0.5)) / 2, f"{at}mlp.c_proj")
    return norm(x, "transformer.ln_f") @ w["lm_head.weight"].T


@pytest.mark.parametrize(
    ("form", "settings", "named"),
    [
        ("nanogpt", {"positions": "rotary"}, "positions = learned"),
        ("nanogpt", {"positions": "learned", "norm": "layernorm", "mlp": "gelu"}, "gelu_exact"),
        ("transformerlens", {"positions": "alibi"}, "positions = alibi"),
        ("transformerlens", {"positions": "rotary", "qk_norm": True}, "qk_norm = True"),
        ("transformerlens", {"positions": "learned", "mlp": "relu2"}, "mlp = relu2"),
    ],
)
def test_a_form_that_cannot_hold_a_model_names_the_setting(form, settings, named, tmp_path, home):
    with pytest.raises(WorkbenchError, match=named):
        export(subject(tiny_gpt(d_vocab=300, **settings)), tmp_path / "out", form=form)
    assert not (tmp_path / "out").exists()
