"""LoRA folders as PEFT writes them: added tokens, relative bases; and those that do not fit are
refused.
"""

import json
import shutil

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
)

from tests.test_loading_report import GPT2, IDS, LLAMA, refused
from workbench.subjects import adapter, load
from workbench.subjects.tokenizer import id_tokenizer

TARGETS = {"llama": ["q_proj", "v_proj"], "tied": ["q_proj", "v_proj"], "gpt2": ["c_attn"]}


def base_model(kind):
    torch.manual_seed(0)
    if kind == "gpt2":
        return GPT2LMHeadModel(GPT2Config(**GPT2)).eval()
    return LlamaForCausalLM(LlamaConfig(**LLAMA, tie_word_embeddings=kind == "tied")).eval()


@pytest.fixture(params=TARGETS)
def kind(request):
    return request.param


@pytest.fixture
def base(kind, tmp_path):
    """The folder of a base model."""
    base_model(kind).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def trained(kind, folder, base, *, n_tokens=60, name=None, **settings):
    """A LoRA folder on a base, with weights that matter; gives the logits that PEFT computes."""
    model = base_model(kind)
    if n_tokens != 60:
        torch.manual_seed(1)
        model.resize_token_embeddings(n_tokens)
    config = LoraConfig(r=2, target_modules=TARGETS[kind], task_type="CAUSAL_LM", **settings)
    wrapped = get_peft_model(model, config)
    torch.manual_seed(2)
    with torch.no_grad():
        for key, parameter in wrapped.named_parameters():
            if "lora_B" in key or "modules_to_save" in key or "trainable_tokens_delta" in key:
                parameter.normal_(0, 0.3)
    wrapped.peft_config["default"].base_model_name_or_path = name or str(base)
    wrapped.save_pretrained(folder)
    id_tokenizer(n_tokens).save_pretrained(folder)
    ids = torch.cat([IDS, torch.tensor([[n_tokens - 1, n_tokens - 2]])], 1)
    with torch.no_grad():
        return ids, wrapped.eval()(ids).logits


