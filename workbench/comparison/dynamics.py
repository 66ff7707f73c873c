"""Training dynamics: loss, head scores and a benchmark at each kept checkpoint of a run."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from workbench import paths
from workbench.benchmarks import evaluate
from workbench.errors import WorkbenchError
from workbench.interp.patterns.heads import head_scores
from workbench.store import Run, Store
from workbench.subjects import load

SCORES = ("induction_score", "previous_token_score")
FILE = "dynamics.json"
"""File of measured dynamics beside a bundled model's weights: a list of records, one a task."""


@dataclass(frozen=True)
class Point:
    """One checkpoint's value of one measure, with its 95 % interval over `n` sequences or items.

    For a head score, `head` is the head with the highest score at that checkpoint.
    """

    step: int
    tokens: int
    measure: str
    value: float
    low: float
    high: float
    n: int
    head: str = ""


@dataclass(frozen=True)
class Dynamics:
    """Measures at a run's checkpoints; `losses` are (tokens, validation loss) as it logged them."""

    run: str
    title: str
    task: str
    points: list[Point]
    losses: list[tuple[int, float]]

    def to_frame(self) -> pd.DataFrame:
        """One row a checkpoint and measure; the losses have no interval."""
        rows = [asdict(point) for point in self.points]
        rows += [
            {
                "tokens": tokens,
                "measure": "validation_loss",
                "value": loss,
                "low": np.nan,
                "high": np.nan,
                "n": 1,
            }
            for tokens, loss in self.losses
        ]
        return pd.DataFrame(rows)

    def rise(self, measure: str = "induction_score") -> tuple[int, int] | None:
        """(from, to) in tokens: the steepest rise between two checkpoints; None if below 0.1."""
        curve = sorted((p.tokens, p.value) for p in self.points if p.measure == measure)
        gains = np.diff([value for _, value in curve])
        if not len(gains) or gains.max() < 0.1:
            return None
        at = int(gains.argmax())
        return curve[at][0], curve[at + 1][0]

    @classmethod
    def from_dict(cls, values: dict) -> "Dynamics":
        """The record of a dictionary by `dataclasses.asdict`."""
        points = [Point(**point) for point in values["points"]]
        losses = [tuple(pair) for pair in values["losses"]]
        return cls(**{**values, "points": points, "losses": losses})


def bundled() -> dict[str, Path]:
    """By name: the dynamics files of bundled models that were measured while they were trained."""
    return {path.parent.name: path for path in sorted(paths.shelf("models").glob(f"*/{FILE}"))}


def recorded(name: str, task: str) -> Dynamics:
    """The measured dynamics of a bundled model.

    Raises:
        WorkbenchError: a task that was not measured.
    """
    records = json.loads(bundled()[name].read_text(encoding="utf-8"))
    by_task = {record["task"]: record for record in records}
    if task not in by_task:
        raise WorkbenchError(
            f"{name} was measured on {', '.join(by_task)} while it was trained, not on {task}."
        )
    return Dynamics.from_dict(by_task[task])


def dynamics(
    run: str | Run,
    *,
    task: str = "repeat",
    limit: int = 50,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> Dynamics:
    """Loss, the best induction and previous-token head, and a task's accuracy at each checkpoint.

    The "induction bump" is a sudden rise of the induction score with a bend of the loss at the same
    tokens. `series` in a recipe keeps checkpoints evenly over the logarithm of the steps.

    Args:
        run: A pretraining run or its id; the name of a bundled model gives what was measured when
            the project trained it.
        task: A benchmark task.
        limit: Items of the task.
        progress: Called with (share done, message).

    Raises:
        WorkbenchError: the run has fewer than two checkpoints, or is no pretraining run.

    Reference:
        Olsson et al. 2022, "In-context Learning and Induction Heads".
    """
    if isinstance(run, str) and run in bundled():
        return recorded(run, task)
    store = Store()
    run = store.get(run) if isinstance(run, str) else run
    folders = run.checkpoints
    if len(folders) < 2 or run.kind != "train":
        raise WorkbenchError(
            f"The run {run.title} has {len(folders)} checkpoints; a pretraining run with "
            "series = 12 in its recipe keeps enough of them."
        )
    tokens_a_step = run.config["train"]["batch_size"] * run.config["model"]["n_ctx"]
    points: list[Point] = []
    for i, (step, folder) in enumerate(folders.items()):
        progress(i / len(folders), f"checkpoint {i + 1} of {len(folders)}")
        points += _measure(str(folder), step, tokens_a_step, task, limit)
    logged = store.metrics(run.id).query("name == 'validation_loss'")
    losses = [
        (int(step) * tokens_a_step, float(value))
        for step, value in zip(logged["step"], logged["value"], strict=True)
    ]
    return Dynamics(run.id, run.title, task, points, losses)


def _measure(folder: str, step: int, tokens_a_step: int, task: str, limit: int) -> list[Point]:
    """The head scores and the task's score at one checkpoint."""
    subject = load(folder)
    tokens = step * tokens_a_step
    points = []
    scores = head_scores(subject)
    for name in SCORES:
        layer, head = np.unravel_index(scores.mean[name].argmax(), scores.mean[name].shape)
        points.append(
            Point(
                step=step,
                tokens=tokens,
                measure=name,
                value=float(scores.mean[name][layer, head]),
                low=float(scores.low[name][layer, head]),
                high=float(scores.high[name][layer, head]),
                n=scores.n,
                head=f"L{layer}H{head}",
            )
        )
    row = evaluate(subject, task, limit=limit).rows[0]
    points.append(Point(step, tokens, task, row.value, row.low, row.high, row.n))
    return points
