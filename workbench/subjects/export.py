"""Exports a Subject for other programs: plain transformers, GGUF, TransformerLens, nanoGPT."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from workbench.errors import WorkbenchError
from workbench.subjects.card import write_card
from workbench.subjects.convert import to_gpt2, to_llama
from workbench.subjects.gguf_writer import write_gguf
from workbench.subjects.gpt import WorkbenchGPTForCausalLM
from workbench.subjects.intervention import has_hooks
from workbench.subjects.model_card import model_card, write_model_card
from workbench.subjects.nanogpt_writer import nanogpt_state
from workbench.subjects.save import save, write_folder
from workbench.subjects.subject import Subject
from workbench.subjects.transformerlens_writer import transformerlens_state

FORMS = ("transformers", "workbench", "gguf", "transformerlens", "nanogpt")
"""What `export` writes.

A folder for plain transformers, a folder that needs this package, one file for llama.cpp, a state
dict of `HookedTransformer` with its configuration, or nanoGPT's checkpoint.
"""
STATE_DICTS = {"transformerlens": transformerlens_state, "nanogpt": nanogpt_state}
"""The function that gives tensors and settings, for the forms that are a state dict."""


def plain(model: PreTrainedModel) -> PreTrainedModel:
    """The model as a class of plain transformers: our GPT as Llama or GPT-2, others unchanged.

    Raises:
        WorkbenchError: No plain class computes the same function; the message names the settings.
    """
    if not isinstance(model, WorkbenchGPTForCausalLM):
        return model
    obstacles = []
    for convert in (to_llama, to_gpt2):
        try:
            return convert(model)
        except WorkbenchError as error:
            obstacles.append(str(error))
    raise WorkbenchError(
        " ".join(obstacles)
        + " Export it in the form workbench, which `import workbench` makes transformers read."
    )


def export(
    subject: Subject, target: str | Path, *, form: str = "transformers", half: bool = False
) -> Path:
    """Write a model for other programs and return its path: a new folder, or a new .gguf file.

    Args:
        subject: The model to write.
        target: Path of the folder, or of the file for the form gguf; it must not exist yet.
        form: One of `FORMS`.
        half: Whether to store weights in float16, half the size.

    Raises:
        WorkbenchError: The target exists, the form cannot hold the model, or the disk is full.
    """
    path = Path(target).expanduser()
    if form not in FORMS:
        raise WorkbenchError(f"The form is {form!r}; choose {', '.join(FORMS)}.")
    if path.exists():
        raise WorkbenchError(f"{path} exists already; name a new one.")
    if has_hooks(subject):
        raise WorkbenchError(
            f"{subject.name} is edited while it runs, which a file of weights cannot hold; export "
            "the model it was made from, and share the edit as JSON."
        )
    if form == "gguf":
        if path.suffix != ".gguf":
            raise WorkbenchError(f"{path} must end in .gguf.")
        card = subject.card
        return write_gguf(
            path,
            plain(subject.model),
            subject.tokenizer,
            half=half,
            name=card.name,
            licence=card.licence,
        )
    if form in STATE_DICTS:
        return _save_state_dict(path, subject, form, half=half)
    model = plain(subject.model) if form == "transformers" else subject.model
    dtype = torch.float16 if half else None
    return save(
        path,
        model,
        subject.tokenizer,
        card=subject.card.to_dict(),
        dtype=dtype,
        also=_readme(subject, form),
    )


def _save_state_dict(path: Path, subject: Subject, form: str, *, half: bool) -> Path:
    """Write a folder with a state dict by another program's names, settings, tokenizer and card."""
    weights, settings = STATE_DICTS[form](subject.model)
    if half:
        weights = {name: tensor.half() for name, tensor in weights.items()}

    def write(folder: Path) -> None:
        if form == "nanogpt":
            torch.save({"model": weights, "model_args": settings}, folder / "ckpt.pt")
        else:
            save_file(weights, folder / "model.safetensors")
            text = json.dumps(settings, indent=2) + "\n"
            (folder / "model.config.json").write_text(text, encoding="utf-8")
        subject.tokenizer.save_pretrained(folder)
        write_card(folder, subject.card.to_dict())

    return write_folder(path, write)


def _readme(subject: Subject, form: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        write_model_card(folder, model_card(subject, form))

    return write
