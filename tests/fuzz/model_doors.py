"""Doors of models: weights, configurations, tokenizers, cards, adapters, and what the home folder
keeps of them.
"""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.conftest import tiny_gpt
from tests.fuzz.harness import Door
from workbench import paths
from workbench.subjects import load
from workbench.subjects.card import write_card
from workbench.subjects.subject import Subject

TEXT = "The cat sat on the mat, and the dog slept. It was 3 o'clock when we left the house.\n"
N_TOKENS = 280
SHAPE = {"d_vocab": N_TOKENS, "n_ctx": 16, "n_layers": 2, "n_heads": 2, "d_model": 8, "d_mlp": 8}


def tokenizer() -> Any:
    """A byte-level BPE tokenizer of few tokens."""
    from workbench.subjects.tokenizer import train_tokenizer

    return train_tokenizer([TEXT], "bpe", N_TOKENS)


def gpt(**changes: Any) -> Any:
    """Our GPT, as small as it goes."""
    return tiny_gpt(**{**SHAPE, **changes})


def llama(**changes: Any) -> Any:
    """A Llama, as small as it goes."""
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {
        "vocab_size": N_TOKENS,
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
    }
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 16}
    torch.manual_seed(0)
    return LlamaForCausalLM(LlamaConfig(**{**shape, **heads, **changes})).eval()


def gpt2() -> Any:
    """A GPT-2, as small as it goes."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=N_TOKENS,
            n_embd=8,
            n_layer=2,
            n_head=2,
            n_positions=16,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()


def folder_of(folder: Path, model: Any, name: str = "config.json", **saving: Any) -> Path:
    """A model's folder with its tokenizer and card; gives the file of it that is called `name`."""
    model.save_pretrained(folder, **saving)
    tokenizer().save_pretrained(folder)
    write_card(
        folder,
        {"name": "small", "licence": "MIT", "notes": "Made by a test.", "metrics": {"loss": 1.5}},
    )
    return folder / name


def _gpt_folder(name: str, folder: Path) -> Path:
    return folder_of(folder, gpt(), name)


def use(subject: Subject) -> None:
    """What every page does with a model: its card, a text as tokens and back, one pass."""
    repr(subject)
    subject.to_frame()
    json.dumps(subject.card.to_dict())
    ids = subject.encode("The cat sat")
    subject.tokens(ids[0])
    subject.text(ids[0])
    subject.notices("The cat")
    assert torch.is_tensor(subject.model(ids).logits)


def read_folder(path: Path) -> None:
    """Load the folder of a file."""
    use(load(path.parent, device="cpu"))


def read_file(path: Path) -> None:
    """Load a model that is one file, and forget what was kept of it."""
    try:
        use(load(path, device="cpu"))
    finally:
        shutil.rmtree(paths.home() / "cache", ignore_errors=True)


def _gguf(make: Callable[[], Any], folder: Path) -> Path:
    from workbench.subjects.gguf_writer import write_gguf

    return write_gguf(folder / "small.gguf", make(), tokenizer(), name="small", licence="MIT")


def _gpt2_gguf(folder: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=N_TOKENS, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0
    )
    return _gguf(lambda: GPT2LMHeadModel(config), folder)


def _shards(folder: Path) -> Path:
    return folder_of(folder, gpt(), "model.safetensors.index.json", max_shard_size="10KB")


