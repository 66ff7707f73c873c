"""Names of models: which file, run or intervention each stands for, and which there are."""

import hashlib
import os
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from workbench import paths
from workbench.doors import path_of
from workbench.errors import WorkbenchError
from workbench.subjects import adapter, identity, state_dict
from workbench.subjects.kinds import DECODER, SEQ2SEQ, stated_kind

OTHERS = ("seq2seq", "encoder", "picture", "sound")
"""Kinds of models that are not decoders of text, which few pages take."""


@dataclass(frozen=True)
class Available:
    """A model that `load` can load: its name, its kind, and its path."""

    name: str
    kind: str
    path: Path

    @property
    def writes(self) -> bool:
        """Whether it is a decoder-only model, which goes on from a text."""
        return self.kind not in OTHERS


UNDER_WAY: ContextVar[tuple[str, ...]] = ContextVar("edits_being_loaded", default=())
"""Interventions that are being loaded, outermost first, to notice one that is made from itself."""


def resolve(name: str) -> str:
    """The exact name: a run becomes its newest checkpoint (`run:ID@STEP`), others are unchanged."""
    if name.startswith("run:") and "@" not in name:
        return f"{name}@{int(run_checkpoint(name).name.removeprefix('step-'))}"
    return name


def stamp(name: str) -> str:
    """A hash of names, sizes and times of a model's files; "" where it has none on this machine.

    It changes when the files change, and reads no weights.

    Raises:
        WorkbenchError: A path or run does not exist.
    """
    name = name.strip()
    if name.startswith("edit:"):
        return _edit_stamp(name)
    path = run_checkpoint(name) if name.startswith("run:") else local_path(name)
    if path is None:
        try:
            cached = try_to_load_from_cache(name, "config.json")
        except HFValidationError:
            return ""
        return identity.stamp(Path(cached).parent) if isinstance(cached, str) else ""
    own_stamp = identity.stamp(path)
    if path.is_dir() and adapter.is_adapter(path):
        return f"{own_stamp} {stamp(adapter.base_of(path).name)}"
    config = state_dict.config_beside(path) if path.is_file() else None
    if config is not None:
        return f"{own_stamp} {identity.stamp(config)}"
    return own_stamp


def _edit_stamp(name: str) -> str:
    """The stamp of an intervention, with those of its base and of a transplant's donor."""
    from workbench.subjects.intervention import read_intervention

    under_way = UNDER_WAY.get()
    if name in under_way:
        return ""  # made from itself: `load` raises
    token = UNDER_WAY.set((*under_way, name))
    try:
        change = read_intervention(name.removeprefix("edit:"))
        made_from = [change.base, *([change.transplant.donor] if change.transplant else [])]
        content = hashlib.sha256(change.to_json().encode()).hexdigest()
        return " ".join([content, *(stamp(other) for other in made_from)])
    finally:
        UNDER_WAY.reset(token)


def is_remote(name: str) -> bool:
    """Whether loading this name would download a model from Hugging Face."""
    if constants.HF_HUB_OFFLINE or name.startswith(("run:", "edit:")):
        return False
    try:
        if local_path(name) is not None:
            return False
        return not isinstance(try_to_load_from_cache(name, "config.json"), str)
    except (WorkbenchError, HFValidationError):  # neither a file nor an id: loading will say so
        return False


def available() -> list[Available]:
    """All models that load without network: bundled, in `WORKBENCH_MODELS`, runs, interventions."""
    shelf = paths.shelf("models")
    models = [
        Available(path.parent.relative_to(shelf).as_posix(), _kind(path, "bundled"), path.parent)
        for path in sorted(shelf.rglob("config.json"))
    ]
    folder = paths.models_folder()
    if folder is not None:
        models += _in_folder(folder)
    for run in sorted((paths.home() / "runs").glob("*/checkpoints"), reverse=True):
        steps = sorted(run.glob("step-*/config.json"))
        if steps:
            models.append(Available(f"run:{run.parent.name}", "run", steps[-1].parent))
    for path in sorted((paths.home() / "interventions").glob("*.json")):
        models.append(Available(f"edit:{path.stem}", "edit", path))
    order = ("bundled", "gguf", "folder", "transformerlens", "run", "edit", *OTHERS)
    return sorted(
        models,
        key=lambda model: (
            order.index(model.kind),
            model.kind == "bundled" and "/" in model.name,
        ),
    )


def _in_folder(folder: Path) -> list[Available]:
    """The models in a user's folder, at any depth."""
    models = []
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".gguf":
            models.append(Available(path.name, "gguf", path))
        elif path.name == "config.json" and any(path.parent.glob("*.safetensors")):
            name = str(path.parent.relative_to(folder))
            models.append(Available(name, _kind(path, "folder"), path.parent))
        elif path.suffix == ".safetensors" and state_dict.is_transformerlens(path):
            models.append(Available(str(path.relative_to(folder)), "transformerlens", path))
    return models


def _kind(config: Path, kind: str) -> str:
    """The kind of models that `load` does not take as they are, one of `OTHERS`, else `kind`."""
    stated = stated_kind(config)
    if stated == DECODER:
        return kind
    return "seq2seq" if stated == SEQ2SEQ else stated


def local_path(name: str) -> Path | None:
    """The file or folder that a name stands for; None where it can only be a Hugging Face id.

    Raises:
        WorkbenchError: The name is plainly a path, and nothing is there.
    """
    candidates = [path_of(name, "model")]
    if os.sep not in name or not Path(name).is_absolute():
        candidates.append(paths.shelf("models") / name)
        folder = paths.models_folder()
        if folder is not None:
            candidates += [folder / name, folder / f"{name}.gguf"]
    for path in candidates:
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            return path
    if name.startswith((".", "/", "~")) or name.endswith((".gguf", ".pt", ".safetensors", ".bin")):
        raise WorkbenchError(f"There is no file or folder {name}; check the path.")
    return None


def run_checkpoint(name: str) -> Path:
    """The checkpoint folder of `run:ID@STEP`, or the newest one of `run:ID`.

    Raises:
        WorkbenchError: There is no such run or checkpoint.
    """
    from workbench.store import Store, copies

    run_id, _, step = name.removeprefix("run:").partition("@")
    run = Store().get(run_id)
    steps = copies.steps_of(run)
    if not steps:
        raise WorkbenchError(
            f"Run {run_id} has no checkpoint yet; wait for its first, or choose another run."
        )
    if step and (not step.isdigit() or int(step) not in steps):
        shown = ", ".join(map(str, steps))
        raise WorkbenchError(f"Run {run_id} has no checkpoint {step}; it has {shown}.")
    return copies.checkpoint(run, int(step or steps[-1]))
