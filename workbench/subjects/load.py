"""Loads a Subject: a bundled model, Hugging Face id, folder, GGUF file, state dict, run or edit."""

import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workbench import paths
from workbench.doors import UnreadableError, reading
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.subjects import adapter, adapter_weights, gguf_file, gpt, identity, state_dict
from workbench.subjects.card import hash_files, make_card, read_card
from workbench.subjects.claims import NOT_WHOLE
from workbench.subjects.gguf_header import check_header
from workbench.subjects.kinds import DECODER, ENCODER, SEQ2SEQ
from workbench.subjects.loading_report import check_finite, stored_tensors
from workbench.subjects.modules import device_of, moved
from workbench.subjects.names import UNDER_WAY, available, local_path, run_checkpoint
from workbench.subjects.pretrained import Read, read_model
from workbench.subjects.subject import Subject
from workbench.subjects.tokenizer import tokenizer_beside
from workbench.subjects.tokenizer_files import has_tokenizer, read_tokenizer

gpt.register()
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@own_modes
def load(
    source: "str | Path | Subject",
    *,
    device: str | torch.device | None = None,
    seq2seq: bool = False,
    encoder: bool = False,
) -> Subject:
    """A model as a Subject, in float32.

    Every tensor of the files must have a place in the model and the other way round, or the model
    is refused. Nothing is unpickled and no remote code runs.

    Args:
        source: A bundled name (`shelf-base`), a Hugging Face id, a folder with safetensors, a
            `.gguf` file, a nanoGPT `ckpt.pt`, a TransformerLens state dict (`.safetensors` or
            `.pt`), a run (`run:ID`, or `run:ID@STEP` for one of its checkpoints), a saved
            intervention (`edit:NAME`), or a file or folder below `WORKBENCH_MODELS`. A LoRA adapter
            gives its base with the adapter merged. A Subject is returned as it is.
        device: Where to put the weights; the default is the GPU where there is one.
        seq2seq: Accept encoder-decoder models (`shelf-reverse`, T5), which `anatomy`, `attention`,
            `head_scores`, `lens` and `patch` take.
        encoder: Accept encoder-only models (BERT), which fill gaps; `attention`, `head_scores`,
            `lens` and `patch` take them.

    Raises:
        WorkbenchError: The model cannot be loaded; the message says what to do.
    """
    if isinstance(source, Subject):
        return source
    name = str(source).strip()
    if not name:
        raise WorkbenchError(
            "No model was named; try shelf-base, a folder, a .gguf file or a Hugging Face id."
        )
    if name.startswith("edit:"):
        return _edited(name, device)
    kinds = (DECODER, *([SEQ2SEQ] if seq2seq else []), *([ENCODER] if encoder else []))
    device = device_of(device)
    path = run_checkpoint(name) if name.startswith("run:") else local_path(name)
    if path is None:
        return _from_hub(name, device, kinds)
    if path.is_dir():
        facts = _run_facts(name) if name.startswith("run:") else {}
        return _from_folder(path, name, device, facts, kinds)
    if path.suffix == ".gguf":
        return _from_gguf(path, device)
    if path.suffix in state_dict.SUFFIXES:
        return _from_state_dict(path, device)
    raise WorkbenchError(
        f"{name} is a {path.suffix or 'nameless'} file; give a folder with config.json and "
        "safetensors, a .gguf file, a nanoGPT ckpt.pt or a state dict of TransformerLens. Pickled "
        "weights are not read."
    )


def _edited(name: str, device: str | torch.device | None) -> Subject:
    """A saved intervention, applied to its base; one that is made from itself is refused."""
    from workbench.subjects.intervention import apply, read_intervention

    with loading_edit(name):
        change = read_intervention(name.removeprefix("edit:"))
        return apply(load(change.base, device=device), change)


@contextmanager
def loading_edit(name: str) -> Iterator[None]:
    """A context for loading an edit's base; raises `WorkbenchError` if it is made from itself."""
    under_way = UNDER_WAY.get()
    if name in under_way:
        raise WorkbenchError(
            f"{name} is made from itself ({' from '.join((*under_way, name))}); it cannot be "
            "loaded."
        )
    token = UNDER_WAY.set((*under_way, name))
    try:
        yield
    finally:
        UNDER_WAY.reset(token)


def _run_facts(name: str) -> dict[str, str]:
    """The fields that a card takes from a run's recipe: licence, notes and parent."""
    from workbench.store import Store

    config = Store().get(name.removeprefix("run:").partition("@")[0]).config
    words = {
        "parent": config.get("base"),
        "licence": config.get("licence"),
        "notes": config.get("notes"),
    }
    return {word: str(value) for word, value in words.items() if value}


def _from_folder(
    folder: Path, name: str, device: torch.device, facts: dict[str, str], kinds: Collection[str]
) -> Subject:
    weights = sorted(folder.glob("*.safetensors"))
    if adapter.is_adapter(folder):
        return _from_adapter(folder, name, device, facts)
    if not (folder / "config.json").is_file():
        single = state_dict.file_in(folder)
        if single is not None:
            return _from_state_dict(single, device)
        raise WorkbenchError(
            f"The folder {folder} has no config.json; give the folder of a Hugging Face model."
        )
    if not weights:
        raise WorkbenchError(
            f"The folder {folder} has no safetensors file; save the model as safetensors (no "
            "pickle)."
        )
    for path in weights:
        _check_safetensors(path)
    model, note = _pretrained(folder, name, kinds=kinds)
    on_shelf = folder.is_relative_to(paths.shelf("models"))
    known_by_name = name.startswith("run:") or (on_shelf and not Path(name).is_absolute())
    shown = name if known_by_name else folder.name
    digest = hash_files(weights)
    pin = identity.identity(digest, folder)
    stated = {**facts, **read_card(folder)}
    card = make_card(model, shown, str(folder), digest, stated, identity=pin, loaded=note)
    return Subject(shown, moved(model, device), _folder_tokenizer(folder, model), card)


