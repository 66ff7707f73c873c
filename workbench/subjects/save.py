"""Saves model folders atomically: under a temporary name, then renamed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.errors import WorkbenchError
from workbench.subjects import adapter
from workbench.subjects.card import write_card

if TYPE_CHECKING:
    from peft import PeftModel


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
    """Save a model as a Hugging Face folder (safetensors) with its card, and return the folder.

    Of a model with LoRA adapters, only the adapters and the name of their base are saved.

    Args:
        folder: Where to save; an existing folder is replaced.
        model: The model.
        tokenizer: Its tokenizer.
        card: Fields of `card.json`; None writes no card.
        dtype: Store the weights in this dtype.
        weights: State dict to store in place of the model's own.
        also: Writes more files into the folder before it gets its name.

    Raises:
        WorkbenchError: The disk is full or the place cannot be written to; an existing folder is
            then left unchanged.
    """

    def write(part: Path) -> None:
        if adapter.is_adapted(model):
            adapter.write(part, cast("PeftModel", model), _weights(model, None))
        else:
            model.save_pretrained(part, state_dict=weights or _weights(model, dtype))
        tokenizer.save_pretrained(part)
        if card is not None:
            write_card(part, card)
        if also is not None:
            also(part)

    return write_folder(folder, write)


def write_folder(folder: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a folder under a temporary name, then rename it to `folder`.

    Raises:
        WorkbenchError: The disk is full or the place cannot be written to; an existing folder is
            then left unchanged.
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
    except (OSError, RuntimeError, SafetensorError) as error:  # torch's and safetensors' own
        shutil.rmtree(part, ignore_errors=True)
        why = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise WorkbenchError(
            f"{folder} could not be written ({why}); nothing older was lost. "
            "Free some space or choose a writable folder."
        ) from error
    return folder


def _to_disk(folder: Path) -> None:
    """Flush a folder to disk before it gets its name, so that a power cut leaves no half of it."""
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
    """The weights on the CPU in a dtype, tied ones as one tensor; None where nothing changes."""
    if dtype is None and model.device.type == "cpu":
        return None
    copies: dict[int, torch.Tensor] = {}  # by the identity of the parameter
    weights = {}
    for name, parameter in model.state_dict(keep_vars=True).items():
        copy = parameter.detach().to("cpu", dtype)
        weights[name] = copies.setdefault(id(parameter), copy)
    return weights
