"""The checkpoints of a run: Hugging Face folders; the newest also hold the optimiser's state."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.doors import read_object, reading, short
from workbench.errors import WorkbenchError
from workbench.store.run import checkpoints_in
from workbench.subjects.claims import shapes_in
from workbench.subjects.save import save
from workbench.training.recipe import Optimisation

STATE = "training_state.pt"
FACTS = "training.json"
CHECKSUMS = "checksums.json"
MEND = "restore the checkpoint's folder, or go on from an older one"
DAMAGED = "damaged-"
"""Prefix that the folder of a damaged checkpoint gets when it is set aside."""
WITH_STATE = 2
"""How many of the newest checkpoints keep the optimiser's state: if one is damaged, one is left."""


@cache
def series(settings: Optimisation) -> frozenset[int]:
    """The steps whose checkpoints are never deleted: log-spaced from `steps / 128` to `steps`."""
    if settings.series <= 0:
        return frozenset()
    # 128 = 2**7: the series covers the last seven doublings of the number of steps.
    steps = np.geomspace(max(1, settings.steps / 128), settings.steps, settings.series)
    return frozenset(int(step) for step in steps.round())


def due(step: int, settings: Optimisation) -> bool:
    """Whether a checkpoint is written after this step."""
    return (
        step % settings.checkpoint_every == 0 or step == settings.steps or step in series(settings)
    )


def write(
    run_folder: Path,
    step: int,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    training: dict[str, Any],
    settings: Optimisation,
    facts: dict[str, float],
    *,
    weights: dict[str, torch.Tensor] | None = None,
) -> Path:
    """Write a checkpoint and return its folder, then delete those that the recipe does not keep.

    The folder is written under a temporary name and renamed, so it is complete or absent.

    Args:
        run_folder: The run's folder; the checkpoint is `checkpoints/step-0000123` in it.
        step: The number of updates done.
        model: Saved in its own precision.
        tokenizer: Saved beside the weights.
        training: The optimiser's state, written as `training_state.pt`.
        settings: Says which checkpoints are kept.
        facts: Numbers about the checkpoint (tokens seen, validation_loss), written as JSON.
        weights: The full weights, when `model` holds only this process's shards of them.

    Raises:
        WorkbenchError: When the disk refuses; the previous checkpoint is untouched.
    """

    def more(part: Path) -> None:
        torch.save(_on_cpu(training), part / STATE)
        (part / FACTS).write_text(json.dumps({"step": step, **facts}))
        sums = {path.name: _sha256(path) for path in sorted(part.iterdir()) if path.is_file()}
        (part / CHECKSUMS).write_text(json.dumps(sums, indent=1))

    folder = save(
        run_folder / "checkpoints" / f"step-{step:07d}",
        model,
        tokenizer,
        weights=weights,
        also=more,
    )
    _tidy(run_folder, settings)
    return folder


def _on_cpu(state: Any) -> Any:
    """A copy of the state with tensors on the CPU, so that a machine without GPU can load it."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return type(state)((key, _on_cpu(value)) for key, value in state.items())
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


def _tidy(run_folder: Path, settings: Optimisation) -> None:
    """Delete checkpoints that are not the last, the best or in the series; drop old states."""
    folders = saved(run_folder)
    losses = {folder: facts(folder).get("validation_loss", float("inf")) for folder in folders}
    stay = {*folders[-max(WITH_STATE, settings.keep) :], min(folders, key=losses.__getitem__)}
    for folder in folders:
        if folder not in stay and step_of(folder) not in series(settings):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder not in folders[-WITH_STATE:]:
            (folder / STATE).unlink(missing_ok=True)


def saved(run_folder: Path) -> list[Path]:
    """The checkpoint folders of a run, in order of their steps."""
    return list(checkpoints_in(run_folder).values())


def step_of(folder: Path) -> int:
    """The number of updates that a checkpoint has behind it, read from its folder's name."""
    return int(folder.name.removeprefix("step-"))


def facts(folder: Path) -> dict[str, float]:
    """The numbers stored with a checkpoint: step, tokens and, if measured then, validation_loss."""
    path = folder / FACTS
    if not path.is_file():
        return {"step": step_of(folder)}
    values = read_object(path, MEND)
    return {word: value for word, value in values.items() if isinstance(value, int | float)}


def state(folder: Path) -> dict[str, Any]:
    """The optimiser's state of a checkpoint, loaded on the CPU with `weights_only=True`."""
    with reading(folder / STATE, MEND):
        return torch.load(folder / STATE, weights_only=True, map_location="cpu")


# -- resuming --------------------------------------------------------------------------------------


def newest_whole(
    run_folder: Path, say: Callable[[str], None] = logging.getLogger("workbench").warning
) -> Path | None:
    """The newest undamaged checkpoint to resume from, or None to start over; call on all processes.

    Args:
        run_folder: The run's folder. Damaged checkpoints in it are renamed, never deleted.
        say: Called with one sentence for each damaged checkpoint.
    """
    with PartialState().main_process_first():
        folders = saved(run_folder)
        for folder in reversed(folders):
            why = fault(folder)
            if why is None:
                return folder
            if folder != folders[-1] and not (folder / STATE).is_file():
                continue  # an older checkpoint, whose state was dropped on purpose
            aside = folder.with_name(DAMAGED + folder.name)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            say(
                f"The checkpoint {folder.name} is damaged ({why}) and now called {aside.name}; an "
                "older one is taken."
            )
    return None


def fault(folder: Path) -> str | None:
    """Why a run cannot resume from a checkpoint (a missing or changed file), or None if it can."""
    if not (folder / STATE).is_file():
        return f"{STATE} is missing"
    if not (folder / CHECKSUMS).is_file():
        return _fault_without_sums(folder)
    try:
        sums = read_object(folder / CHECKSUMS, MEND)
    except WorkbenchError:
        return f"{CHECKSUMS} cannot be read"
    there = {path.name: path for path in folder.iterdir() if path.is_file()}
    for name, expected in sums.items():
        if name not in there:
            return f"{short(name)} is missing"
        if _sha256(there[name]) != expected:
            return f"{name} is not what was written"
    return None


def _fault_without_sums(folder: Path) -> str | None:
    """The same for a checkpoint from before there were checksums: can its files be read at all?"""
    try:
        if not shapes_in(folder):
            return "its weights are missing"
        state(folder)
    except WorkbenchError as error:
        return str(error).rstrip(".")
    return None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
