"""The checkpoints of a run: Hugging Face folders, the newest with its optimiser state."""

from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.subjects.save import save

STATE = "training_state.pt"


def write(
    run_folder: Path, step: int, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, training: dict[str, Any]
) -> Path:
    """Save the checkpoint of a step; older ones keep their weights and drop their optimiser state."""
    folder = run_folder / "checkpoints" / f"step-{step:07d}"
    save(folder, model, tokenizer, also=lambda part: torch.save(training, part / STATE))
    for other in saved(run_folder):
        if other != folder:
            (other / STATE).unlink(missing_ok=True)
    return folder


def saved(run_folder: Path) -> list[Path]:
    """The checkpoints of a run, first step first."""
    return sorted((run_folder / "checkpoints").glob("step-*"))


def state(folder: Path) -> dict[str, Any]:
    """The optimiser's state of a checkpoint, read with `weights_only=True`."""
    return torch.load(folder / STATE, weights_only=True)
