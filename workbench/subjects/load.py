"""Loading a Subject: a bundled name, a Hugging Face id or folder, a GGUF file, a nanoGPT
checkpoint, a run.
"""

import hashlib
import os
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

import torch
from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import safe_open
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from workbench import paths
from workbench.doors import UnreadableError, path_of, reading
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.subjects import adapter, adapter_weights, gguf_file, gpt, identity, state_dict
from workbench.subjects.card import hash_files, make_card, read_card
from workbench.subjects.claims import NOT_WHOLE
from workbench.subjects.gguf_header import check_header
from workbench.subjects.kinds import says_encoder_decoder
from workbench.subjects.loading_report import check_finite, stored_tensors
from workbench.subjects.pretrained import Read, read_model
from workbench.subjects.subject import Subject
from workbench.subjects.tokenizer import tokenizer_beside
from workbench.subjects.tokenizer_files import has_tokenizer, read_tokenizer

gpt.register()
transformers_logging.disable_progress_bar()
transformers_logging.set_verbosity_error()


@dataclass(frozen=True)
class Available:
    """Something `load` can load: the words to give it, what it is, and where it lies."""

    name: str
    kind: str
    path: Path


@own_modes
def load(
    source: "str | Path | Subject",
    *,
    device: str | torch.device | None = None,
    seq2seq: bool = False,
) -> Subject:
    """Load a model as a Subject, in float32, on the GPU where there is one.

    `source` is a bundled name (`shelf-base`), a Hugging Face id, a folder with safetensors, a
    `.gguf` file, a nanoGPT `ckpt.pt`, a state dict of TransformerLens (`.safetensors` or `.pt`), a
    run (`run:ID`, or `run:ID@STEP` for one of its checkpoints), a kept intervention (`edit:NAME`),
    or a file or folder below `WORKBENCH_MODELS`. A LoRA adapter gives its base with the adapter
    merged. Nothing is unpickled and no remote code runs.

    Encoder-decoder models (`shelf-reverse`, T5) are loaded with `seq2seq`, for `anatomy` alone:
    nothing else here could read them.

    Every tensor of the files finds its place in the model and the other way round, or the model is
    refused.

    Raises `WorkbenchError` for anything that cannot be loaded, saying what to do.
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
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = _run_checkpoint(name) if name.startswith("run:") else _local(name)
    if path is None:
        return _from_hub(name, device, seq2seq)
    if path.is_dir():
        return _from_folder(
            path, name, device, _run_facts(name) if name.startswith("run:") else {}, seq2seq=seq2seq
        )
    if path.suffix == ".gguf":
        return _from_gguf(path, device)
    if path.suffix in state_dict.SUFFIXES:
        return _from_state_dict(path, device)
    raise WorkbenchError(
        f"{name} is a {path.suffix or 'nameless'} file; give a folder with config.json and safetensors, a .gguf file, "
        "a nanoGPT ckpt.pt or a state dict of TransformerLens. Pickled weights are not read."
    )


_UNDER_WAY: ContextVar[tuple[str, ...]] = ContextVar("edits_being_loaded", default=())


def _edited(name: str, device: str | torch.device | None) -> Subject:
    """A kept intervention, applied to its base; one that is made from itself is refused."""
    from workbench.subjects.intervention import apply, read_intervention

    if name in (under_way := _UNDER_WAY.get()):
        raise WorkbenchError(
            f"{name} is made from itself ({' from '.join((*under_way, name))}); it cannot be loaded."
        )
    token = _UNDER_WAY.set((*under_way, name))
    try:
        change = read_intervention(name.removeprefix("edit:"))
        return apply(load(change.base, device=device), change)
    finally:
        _UNDER_WAY.reset(token)


def resolve(name: str) -> str:
    """The same name made exact: a run becomes its newest checkpoint (`run:ID@STEP`), all else
    stays.
    """
    if name.startswith("run:") and "@" not in name:
        return f"{name}@{int(_run_checkpoint(name).name.removeprefix('step-'))}"
    return name


def stamp(name: str) -> str:
    """What changes when the files behind a name change: "" for a name that has none here. Reads no
    weights.

    Raises `WorkbenchError` as `load` does, for a path or a run that is not there.
    """
    name = name.strip()
    if name.startswith("edit:"):
        return _edit_stamp(name)
    path = _run_checkpoint(name) if name.startswith("run:") else _local(name)
    if path is None:
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            return ""
        return identity.stamp(Path(cached).parent) if isinstance(cached, str) else ""
    found = identity.stamp(path)
    if path.is_dir() and adapter.is_adapter(path):
        return f"{found} {stamp(adapter.base_of(path).name)}"
    if path.is_file() and (config := state_dict.config_beside(path)) is not None:
        return f"{found} {identity.stamp(config)}"
    return found


def _edit_stamp(name: str) -> str:
    """The stamp of an intervention, of its base and of the donor whose weights it brings in."""
    from workbench.subjects.intervention import read_intervention

    if name in (under_way := _UNDER_WAY.get()):
        return ""  # `load` says so
    token = _UNDER_WAY.set((*under_way, name))
    try:
        change = read_intervention(name.removeprefix("edit:"))
        made_from = [change.base, *([change.transplant.donor] if change.transplant else [])]
        content = hashlib.sha256(change.to_json().encode()).hexdigest()
        return " ".join([content, *(stamp(other) for other in made_from)])
    finally:
        _UNDER_WAY.reset(token)


def is_remote(name: str) -> bool:
    """Whether loading this name would fetch a model from the network: a Hugging Face id that is not
    on this machine.
    """
    from huggingface_hub import constants, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if constants.HF_HUB_OFFLINE or name.startswith(("run:", "edit:")):
        return False
    try:
        return _local(name) is None and not isinstance(
            try_to_load_from_cache(name, "config.json"), str
        )
    except (WorkbenchError, HFValidationError):  # no file and no id: loading it says so
        return False


def available() -> list[Available]:
    """What can be loaded without the network: bundled models, `WORKBENCH_MODELS`, finished runs'
    checkpoints.
    """
    shelf = paths.shelf("models")
    found = [
        Available(p.parent.relative_to(shelf).as_posix(), _kind(p, "bundled"), p.parent)
        for p in sorted(shelf.rglob("config.json"))
    ]
    if (folder := paths.models_folder()) is not None:
        for p in sorted(folder.rglob("*")):
            if p.suffix == ".gguf":
                found.append(Available(p.name, "gguf", p))
            elif p.name == "config.json" and any(p.parent.glob("*.safetensors")):
                found.append(
                    Available(str(p.parent.relative_to(folder)), _kind(p, "folder"), p.parent)
                )
            elif p.suffix == ".safetensors" and state_dict.is_transformerlens(p):
                found.append(Available(str(p.relative_to(folder)), "transformerlens", p))
    for run in sorted((paths.home() / "runs").glob("*/checkpoints"), reverse=True):
        steps = sorted(run.glob("step-*/config.json"))
        if steps:
            found.append(Available(f"run:{run.parent.name}", "run", steps[-1].parent))
    for path in sorted((paths.home() / "interventions").glob("*.json")):
        found.append(Available(f"edit:{path.stem}", "edit", path))
    order = ("bundled", "gguf", "folder", "transformerlens", "run", "edit", "seq2seq")
    return sorted(found, key=lambda a: (order.index(a.kind), a.kind == "bundled" and "/" in a.name))


def _kind(config: Path, kind: str) -> str:
    """`seq2seq` for encoder-decoder models, which need `load(..., seq2seq=True)`."""
    return "seq2seq" if says_encoder_decoder(config) else kind


def _local(name: str) -> Path | None:
    candidates = [path_of(name, "model")]
    if os.sep not in name or not Path(name).is_absolute():
        candidates.append(paths.shelf("models") / name)
        if (folder := paths.models_folder()) is not None:
            candidates += [folder / name, folder / f"{name}.gguf"]
    for path in candidates:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            return path
    if name.startswith((".", "/", "~")) or name.endswith((".gguf", ".pt", ".safetensors", ".bin")):
        raise WorkbenchError(f"There is no file or folder {name}; check the path.")
    return None


def _run_checkpoint(name: str) -> Path:
    from workbench.store import Store

    run_id, _, step = name.removeprefix("run:").partition("@")
    run = Store().get(run_id)
    found = run.checkpoints
    if not found:
        raise WorkbenchError(
            f"Run {run_id} has no checkpoint yet; wait for its first, or choose another run."
        )
    if not step:
        return found[max(found)]
    if not step.isdigit() or int(step) not in found:
        raise WorkbenchError(
            f"Run {run_id} has no checkpoint {step}; it has {', '.join(map(str, sorted(found)))}."
        )
    return found[int(step)]


def _run_facts(name: str) -> dict[str, str]:
    """What the card of a run's model takes from its recipe: licence, notes and parent."""
    from workbench.store import Store

    config = Store().get(name.removeprefix("run:").partition("@")[0]).config
    words = {
        "parent": config.get("base"),
        "licence": config.get("licence"),
        "notes": config.get("notes"),
    }
    return {word: str(value) for word, value in words.items() if value}


