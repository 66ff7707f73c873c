"""Fairness: each task on bias by category, for one model or for a base against its tuned form."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pandas as pd

from workbench.benchmarks import Results, evaluate
from workbench.benchmarks.suites import find_suite
from workbench.bias.measures import CAVEATS, MEASURES, difference, estimate
from workbench.errors import WorkbenchError
from workbench.modes import own_modes
from workbench.progress import Progress
from workbench.public import public
from workbench.records import Record
from workbench.statistics import Difference, Estimate, benjamini_hochberg
from workbench.subjects import Subject, SubjectOrName

ALL = "all"
"""The category of all documents together."""


@dataclass(frozen=True)
class Scored:
    """One metric of one task in one category.

    - `even`: the metric's value where nothing is preferred; None where that is no question
    - `base`, `tuned`: the score of each model; `tuned` is None where there is one model
    - `difference`: of the two on the same documents
    - `p`: of the difference, corrected over the categories of the task and metric
      (Benjamini-Hochberg)
    """

    task: str
    metric: str
    category: str
    even: float | None
    base: Estimate
    tuned: Estimate | None = None
    difference: Difference | None = None
    p: float = float("nan")

    def row(self) -> dict[str, Any]:
        """The numbers by name."""
        values: dict[str, Any] = {
            "task": self.task,
            "metric": self.metric,
            "category": self.category,
            "even": self.even,
            "base": self.base.value,
            "low": self.base.low,
            "high": self.base.high,
            "n": self.base.n,
        }
        if self.tuned is not None:
            values |= {
                "tuned": self.tuned.value,
                "tuned_low": self.tuned.low,
                "tuned_high": self.tuned.high,
            }
        if self.difference is not None:
            values |= {
                "difference": self.difference.difference,
                "difference_low": self.difference.low,
                "difference_high": self.difference.high,
                "p": self.p,
            }
        return values


@dataclass(frozen=True)
class Fairness(Record):
    """Scores of one model, or of two on the same documents, by task, metric and category.

    - `base`, `tuned`: names of the models; `tuned` is "" where there is one
    - `scores`: one for each task, metric and category; "all" stands first
    - `remarks`: what is to be known of each set
    - `data`: hash of each task's documents
    - `skipped`: (task, reason) of the tasks that could not run
    - `limit`: the most documents of each task; None for all
    """

    base: str
    base_sha256: str
    scores: list[Scored]
    remarks: list[str]
    data: dict[str, str]
    tuned: str = ""
    tuned_sha256: str = ""
    skipped: list[tuple[str, str]] = field(default_factory=list)
    limit: int | None = None
    seed: int = 0

    def model_hashes(self) -> dict[str, str]:
        """The sha256 of each model, by name."""
        hashes = {self.base: self.base_sha256}
        return hashes | ({self.tuned: self.tuned_sha256} if self.tuned else {})

    def data_hashes(self) -> dict[str, str]:
        """The sha256 of each task's documents."""
        return self.data

    def headline(self) -> str:
        """The first metric of each task over all documents, in one line."""
        parts = []
        for task in dict.fromkeys(one.task for one in self.scores):
            first = next(one for one in self.scores if one.task == task)
            base = first.base
            words = f"{task} {first.metric} {base.value:.3f} [{base.low:.3f}, {base.high:.3f}]"
            if first.difference is not None:
                gap = first.difference
                words += f", tuned {gap.difference:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}]"
            parts.append(words)
        return "; ".join(parts)

    def to_frame(self) -> pd.DataFrame:
        """One row for each task, metric and category."""
        return pd.DataFrame([one.row() for one in self.scores])


@public("base", "tuned")
@own_modes
def fairness(
    base: SubjectOrName,
    tuned: SubjectOrName | None = None,
    tasks: str | Sequence[str] = ("crows_pairs", "crows_pairs_rest", "winogender", "winobias"),
    *,
    limit: int | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fairness:
    """Scores on bias by category with intervals, and the paired difference of two models.

    Args:
        base: The model.
        tuned: A second one, scored on the same documents; None for none.
        tasks: Tasks of the suite `responsible`, or a suite of such tasks.
        limit: The most documents of each task: a random subset, the same for both models, balanced
            over the categories; None for all.
        seed: Of the subset.
        progress: Called with the share that is done, from 0 to 1, and a few words.

    Raises:
        WorkbenchError: For a task that measures no bias, and where no task's data is here.
    """
    names = _tasks(tasks)
    report = progress or (lambda share, words: None)
    models = [cast(Subject, base)] + ([] if tuned is None else [cast(Subject, tuned)])
    results = []
    for number, model in enumerate(models):

        def part(share: float, words: str, number: int = number) -> None:
            report((number + share) / len(models), words)

        results.append(evaluate(model, names, limit=limit, seed=seed, progress=part))
    skipped = dict(results[0].skipped)
    two = {} if tuned is None else {"tuned": models[1].name, "tuned_sha256": models[1].hash}
    return Fairness(
        base=models[0].name,
        base_sha256=models[0].hash,
        scores=[score for task in names if task not in skipped for score in _scores(task, results)],
        remarks=[f"{task}: {CAVEATS[task]}" for task in names if task not in skipped],
        data=results[0].data_hashes(),
        skipped=list(skipped.items()),
        limit=limit,
        seed=seed,
        **two,
    )


def _tasks(tasks: str | Sequence[str]) -> list[str]:
    """The tasks that are named, one by one or by a suite.

    Raises:
        WorkbenchError: One of them measures no bias.
    """
    names = find_suite(tasks).tasks if isinstance(tasks, str) else list(tasks)
    for name in names:
        if name not in MEASURES:
            raise WorkbenchError(f"{name!r} is no task on bias; choose from {', '.join(MEASURES)}.")
    if not names:
        raise WorkbenchError(f"No task was named; choose from {', '.join(MEASURES)}.")
    return names


def samples_of(results: Results, task: str) -> pd.DataFrame:
    """The samples of a task by document: group, cluster, and a column for each metric.

    A document of which a text could not be scored is left out.
    """
    rows: Any = results.samples[results.samples["task"] == task]
    rows = rows[~rows["loglikelihoods"].str.contains("null")]
    metrics = pd.DataFrame([json.loads(text) for text in rows["scores"]], index=rows["doc_id"])
    return metrics.join(rows.set_index("doc_id")[["group", "cluster"]])


def _scores(task: str, results: list[Results]) -> Iterator[Scored]:
    """The scores of one task: every metric for all documents, then by category."""
    samples = [samples_of(one, task) for one in results]
    groups = sorted(set(samples[0]["group"].dropna()))
    for measure in MEASURES[task]:
        by_category = []
        for category in (ALL, *groups):
            parts: list[Any] = [
                rows if category == ALL else rows[rows["group"] == category] for rows in samples
            ]
            scored = [estimate(measure.metric, rows) for rows in parts]
            if scored[0] is None:
                continue
            gap = difference(measure.metric, *parts) if len(parts) > 1 else None
            tuned = scored[1] if len(scored) > 1 else None
            by_category.append(
                Scored(
                    *(task, measure.metric, category, measure.even, scored[0], tuned, gap),
                    p=float("nan") if gap is None else gap.p,
                )
            )
        first = by_category[:1]
        corrected = benjamini_hochberg([one.p for one in by_category[1:]])
        yield from first
        for one, p in zip(by_category[1:], corrected, strict=True):
            yield replace(one, p=p)
