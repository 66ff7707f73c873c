"""Base and tuned model on the same held-out items: stored answers, paired differences."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.doors import made_folder, read_frame, reading, writing
from workbench.statistics import Difference
from workbench.training.tasks import Item, Task
from workbench.training.tasks.task import Progress

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "evaluation"
MODELS = ("base", "tuned")


@dataclass(frozen=True, kw_only=True)
class Change(Difference):
    """The paired difference (tuned minus base) of one metric, and which direction is better."""

    metric: str
    higher_is_better: bool

    @property
    def shown(self) -> bool:
        """Whether the 95 % interval excludes 0."""
        return self.low > 0 or self.high < 0

    @property
    def improved(self) -> bool:
        """Whether the 95 % interval lies entirely on the better side of 0."""
        return self.low > 0 if self.higher_is_better else self.high < 0


def file(run_folder: Path, model: str) -> Path:
    """The file with a run's answers; `model` is `base` or `tuned`."""
    return run_folder / FOLDER / f"{model}.parquet"


def answers(run_folder: Path, model: str) -> "pd.DataFrame | None":
    """A run's stored answers (input, target, prediction, score; one row per item), or None."""
    path = file(run_folder, model)
    if not path.is_file():
        return None
    with reading(path, "delete it to have the examples answered again"):
        return read_frame(path)


def ask(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: list[Item],
    progress: Progress,
) -> "pd.DataFrame":
    """A model's answers to the items, one row per item.

    Args:
        task: Renders prompts and scores answers.
        model: Run in eval mode and its own precision; its mode is restored afterwards.
        tokenizer: Of the model.
        items: Held-out examples.
        progress: Called with the share done.
    """
    import pandas as pd

    was_training = model.training
    state = torch.get_rng_state()
    model.eval()
    try:
        return pd.DataFrame(task.answer(model, tokenizer, items, progress))
    finally:
        model.train(was_training)
        torch.set_rng_state(state)


def keep(frame: "pd.DataFrame", run_folder: Path, model: str) -> None:
    """Store a model's answers in the run's folder, atomically.

    Args:
        frame: From `ask`.
        run_folder: Of the run.
        model: `base` or `tuned`.
    """
    path = file(run_folder, model)
    made_folder(path.parent)
    with writing(path) as part:
        frame.to_parquet(part, index=False)


def changes(task: Task, base: "pd.DataFrame", tuned: "pd.DataFrame") -> list[Change]:
    """Every metric of the task with its paired difference, the main metric first.

    Args:
        task: Names and computes the metrics.
        base: Answers of the base model, from `ask`.
        tuned: Answers of the tuned model to the same items, in the same order.
    """
    differences = task.differences(base, tuned)
    better = task.higher_is_better
    return [
        Change(**asdict(difference), metric=name, higher_is_better=better)
        for name, difference in differences.items()
    ]