def _from_adapter(folder: Path, name: str, device: torch.device, facts: dict[str, str]) -> Subject:
    """The adapter's base model with the adapter merged into its weights."""
    weights = folder / adapter.WEIGHTS
    if not weights.is_file():
        raise WorkbenchError(
            f"The adapter {name} has no {adapter.WEIGHTS}; save it as safetensors (no pickle)."
        )
    _check_safetensors(weights)
    base_name, base_sha256 = adapter.base_of(folder)
    base = load(base_name, device="cpu")
    if base_sha256 and not identity.matches(base, base_sha256):
        raise WorkbenchError(
            f"The adapter {name} belongs to {base_name} as it was (sha256 {base_sha256[:12]}), "
            f"which is now another model ({base.hash[:12]}); bring the old one back, or fine-tune "
            "again."
        )
    with reading(
        f"The adapter {name} of {base_name}",
        "load it with its own base, or save it again with PEFT",
    ):
        model, note = adapter_weights.merged(base.model, folder, name, base_name)
    check_finite(stored_tensors(model), f"The adapter {name}")
    shown = name if name.startswith("run:") else folder.name
    facts = {"licence": base.card.licence, **facts, "parent": base_name, **read_card(folder)}
    digest = hash_files([weights])
    weights_hash = adapter.merged_hash(base.card.sha256, digest)
    pin = identity.identity(adapter.merged_hash(base.hash, digest), folder)
    card = make_card(model, shown, str(folder), weights_hash, facts, identity=pin, loaded=note)
    has_own = any(folder.glob("tokenizer*"))
    tokenizer = _folder_tokenizer(folder, model) if has_own else base.tokenizer
    return Subject(shown, moved(model, device), tokenizer, card)


def _check_safetensors(path: Path) -> None:
    with reading(path, "download or save it again", NOT_WHOLE), safe_open(path, "pt") as stream:
        stream.keys()


def _folder_tokenizer(folder: Path, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    if not has_tokenizer(folder):
        return tokenizer_beside(folder, model.config.get_text_config().vocab_size)
    return read_tokenizer(folder, str(folder))


def _from_gguf(path: Path, device: torch.device) -> Subject:
    check_header(path)
    digest = hash_files([path])
    folder = gguf_file.converted(path, digest)
    model = _pretrained(folder, str(path), was_finite=True).model
    tokenizer = read_tokenizer(folder, str(path))
    card = make_card(
        model, path.stem, str(path), digest, read_card(folder), identity=identity.identity(digest)
    )
    return Subject(path.stem, moved(model, device), tokenizer, card)


def _from_state_dict(path: Path, device: torch.device) -> Subject:
    """A nanoGPT or TransformerLens state dict, with a tokenizer beside it or else token ids."""
    model, note = state_dict.read(path)
    check_finite(stored_tensors(model), str(path))
    config = state_dict.config_beside(path)
    digest = hash_files([path, *([config] if config else [])])
    shown = path.parent.name if path.suffix == ".pt" and path.parent.name else path.stem
    pin = identity.identity(digest, path.parent)
    card = make_card(
        model, shown, str(path), digest, read_card(path.parent), identity=pin, loaded=note
    )
    return Subject(card.name, moved(model, device), _folder_tokenizer(path.parent, model), card)


def _from_hub(name: str, device: torch.device, kinds: Collection[str]) -> Subject:
    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        cached = False
    if not cached and not _hub_answers():
        raise WorkbenchError(_no_model(name))
    model = _pretrained(name, name, kinds=kinds).model
    tokenizer = read_tokenizer(name, name)
    revision = str(getattr(model.config, "_commit_hash", "") or "")
    folder = Path(_cached_config(name)).parent
    digest = hash_files(folder.glob("*.safetensors"))
    pin = identity.identity(digest, folder)
    card = make_card(model, name, f"huggingface:{name}@{revision}", digest, {}, identity=pin)
    return Subject(name, moved(model, device), tokenizer, card)


def _hub_answers() -> bool:
    """Whether the hub can be reached; checked first, as its client retries for most of a minute."""
    if constants.HF_HUB_OFFLINE:
        return False
    host = urlparse(constants.ENDPOINT)
    try:
        with socket.create_connection((host.hostname, host.port or 443), timeout=5):
            return True
    except OSError:
        return bool(os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy"))


def _cached_config(name: str) -> str:
    from transformers.utils.hub import cached_file

    return str(cached_file(name, "config.json"))


def _pretrained(
    where: str | Path,
    name: str,
    *,
    kinds: Collection[str] = (DECODER,),
    was_finite: bool = False,
) -> Read:
    try:
        return read_model(where, name, kinds=kinds, was_finite=was_finite)
    except UnreadableError as error:
        if isinstance(where, Path) or not isinstance(error.__cause__, OSError | HFValidationError):
            raise
        raise WorkbenchError(_no_model(name)) from error


def _no_model(name: str) -> str:
    known = ", ".join(model.name for model in available() if model.kind == "bundled")
    return (
        f"No model {name!r}: it is not bundled ({known}), no file or folder, not in the Hugging "
        "Face cache, and could not be downloaded. Check the name, or connect to the network."
    )
