"""Reads models from a state dict in one file: nanoGPT's, minGPT's and TransformerLens's."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from workbench.doors import read_object, reading
from workbench.errors import WorkbenchError
from workbench.subjects import convert, transformerlens
from workbench.subjects.claims import NOT_WHOLE
from workbench.subjects.pretrained import WRAPPERS, Read

SUFFIXES = (".pt", ".pth", ".safetensors")
NANOGPT = ("transformer.wte.weight", "transformer.wpe.weight")
TRANSFORMERLENS = ("embed.W_E", "unembed.W_U")
"""Tensor names that identify each kind; one is enough."""
INSIDE = ("model", "model_state_dict", "state_dict")
"""Keys under which checkpoints store the state dict."""
SETTINGS = ("model_args", "cfg", "config", "model_config")
"""Keys under which checkpoints, or headers of safetensors files, store the model's settings."""
SETTINGS_MEND = "correct it or remove it"
MOST_BYTES = 1_000_000
"""Largest file of settings, in bytes."""


def read(path: Path) -> Read:
    """The model in a file, and a note on how its names and settings were read.

    Raises:
        WorkbenchError: The file needs pickle, is of no known kind, or lacks a tensor or a setting.
    """
    tensors, settings = _safetensors(path) if path.suffix == ".safetensors" else _unpickled(path)
    beside = config_beside(path)
    if beside is not None:
        settings = settings | _settings_in(beside)
    names = _unwrapped(tensors)
    for marks, kind in ((NANOGPT, "nanoGPT"), (TRANSFORMERLENS, "TransformerLens")):
        prefix = _prefix(names, marks)
        if prefix is None:
            continue
        plain = {name.removeprefix(prefix): tensor for name, tensor in names.items()}
        reader = convert.nanogpt if kind == "nanoGPT" else transformerlens.gpt
        model, note = reader(plain, settings, str(path))
        left_out = [f"{prefix} was left out of the names"] if prefix else []
        return Read(
            model, "; ".join([f"read as a {kind} state dict", *left_out, *([note] if note else [])])
        )
    some = ", ".join(list(tensors)[:3]) or "none"
    raise WorkbenchError(
        f"{path} holds no state dict of nanoGPT or TransformerLens (its tensors: {some}); of a "
        "Hugging Face model give the folder with its config.json."
    )


def config_beside(path: Path) -> Path | None:
    """Settings file of a state dict: `NAME.config.json`, or `config.json` if not Hugging Face's."""
    own = path.with_name(f"{path.stem}.config.json")
    if own.is_file():
        return own
    shared = path.with_name("config.json")
    return shared if shared.is_file() and "architectures" not in _settings_in(shared) else None


def file_in(folder: Path) -> Path | None:
    """The only state dict in a folder without Hugging Face model; None for none or several."""
    files = [folder / "ckpt.pt", *folder.glob("*.safetensors")]
    known = [
        path
        for path in files
        if path.is_file() and (path.suffix == ".pt" or is_transformerlens(path))
    ]
    return known[0] if len(known) == 1 else None


def is_transformerlens(path: Path) -> bool:
    """Whether a safetensors file has TransformerLens's tensor names; reads only its header."""
    try:
        with safe_open(path, framework="pt") as stream:
            return _prefix(stream.keys(), TRANSFORMERLENS) is not None
    except (SafetensorError, OSError):
        return False


def _prefix(names: Iterable[str], marks: tuple[str, ...]) -> str | None:
    """The prefix of a kind's tensor names; None where the state dict is of another kind."""
    for name in names:
        for mark in marks:
            if name == mark or name.endswith(f".{mark}"):
                return name.removesuffix(mark)
    return None


def _safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with (
        reading(path, "download or save it again", NOT_WHOLE),
        safe_open(path, framework="pt") as stream,
    ):
        tensors = {name: stream.get_tensor(name) for name in stream.keys()}
        header = stream.metadata() or {}
    settings = {}
    for word in SETTINGS:
        if word in header:
            settings |= _parsed(header[word], f"{word} in the header of {path}")
    return tensors, settings


def _unpickled(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with reading(
        path,
        "save its state dict alone, as safetensors or with torch.save, or with nanoGPT's train.py "
        "as it is",
        "is not a checkpoint that loads without pickle",
    ):
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(checkpoint, Mapping):
            raise TypeError(type(checkpoint).__name__)
    inside = next(
        (checkpoint[w] for w in INSIDE if isinstance(checkpoint.get(w), Mapping)), checkpoint
    )
    tensors = {str(name): value for name, value in inside.items() if isinstance(value, Tensor)}
    settings: dict[str, Any] = {}
    for word in SETTINGS:
        stored = checkpoint.get(word)
        if isinstance(stored, Mapping):
            settings |= {str(key): value for key, value in stored.items()}
    return tensors, settings


def _settings_in(path: Path) -> dict[str, Any]:
    return _unfolded(read_object(path, SETTINGS_MEND, largest=MOST_BYTES))


def _parsed(text: str, where: str) -> dict[str, Any]:
    """The settings in the JSON of a header."""
    with reading(where, SETTINGS_MEND):
        settings = json.loads(text)
        if not isinstance(settings, dict):
            raise TypeError("it is no JSON object of settings")
    return _unfolded(settings)


def _unfolded(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings with those of a nested table (`model_config`) moved to the top."""
    inner = next((settings[word] for word in SETTINGS if isinstance(settings.get(word), dict)), {})
    return {**settings, **inner}


def _unwrapped(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors by names without the parts that torch adds when it compiles or shards."""
    return {
        ".".join(p for p in name.split(".") if p not in WRAPPERS): t for name, t in tensors.items()
    }
