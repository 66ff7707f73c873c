"""Base and tuned on the same held-out items: answers kept in the run's folder, differences with
intervals.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from workbench.doors import made_folder, writing
from workbench.statistics import Difference
from workbench.training.tasks import Item, Task
from workbench.training.tasks.task import Progress

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "evaluation"
MODELS = ("base", "tuned")


@dataclass(frozen=True, kw_only=True)
class Change(Difference):
    """The paired difference of one metric before and after, and which way is better."""

    metric: str
    higher_is_better: bool

    @property
    def shown(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0

    @property
    def improved(self) -> bool:
        """Whether the interval lies wholly on the better side of 0."""
        return self.low > 0 if self.higher_is_better else self.high < 0


def file(run_folder: Path, model: str) -> Path:
    """Where a run keeps the answers of `base` or `tuned`."""
    return run_folder / FOLDER / f"{model}.parquet"


def answers(run_folder: Path, model: str) -> "pd.DataFrame | None":
    """The answers that a run has kept: one row an item with input, target, prediction and score."""
    import pandas as pd

    path = file(run_folder, model)
    return pd.read_parquet(path) if path.is_file() else None


def ask(
    task: Task,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    items: list[Item],
    progress: Progress,
) -> "pd.DataFrame":
    """A model's answers to the items, in eval mode and in the weights' own precision; nothing of
    the model changes.
    """
    import pandas as pd

    training = model.training
    state = torch.get_rng_state()
    model.eval()
    try:
        return pd.DataFrame(task.answer(model, tokenizer, items, progress))
    finally:
        model.train(training)
        torch.set_rng_state(state)


def keep(frame: "pd.DataFrame", run_folder: Path, model: str) -> None:
    """Write the answers whole or not at all."""
    path = file(run_folder, model)
    made_folder(path.parent)
    with writing(path) as part:
        frame.to_parquet(part, index=False)


def changes(task: Task, base: "pd.DataFrame", tuned: "pd.DataFrame") -> list[Change]:
    """Every metric of the task before and after, headline first."""
    differences = task.differences(base, tuned)
    better = task.higher_is_better
    return [
        Change(**asdict(found), metric=name, higher_is_better=better)
        for name, found in differences.items()
    ]
