"""Writing a model folder whole or not at all: a temporary name, then a rename."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects import adapter
from workbench.subjects.card import write_card


def save(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    card: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
    weights: dict[str, torch.Tensor] | None = None,
    also: Callable[[Path], None] | None = None,
) -> Path:
    """Save a Hugging Face folder (safetensors) with its card; `dtype` stores the weights in another
    precision, and `weights` takes the place of the model's own.

    Of a model with LoRA adapters only the adapters are saved, and what they belong to.

    `also` may write more files into it before it gets its name. Raises `WorkbenchError` when the
    disk is full or the place cannot be written; what was there before stays whole.
    """

    def write(part: Path) -> None:
        if adapter.is_adapted(model):
            adapter.write(part, model, _weights(model, None))
        else:
            model.save_pretrained(part, state_dict=weights or _weights(model, dtype))
        tokenizer.save_pretrained(part)
        if card is not None:
            write_card(part, card)
        if also is not None:
            also(part)

    return write_folder(folder, write)


def write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """The folder, written whole by `write` under a temporary name and then renamed.

    Raises:
        WorkbenchError: When the disk is full or the place cannot be written; what was there before
            stays whole.
    """
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        write(part)
        _to_disk(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
        _sync(folder.parent)
    except (
        OSError,
        RuntimeError,
        SafetensorError,
    ) as error:  # torch and safetensors have words of their own
        shutil.rmtree(part, ignore_errors=True)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise WorkbenchError(
            f"{folder} could not be written ({why}); nothing older was lost. "
            "Free some space or choose a writable folder."
        ) from error
    return folder


def _to_disk(folder: Path) -> None:
    """Have everything in a folder on the disk before the folder gets its name: a power cut then
    leaves no half.
    """
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _weights(model: PreTrainedModel, dtype: torch.dtype | None) -> dict[str, torch.Tensor] | None:
    """The weights on the CPU, None where they are there already; tied ones stay one tensor, so are
    stored once.
    """
    if dtype is None and model.device.type == "cpu":
        return None
    moved: dict[int, torch.Tensor] = {}
    named = model.state_dict(keep_vars=True)
    return {name: moved.setdefault(id(w), w.detach().to("cpu", dtype)) for name, w in named.items()}