def _split_vocabulary(name: str, folder: Path) -> Path:
    """GPT-2's older files: the vocabulary and the merges apart, and no tokenizer.json."""
    folder_of(folder, gpt2())
    whole = json.loads((folder / "tokenizer.json").read_text())
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.json").write_text(json.dumps(whole["model"]["vocab"]))
    pairs = [
        " ".join(pair) if isinstance(pair, list) else pair for pair in whole["model"]["merges"]
    ]
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *pairs]) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer"}))
    (folder / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|endoftext|>"}))
    return folder / name


def _chat(folder: Path) -> Path:
    path = folder_of(folder, gpt(), "chat_template.jinja")
    path.write_text("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    return path


def _read_chat(path: Path) -> None:
    from workbench.training.tasks import make

    subject = load(path.parent, device="cpu")
    task = make({"kind": "chat", "data": "x.jsonl"})
    task.prepare(subject.tokenizer)
    task.row(
        subject.tokenizer,
        task.item(
            {
                "messages": [
                    {"role": "user", "content": "Hi"},
                    {"role": "assistant", "content": "Yes"},
                ]
            }
        ),
    )


def _nanogpt(folder: Path) -> Path:
    model = gpt2()
    args = {
        "n_layer": 2,
        "n_head": 2,
        "n_embd": 8,
        "block_size": 16,
        "bias": True,
        "vocab_size": N_TOKENS,
        "dropout": 0.0,
    }
    transposed = (
        "attn.c_attn.weight",
        "attn.c_proj.weight",
        "mlp.c_fc.weight",
        "mlp.c_proj.weight",
    )
    weights = {
        k: v.t().contiguous() if k.endswith(transposed) else v
        for k, v in model.state_dict().items()
    }
    torch.save({"model": weights, "model_args": args, "iter_num": 5}, folder / "ckpt.pt")
    tokenizer().save_pretrained(folder)
    return folder / "ckpt.pt"


def _meta(folder: Path) -> Path:
    _nanogpt(folder)
    for path in folder.glob("tokenizer*"):
        path.unlink()
    letters = sorted({*TEXT, *map(chr, range(0x100, 0x100 + N_TOKENS))})[:N_TOKENS]
    vocabulary = {
        "stoi": {c: i for i, c in enumerate(letters)},
        "itos": {str(i): c for i, c in enumerate(letters)},
    }
    (folder / "meta.json").write_text(json.dumps(vocabulary))
    return folder / "meta.json"


def _read_checkpoint_beside(path: Path) -> None:
    use(load(path.parent / "ckpt.pt", device="cpu"))


def _transformerlens(name: str, folder: Path) -> Path:
    from safetensors.torch import save_file

    torch.manual_seed(0)
    w: dict[str, torch.Tensor] = {
        "embed.W_E": torch.randn(N_TOKENS, 8),
        "pos_embed.W_pos": torch.randn(16, 8),
    }
    for i in range(2):
        block = {"W_Q": (2, 8, 4), "W_K": (2, 8, 4), "W_V": (2, 8, 4), "W_O": (2, 4, 8)}
        biases = {"b_Q": (2, 4), "b_K": (2, 4), "b_V": (2, 4), "b_O": (8,)}
        w |= {
            f"blocks.{i}.attn.{k}": torch.randn(*shape) for k, shape in {**block, **biases}.items()
        }
        mlp = {"W_in": (8, 8), "b_in": (8,), "W_out": (8, 8), "b_out": (8,)}
        w |= {f"blocks.{i}.mlp.{k}": torch.randn(*shape) for k, shape in mlp.items()}
        w |= {f"blocks.{i}.{ln}.{k}": torch.randn(8) for ln in ("ln1", "ln2") for k in "wb"}
    w |= {
        "ln_final.w": torch.randn(8),
        "ln_final.b": torch.randn(8),
        "unembed.W_U": torch.randn(8, N_TOKENS),
    }
    save_file({**w, "unembed.b_U": torch.randn(N_TOKENS)}, folder / "tl.safetensors")
    settings = {
        "act_fn": "gelu",
        "n_layers": 2,
        "n_heads": 2,
        "normalization_type": "LN",
        "eps": 1e-5,
    }
    (folder / "tl.config.json").write_text(json.dumps(settings))
    tokenizer().save_pretrained(folder)
    return folder / name


def _read_transformerlens(path: Path) -> None:
    use(load(path.parent / "tl.safetensors", device="cpu"))


def _adapter(name: str, folder: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    (folder / "base").mkdir(exist_ok=True)
    folder_of(folder / "base", llama())
    config = LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    wrapped = get_peft_model(llama(), config)
    wrapped.peft_config["default"].base_model_name_or_path = str(folder / "base")
    wrapped.save_pretrained(str(folder / "adapter"))
    if name == "base.json":
        pin = {"name": str(folder / "base"), "sha256": ""}
        (folder / "adapter" / name).write_text(json.dumps(pin))
    return folder / "adapter" / name


def _edit(folder: Path) -> Path:
    from workbench.subjects.intervention import Edit, Intervention

    folder_of(folder, gpt())
    edits = (
        Edit(0, "z", (0, 1)),
        Edit(1, "mlp_out", (), "add", [0.5] * 8),
        Edit(1, "post", (3,), "set", 0.0),
    )
    path = paths.home() / "interventions" / "small.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(Intervention("small", str(folder), edits, "An edit.").to_json())
    return path


def _transplant(folder: Path) -> Path:
    from workbench.subjects.intervention import Intervention, Transplant

    folder_of(folder, gpt())
    pin = load(folder, device="cpu").hash
    intervention = Intervention(
        "small",
        str(folder),
        (),
        "A transplant.",
        Transplant(str(folder), pin, pin, ("L0H1", "L1.mlp")),
    )
    path = paths.home() / "interventions" / "small.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(intervention.to_json())
    return path


def _read_edit(path: Path) -> None:
    from workbench.subjects.intervention import read_intervention

    change = read_intervention("small")
    repr(change)
    change.to_frame()
    change.headline()
    use(load("edit:small", device="cpu"))


def _lens(folder: Path) -> Path:
    from safetensors.torch import save_file

    from workbench.interp.lenses.tuned import LensError, lens_file

    folder_of(folder, gpt())
    subject = load(folder, device="cpu")
    rows = [0.5, 0.25, 0.125]
    error = LensError(*[rows] * 9, n=4, tokens=60)
    metadata = {"steps": 3, "tokens": 100, "source": "a test", "error": vars(error)}
    tensors = {"weight": torch.zeros(2, 8, 8), "bias": torch.zeros(2, 8)}
    os.environ["FUZZ_MODEL"] = str(folder)
    save_file(tensors, lens_file(subject.hash), {"lens": json.dumps(metadata)})
    return lens_file(subject.hash)


def _read_lens(path: Path) -> None:
    import workbench as wb

    subject = load(os.environ["FUZZ_MODEL"], device="cpu")
    lens = wb.tuned_lens(subject)
    repr(lens)
    lens.to_frame()
    lens.to_json()
    wb.lens(subject, "The cat sat")


def _run(name: str, folder: Path) -> Path:
    from workbench.store import Store
    from workbench.training import checkpoints
    from workbench.training.recipe import Optimisation

    store = Store()
    run = store.create("train", "small", {"title": "small", "licence": "MIT"})
    for step in (10, 20):
        state = {"step": torch.tensor(step), "rng": torch.get_rng_state(), "words": {"a": [1.5]}}
        checkpoint = checkpoints.write(
            run.folder,
            step,
            gpt(),
            tokenizer(),
            state,
            Optimisation(steps=20),
            {"tokens": 5, "validation_loss": 1.5},
        )
    store.finish(run.id, "done")
    os.environ["FUZZ_RUN"] = run.id
    return checkpoint / name


def _read_run(path: Path) -> None:
    from workbench.store import Store
    from workbench.training import checkpoints

    run = Store().get(os.environ["FUZZ_RUN"])
    aside = path.parent.with_name(checkpoints.DAMAGED + path.parent.name)
    try:
        [checkpoints.facts(folder) for folder in checkpoints.saved(run.folder)]
        whole = checkpoints.newest_whole(run.folder)
        assert whole is not None
        checkpoints.state(whole)
    finally:
        if aside.is_dir():
            aside.rename(path.parent)
    if not path.name.startswith("training"):
        use(load(f"run:{run.id}", device="cpu"))


def _store(folder: Path) -> Path:
    from workbench.store import Store

    store = Store(folder / "small.sqlite")
    run = store.create("train", "small", {"title": "small"})
    store.write(
        run.id, [{"run_id": run.id, "step": 1, "name": "loss", "value": 1.5, "time": 1.0}], {}
    )
    store.finish(run.id, "done")
    store._engine.dispose()
    import sqlite3

    with sqlite3.connect(folder / "small.sqlite") as connection:
        connection.execute("PRAGMA journal_mode=DELETE")
    return folder / "small.sqlite"


def _read_store(path: Path) -> None:
    from workbench.store import Store

    for left in path.parent.glob(f"{path.name}-*"):
        left.unlink()
    store = Store(path)
    try:
        for run in store.list():
            repr(run)
            run.to_frame()
            store.metrics(run.id)
    finally:
        store._engine.dispose()  # a lock that it holds would be in the next mutant's way


def doors() -> list[Door]:
    """Every file that a model is read from."""
    tokenizer_files = ("tokenizer.json", "tokenizer_config.json")
    split = ("vocab.json", "merges.txt", "special_tokens_map.json")
    return [
        Door("gguf", "named binary", partial(_gguf, llama), read_file),
        Door("gguf of gpt2", "named binary", _gpt2_gguf, read_file),
        Door(
            "safetensors",
            "safetensors",
            lambda f: folder_of(f, gpt(), "model.safetensors"),
            read_folder,
        ),
        Door(
            "config of ours", "json", lambda f: folder_of(f, gpt(positions="learned")), read_folder
        ),
        Door("config of llama", "json", lambda f: folder_of(f, llama()), read_folder),
        Door("config of gpt2", "json", lambda f: folder_of(f, gpt2()), read_folder),
        Door(
            "generation_config",
            "json",
            lambda f: folder_of(f, llama(), "generation_config.json"),
            read_folder,
        ),
        Door("card", "json", lambda f: folder_of(f, gpt(), "card.json"), read_folder),
        Door("model index", "json", _shards, read_folder),
        *(Door(name, "json", partial(_gpt_folder, name), read_folder) for name in tokenizer_files),
        *(
            Door(
                name,
                "text" if name.endswith("txt") else "json",
                partial(_split_vocabulary, name),
                read_folder,
            )
            for name in split
        ),
        Door("chat template", "text", _chat, _read_chat),
        Door("nanogpt checkpoint", "binary", _nanogpt, read_file),
        Door("nanogpt meta", "json", _meta, _read_checkpoint_beside),
        Door(
            "transformerlens",
            "safetensors",
            partial(_transformerlens, "tl.safetensors"),
            _read_transformerlens,
        ),
        Door(
            "transformerlens settings",
            "json",
            partial(_transformerlens, "tl.config.json"),
            _read_transformerlens,
        ),
        Door("adapter_config", "json", partial(_adapter, "adapter_config.json"), read_folder),
        Door(
            "adapter weights",
            "safetensors",
            partial(_adapter, "adapter_model.safetensors"),
            read_folder,
        ),
        Door("adapter base", "json", partial(_adapter, "base.json"), read_folder),
        Door("edit", "json", _edit, _read_edit),
        Door("transplant", "json", _transplant, _read_edit),
        Door("lens", "safetensors", _lens, _read_lens),
        *(
            Door(f"checkpoint {name}", form, partial(_run, name), _read_run)
            for name, form in (
                ("training.json", "json"),
                ("checksums.json", "json"),
                ("training_state.pt", "binary"),
                ("config.json", "json"),
            )
        ),
        Door("store", "binary", _store, _read_store),
    ]
