"""The checkpoints of a run: Hugging Face folders, the newest with what is needed to go on exactly."""

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.store.run import checkpoints_in
from workbench.subjects.save import save
from workbench.training.recipe import Optimisation

STATE = "training_state.pt"
FACTS = "training.json"


@cache
def series(settings: Optimisation) -> frozenset[int]:
    """Steps that stay for good, evenly spread over the logarithm of the last seven doublings."""
    if settings.series <= 0:
        return frozenset()
    steps = np.geomspace(max(1, settings.steps / 128), settings.steps, settings.series)
    return frozenset(int(step) for step in steps.round())


def due(step: int, settings: Optimisation) -> bool:
    """Whether a checkpoint is written after this step."""
    return step % settings.checkpoint_every == 0 or step == settings.steps or step in series(settings)


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
    """Save the checkpoint of a step under a temporary name first, then drop what the recipe does not keep.

    `weights` are the model's where it holds but shards of them.
    `facts` (tokens seen, validation_loss) lie beside the weights as JSON. Only the newest checkpoint keeps the
    optimiser's state. Raises `WorkbenchError` when the disk refuses; the previous checkpoint then stays whole.
    """

    def more(part: Path) -> None:
        torch.save(training, part / STATE)
        (part / FACTS).write_text(json.dumps({"step": step, **facts}))

    folder = save(run_folder / "checkpoints" / f"step-{step:07d}", model, tokenizer, weights=weights, also=more)
    _tidy(run_folder, settings)
    return folder


def _tidy(run_folder: Path, settings: Optimisation) -> None:
    found = saved(run_folder)
    losses = {folder: facts(folder).get("validation_loss", float("inf")) for folder in found}
    stay = {*found[-max(1, settings.keep) :], min(found, key=losses.__getitem__)}
    for folder in found:
        if folder not in stay and step_of(folder) not in series(settings):
            shutil.rmtree(folder, ignore_errors=True)
        elif folder != found[-1]:
            (folder / STATE).unlink(missing_ok=True)


def saved(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, first step first."""
    return list(checkpoints_in(run_folder).values())


def step_of(folder: Path) -> int:
    """The step after which a checkpoint was written."""
    return int(folder.name.removeprefix("step-"))


def facts(folder: Path) -> dict[str, float]:
    """What a checkpoint knew of itself: step, tokens, and validation_loss where it was measured at that step."""
    path = folder / FACTS
    return json.loads(path.read_text()) if path.is_file() else {"step": step_of(folder)}


def state(folder: Path) -> dict[str, Any]:
    """The optimiser's state of a checkpoint, read with `weights_only=True`."""
    return torch.load(folder / STATE, weights_only=True, map_location="cpu")