@pytest.mark.parametrize("change", ["plain", "added tokens", "embeddings saved", "fewer tokens"])
def test_an_adapter_computes_what_peft_computes(kind, change, base, tmp_path):
    n_tokens = {"added tokens": 62, "embeddings saved": 62, "fewer tokens": 58}.get(change, 60)
    more = {}
    if change == "embeddings saved":
        more = {
            "modules_to_save": ["wte", "lm_head"] if kind == "gpt2" else ["embed_tokens", "lm_head"]
        }
    ids, expected = trained(kind, tmp_path / "lora", base, n_tokens=n_tokens, **more)
    subject = load(tmp_path / "lora")
    with torch.no_grad():
        torch.testing.assert_close(subject.model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert subject.card.d_vocab == n_tokens and subject.card.loaded == ""


def test_new_tokens_that_the_adapter_does_not_bring_are_refused(tmp_path):
    base_model("llama").save_pretrained(tmp_path / "base")
    trained("llama", tmp_path / "lora", tmp_path / "base", n_tokens=62)
    path = tmp_path / "lora" / adapter.WEIGHTS
    save_file({k: v for k, v in load_file(path).items() if "lm_head" not in k}, path)
    refused(tmp_path / "lora", "62 tokens", "has 60", "save_embedding_layers")


@pytest.mark.parametrize("base_name", ["../base", "base", "./base", "sub/../base"])
def test_a_relative_base_is_looked_for_from_the_adapters_folder_too(
    base_name, tmp_path, monkeypatch
):
    base_model("llama").save_pretrained(tmp_path / "base")
    ids, expected = trained("llama", tmp_path / "lora", tmp_path / "base", name=base_name)
    (tmp_path / "sub").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "elsewhere" / "deep")
    subject = load(tmp_path / "lora")
    with torch.no_grad():
        torch.testing.assert_close(subject.model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert subject.card.parent == str((tmp_path / "base").resolve())


def test_the_adapters_scale_is_in_the_hash(tmp_path):
    base_model("llama").save_pretrained(tmp_path / "base")
    trained("llama", tmp_path / "lora", tmp_path / "base")
    before = load(tmp_path / "lora")
    config = json.loads((tmp_path / "lora" / adapter.CONFIG).read_text())
    (tmp_path / "lora" / adapter.CONFIG).write_text(json.dumps({**config, "lora_alpha": 1}))
    after = load(tmp_path / "lora")
    assert (
        not torch.equal(after.model(IDS).logits, before.model(IDS).logits)
        and after.hash != before.hash
    )


def test_adapters_that_do_not_fit_are_refused(tmp_path):
    base_model("llama").save_pretrained(tmp_path / "base")
    trained("llama", tmp_path / "lora", tmp_path / "base")
    path = tmp_path / "lora" / adapter.WEIGHTS
    weights = load_file(path)
    for change, words in (
        (
            lambda: {k.replace("self_attn", "attention"): v for k, v in weights.items()},
            ["missing", "no place for"],
        ),
        (lambda: dict(list(weights.items())[1:]), ["1 tensor that the model needs, missing"]),
        (
            lambda: {
                **weights,
                "base_model.model.model.layers.0.x.lora_A.weight": torch.ones(2, 32),
            },
            ["no place for"],
        ),
        (
            lambda: {k: v[:1] if "lora_A" in k else v for k, v in weights.items()},
            ["[1, 32] where the model has [2, 32]"],
        ),
        (lambda: {k: v * torch.nan for k, v in weights.items()}, ["NaN"]),
        (dict, ["missing"]),
    ):
        save_file(change(), path)
        refused(tmp_path / "lora", "lora", *words)


@pytest.mark.parametrize(
    "rename",
    [
        lambda key: key.replace(".weight", ".default.weight"),
        lambda key: key.removeprefix("base_model.model."),
        lambda key: f"module.{key}",
        lambda key: key.replace("base_model.model.", "base_model.model._orig_mod."),
        lambda key: f"base_model.model.{key}",
    ],
)
def test_other_names_of_the_same_adapter_are_read_and_said(rename, tmp_path):
    base_model("llama").save_pretrained(tmp_path / "base")
    ids, expected = trained("llama", tmp_path / "lora", tmp_path / "base")
    path = tmp_path / "lora" / adapter.WEIGHTS
    save_file({rename(key): tensor for key, tensor in load_file(path).items()}, path)
    subject = load(tmp_path / "lora")
    with torch.no_grad():
        torch.testing.assert_close(subject.model(ids).logits, expected, atol=1e-5, rtol=1e-4)
    assert "in the names of the adapter's weights" in subject.card.loaded


def test_an_adapter_of_a_classifier_is_refused(tmp_path):
    base_model("llama").save_pretrained(tmp_path / "base")
    classifier = LlamaForSequenceClassification(LlamaConfig(**LLAMA))
    wrapped = get_peft_model(
        classifier, LoraConfig(r=2, target_modules=["q_proj"], task_type="SEQ_CLS")
    )
    wrapped.peft_config["default"].base_model_name_or_path = str(tmp_path / "base")
    wrapped.save_pretrained(tmp_path / "lora")
    refused(tmp_path / "lora", "SEQ_CLS", "predicts no next token")


def test_a_full_fine_tune_with_two_more_tokens_loads(kind, base, tmp_path):
    model = base_model(kind)
    model.resize_token_embeddings(62)
    shutil.copytree(base, tmp_path / "tuned")
    model.save_pretrained(tmp_path / "tuned")
    subject = load(tmp_path / "tuned")
    ids = torch.tensor([[1, 60, 61]])
    with torch.no_grad():
        assert subject.card.d_vocab == 62 and torch.equal(
            subject.model(ids).logits, model.eval()(ids).logits
        )