def _from_folder(
    folder: Path, name: str, device: torch.device, facts: dict[str, str], *, seq2seq: bool = False
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
            f"The folder {folder} has no safetensors file; save the model as safetensors (no pickle)."
        )
    for path in weights:
        _check_safetensors(path)
    model, note = _pretrained(folder, name, seq2seq=seq2seq)
    on_shelf = folder.is_relative_to(paths.shelf("models"))
    shown = (
        name
        if name.startswith("run:") or (on_shelf and not Path(name).is_absolute())
        else folder.name
    )
    digest = hash_files(weights)
    pin, said = identity.identity(digest, folder), {**facts, **read_card(folder)}
    card = make_card(model, shown, str(folder), digest, said, identity=pin, loaded=note)
    return Subject(shown, model.to(device), _folder_tokenizer(folder, model), card)


def _from_adapter(folder: Path, name: str, device: torch.device, facts: dict[str, str]) -> Subject:
    """The base with the adapter merged into it, an ordinary model."""
    weights = folder / adapter.WEIGHTS
    if not weights.is_file():
        raise WorkbenchError(
            f"The adapter {name} has no {adapter.WEIGHTS}; save it as safetensors (no pickle)."
        )
    _check_safetensors(weights)
    said = adapter.base_of(folder)
    base = load(said.name, device="cpu")
    if said.sha256 and not identity.matches(base, said.sha256):
        raise WorkbenchError(
            f"The adapter {name} belongs to {said.name} as it was (sha256 {said.sha256[:12]}), which is now another "
            f"model ({base.hash[:12]}); bring the old one back, or fine-tune again."
        )
    with reading(
        f"The adapter {name} of {said.name}",
        "load it with its own base, or save it again with PEFT",
    ):
        model, note = adapter_weights.merged(base.model, folder, name, said.name)
    check_finite(stored_tensors(model), f"The adapter {name}")
    shown = name if name.startswith("run:") else folder.name
    facts = {"licence": base.card.licence, **facts, "parent": said.name, **read_card(folder)}
    digest = hash_files([weights])
    weights_hash = adapter.merged_hash(base.card.sha256, digest)
    pin = identity.identity(adapter.merged_hash(base.hash, digest), folder)
    card = make_card(model, shown, str(folder), weights_hash, facts, identity=pin, loaded=note)
    has_own = any(folder.glob("tokenizer*"))
    tokenizer = _folder_tokenizer(folder, model) if has_own else base.tokenizer
    return Subject(shown, model.to(device), tokenizer, card)


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
    return Subject(path.stem, model.to(device), tokenizer, card)


