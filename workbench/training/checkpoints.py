"""The checkpoints of a run: Hugging Face folders, the newest with what is needed to go on exactly."""

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
"""What the folder of a damaged checkpoint is called from then on, before its step."""
WITH_STATE = 2
"""The newest checkpoints that stay with all that a run needs to go on: should one be damaged, there
is another.
"""


@cache
def series(settings: Optimisation) -> frozenset[int]:
    """Steps that stay for good, evenly spread over the logarithm of the last seven doublings."""
    if settings.series <= 0:
        return frozenset()
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
    """Save the checkpoint of a step under a temporary name first, then drop what the recipe does
    not keep.

    `weights` are the model's where it holds but shards of them. `facts` (tokens seen,
    validation_loss) lie beside the weights as JSON, and so do the checksums of all files. The last
    two checkpoints keep the optimiser's state. Raises `WorkbenchError` when the disk refuses; the
    previous checkpoint then stays whole.
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
    """The same state, its tensors on the CPU, so that any machine can read them."""
    if isinstance(state, torch.Tensor):
        return state.detach().cpu()
    if isinstance(state, dict):
        return type(state)((key, _on_cpu(value)) for key, value in state.items())
    return [_on_cpu(value) for value in state] if isinstance(state, list) else state


def _tidy(run_folder: Path, settings: Optimisation) -> None:
    found = saved(run_folder)
    losses = {folder: facts(folder).get("validation_loss", float("inf")) for folder in found}
    stay = {*found[-max(WITH_STATE, settings.keep) :], min(found, key=losses.__getitem__)}
    for folder in found:
        if folder not in stay and step_of(folder) not in series(settings):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder not in found[-WITH_STATE:]:
            (folder / STATE).unlink(missing_ok=True)


def saved(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, first step first."""
    return list(checkpoints_in(run_folder).values())


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(folder.name.removeprefix("step-"))


def facts(folder: Path) -> dict[str, float]:
    """What a checkpoint knew of itself: step, tokens, and validation_loss where it was measured at
    that step.
    """
    path = folder / FACTS
    if not path.is_file():
        return {"step": step_of(folder)}
    values = read_object(path, MEND)
    return {word: value for word, value in values.items() if isinstance(value, int | float)}


def state(folder: Path) -> dict[str, Any]:
    """The optimiser's state of a checkpoint, read with `weights_only=True`."""
    with reading(folder / STATE, MEND):
        return torch.load(folder / STATE, weights_only=True, map_location="cpu")


# -- going on
# -------------------------------------------------------------------------------------------------


def newest_whole(
    run_folder: Path, say: Callable[[str], None] = logging.getLogger("workbench").warning
) -> Path | None:
    """The newest checkpoint that a run can go on from, None where it has to begin anew; all
    processes take part.

    Checkpoints that are damaged are set aside under another name, and `say` is told of each in a
    sentence.
    """
    with PartialState().main_process_first():
        folders = saved(run_folder)
        for folder in reversed(folders):
            why = fault(folder)
            if why is None:
                return folder
            if folder != folders[-1] and not (folder / STATE).is_file():
                continue  # of older checkpoints the weights alone are kept
            aside = folder.with_name(DAMAGED + folder.name)
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            say(
                f"The checkpoint {folder.name} is damaged ({why}) and now called {aside.name}; an "
                "older one is taken."
            )
    return None


def fault(folder: Path) -> str | None:
    """Why a run cannot go on from a checkpoint: a file that is missing, cut or changed; None where
    it can.
    """
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
    """Of a checkpoint that was written before there were checksums: whether its files can be read
    at all.
    """
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
