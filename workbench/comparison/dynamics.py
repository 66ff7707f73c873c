"""When did it learn what: losses, head scores and a benchmark over the checkpoints that a run has
kept.
"""

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
"""What was measured of a bundled model's checkpoints, beside its weights: a list of records, one a
task.
"""


@dataclass(frozen=True)
class Point:
    """One checkpoint's value of one measure, with its 95 % interval over `n` sequences or items.

    For a head score, `head` is the head that has most of it at that checkpoint.
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
    """A run's checkpoints, measured; `losses` are (tokens, validation loss) as the run logged them."""

    run: str
    title: str
    task: str
    points: list[Point]
    losses: list[tuple[int, float]]

    def to_frame(self) -> pd.DataFrame:
        """One row a checkpoint and measure; the losses come without an interval."""
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
        """The tokens between which a measure rose most, from one checkpoint to the next; None for
        less than 0.1.
        """
        found = sorted((p.tokens, p.value) for p in self.points if p.measure == measure)
        gains = np.diff([value for _, value in found])
        if not len(gains) or gains.max() < 0.1:
            return None
        at = int(gains.argmax())
        return found[at][0], found[at + 1][0]

    @classmethod
    def from_dict(cls, values: dict) -> "Dynamics":
        """The record that `dataclasses.asdict` gave."""
        points = [Point(**point) for point in values["points"]]
        return cls(
            **{**values, "points": points, "losses": [tuple(pair) for pair in values["losses"]]}
        )


def bundled() -> dict[str, Path]:
    """The bundled models whose training was measured checkpoint by checkpoint when the project
    trained them.
    """
    return {path.parent.name: path for path in sorted(paths.shelf("models").glob(f"*/{FILE}"))}


def recorded(name: str, task: str) -> Dynamics:
    """A bundled model's record. Raises `WorkbenchError` for a task that was not measured."""
    found = {
        record["task"]: record for record in json.loads(bundled()[name].read_text(encoding="utf-8"))
    }
    if task not in found:
        raise WorkbenchError(
            f"{name} was measured on {', '.join(found)} while it was trained, not on {task}."
        )
    return Dynamics.from_dict(found[task])


def dynamics(
    run: str | Run,
    *,
    task: str = "repeat",
    limit: int = 50,
    progress: Callable[[float, str], None] = lambda share, words: None,
) -> Dynamics:
    """Measure every kept checkpoint: the best induction and previous-token head, and a task's
    accuracy.

    The induction bump is the sudden rise of the first, with a bend of the loss at the same tokens
    (Olsson et al. 2022). A recipe's `series` keeps checkpoints spread over the logarithm of the
    steps. The name of a bundled model gives what was measured when the project trained it. Raises
    `WorkbenchError` when the run has fewer than two checkpoints, or is not one that trained on rows
    of a fixed length.
    """
    if isinstance(run, str) and run in bundled():
        return recorded(run, task)
    store = Store()
    run = store.get(run) if isinstance(run, str) else run
    folders = run.checkpoints
    if len(folders) < 2 or run.kind != "train":
        raise WorkbenchError(
            f"The run {run.title} has {len(folders)} checkpoints; a pretraining run with series = 12 in its recipe "
            "keeps enough of them."
        )
    a_step = run.config["train"]["batch_size"] * run.config["model"]["n_ctx"]
    points: list[Point] = []
    for i, (step, folder) in enumerate(folders.items()):
        progress(i / len(folders), f"checkpoint {i + 1} of {len(folders)}")
        points += _measure(str(folder), step, a_step, task, limit)
    logged = store.metrics(run.id).query("name == 'validation_loss'")
    losses = [
        (int(step) * a_step, float(value))
        for step, value in zip(logged["step"], logged["value"], strict=True)
    ]
    return Dynamics(run.id, run.title, task, points, losses)


def _measure(folder: str, step: int, a_step: int, task: str, limit: int) -> list[Point]:
    subject, found = load(folder), []
    scores = head_scores(subject)
    for name in SCORES:
        layer, head = np.unravel_index(scores.mean[name].argmax(), scores.mean[name].shape)
        values = (float(part[name][layer, head]) for part in (scores.mean, scores.low, scores.high))
        found.append(Point(step, step * a_step, name, *values, scores.n, f"L{layer}H{head}"))
    row = evaluate(subject, task, limit=limit).table().iloc[0]
    found.append(
        Point(
            step,
            step * a_step,
            task,
            *(float(row[k]) for k in ("value", "low", "high")),
            int(row["n"]),
        )
    )
    return found