def _from_state_dict(path: Path, device: torch.device) -> Subject:
    """A model in one file of weights by name, nanoGPT's or TransformerLens's; its tokenizer may lie
    beside it.
    """
    model, note = state_dict.read(path)
    check_finite(stored_tensors(model), str(path))
    config = state_dict.config_beside(path)
    digest = hash_files([path, *([config] if config else [])])
    shown = path.parent.name if path.suffix == ".pt" and path.parent.name else path.stem
    pin = identity.identity(digest, path.parent)
    card = make_card(
        model, shown, str(path), digest, read_card(path.parent), identity=pin, loaded=note
    )
    return Subject(card.name, model.to(device), _folder_tokenizer(path.parent, model), card)


def _from_hub(name: str, device: torch.device, seq2seq: bool = False) -> Subject:
    try:
        cached = isinstance(try_to_load_from_cache(name, "config.json"), str)
    except HFValidationError:
        cached = False
    if not cached and not _hub_answers():
        raise WorkbenchError(_no_model(name))
    model = _pretrained(name, name, seq2seq=seq2seq).model
    tokenizer = read_tokenizer(name, name)
    revision = str(getattr(model.config, "_commit_hash", "") or "")
    folder = Path(_cached_config(name)).parent
    digest = hash_files(folder.glob("*.safetensors"))
    pin = identity.identity(digest, folder)
    card = make_card(model, name, f"huggingface:{name}@{revision}", digest, {}, identity=pin)
    return Subject(name, model.to(device), tokenizer, card)


def _hub_answers() -> bool:
    """Whether the hub can be reached at all; asked first, because the hub's client retries for most
    of a minute.
    """
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
    where: str | Path, name: str, *, seq2seq: bool = False, was_finite: bool = False
) -> Read:
    try:
        return read_model(where, name, seq2seq=seq2seq, was_finite=was_finite)
    except UnreadableError as error:
        if isinstance(where, Path) or not isinstance(error.__cause__, OSError | HFValidationError):
            raise
        raise WorkbenchError(_no_model(name)) from error


def _no_model(name: str) -> str:
    known = ", ".join(a.name for a in available() if a.kind == "bundled")
    return (
        f"No model {name!r}: it is not bundled ({known}), no file or folder, not in the Hugging Face cache, and could "
        "not be downloaded. Check the name, or connect to the network."
    )
