"""Reads models with transformers' `from_pretrained`, with every tensor accounted for."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedModel

from workbench.doors import reading
from workbench.subjects.claims import MEND, ONE_AT_A_TIME, Held, check_claims, held_in, shapes_in
from workbench.subjects.kinds import DECODER, Kind, kind_of
from workbench.subjects.loading_report import LoadingReport, check_finite, stored_tensors

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Name parts that torch adds when it compiles, shards or checkpoints a module."""
DEEPEST = 4
"""Most parts of a common name prefix that is tried to be left out."""


class Read(NamedTuple):
    """A model, and a note on what was left out of its tensors' names ("" for nothing)."""

    model: PreTrainedModel
    note: str


def read_model(
    where: str | Path,
    name: str,
    *,
    kinds: Collection[str] = (DECODER,),
    gguf_file: str | None = None,
    held: Held | None = None,
    was_finite: bool = False,
    kind: Kind | None = None,
) -> Read:
    """The float32 model of a folder, a Hugging Face id or a GGUF file.

    No tensor may be missing, left over or not finite. Where all names share a prefix that the model
    does not have (`module.`, `_orig_mod.`), it is left out.

    Args:
        where: Folder or Hugging Face id; of a GGUF file its folder.
        name: What the user called the model, for errors.
        kinds: The kinds of models that are accepted.
        gguf_file: Name of the GGUF file in the folder.
        held: What a GGUF file holds; of a folder this reads it itself.
        was_finite: Skip the check for NaN, because the weights were checked before.
        kind: The class that reads it, and its configuration; None to find them out.

    Raises:
        WorkbenchError: The files are not a model, or not the one that the configuration describes;
            an `UnreadableError` where transformers cannot read them.
    """
    reader, config = kind or kind_of(where, name, kinds=kinds, gguf_file=gguf_file)
    shapes = shapes_in(where) if isinstance(where, Path) and not gguf_file else {}
    if held is not None or shapes:
        check_claims(config, reader, held or held_in(shapes), name)
    source: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {"use_safetensors": True}
    model, report = _from_pretrained(reader, where, name, source)
    note = ""
    if report.missing and shapes:
        for words, pattern, replacement in _mere_prefixes(shapes):
            options = {**source, "key_mapping": {pattern: replacement}}
            renamed_model, renamed_report = _from_pretrained(reader, where, name, options)
            if renamed_report.is_clean:
                model = renamed_model
                report = renamed_report
                note = f"{words} was left out of the names of the weights"
                break
    report.check(name, _mend(model))
    if not was_finite:
        check_finite(stored_tensors(model), name)
    return Read(model, note)


def _from_pretrained(
    reader: Any, where: str | Path, name: str, options: dict[str, Any]
) -> tuple[PreTrainedModel, LoadingReport]:
    with ONE_AT_A_TIME, reading(name, MEND):
        model, info = reader.from_pretrained(
            where,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # so that the report names the shapes
            **options,
        )
    return model, LoadingReport.from_transformers(info)


def _mere_prefixes(names: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """What may be left out of all names: in words, as a pattern, and its replacement."""
    every = [name.split(".") for name in names]
    wrappers = [wrapper for wrapper in WRAPPERS if any(wrapper in parts for parts in every)]
    if wrappers:
        words = ", ".join(f"{wrapper}." for wrapper in wrappers)
        yield words, rf"(^|\.)({'|'.join(wrappers)})\.", r"\1"
    for depth in range(1, DEEPEST + 1):
        shared = {tuple(parts[:depth]) for parts in every if len(parts) > depth}
        if len(shared) != 1 or not all(len(parts) > depth for parts in every):
            return
        prefix = ".".join(shared.pop()) + "."
        yield prefix, f"^{re.escape(prefix)}", ""


def _mend(model: PreTrainedModel) -> str:
    """What a user may do about a model that does not match its files."""
    names = [str(kind) for kind in model.config.architectures or []]
    kinds = [kind for kind in names if not kind.endswith(("CausalLM", "LMHeadModel"))]
    if kinds and kinds[0].endswith(("Classification", "QuestionAnswering", "Model")):
        return (
            f"config.json calls it {kinds[0]}, which predicts no next token: load the language "
            "model it came from"
        )
    return (
        "save the whole model again, or correct the number and sizes of its layers in config.json"
    )
