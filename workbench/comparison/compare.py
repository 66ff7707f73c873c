"""Base against tuned: the same suite and the same text, with paired statistics."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from workbench.benchmarks import Results, compare_results, evaluate
from workbench.comparison.heads import HeadShift, head_shift
from workbench.errors import WorkbenchError
from workbench.subjects import Subject, load


@dataclass(frozen=True)
class Comparison:
    """Two Subjects compared.

    - `table`: a row a task: base, tuned, difference, 95 % interval, p, p adjusted over tasks, n
    - `heads`: how far each head's attention moved, None where heads cannot be matched
    - `notes`: what could not be compared, and why
    """

    base: str
    tuned: str
    table: pd.DataFrame
    heads: HeadShift | None
    base_results: Results
    tuned_results: Results
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """A JSON-able record."""
        return {
            "base": self.base,
            "tuned": self.tuned,
            "tasks": self.table.to_dict("records"),
            "heads": None if self.heads is None else self.heads.to_frame().to_dict("records"),
            "notes": self.notes,
        }


def compare(
    base: str | Subject,
    tuned: str | Subject,
    *,
    suite: str | list[str] = "core",
    limit: int | None = 100,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Comparison:
    """Evaluate both on the same documents of a suite, and compare their heads on the same text.

    Raises `WorkbenchError` for models or suites that cannot be had.
    """
    first, second = load(base), load(tuned)
    results = []
    for i, subject in enumerate((first, second)):

        def report(share: float, message: str, i: int = i) -> None:
            if progress is not None:
                progress((i + share) / 2, message)

        results.append(evaluate(subject, suite, limit=limit, seed=seed, progress=report))
    notes = [f"{task}: {why}" for task, why in results[0].skipped]
    try:
        heads = head_shift(first, second)
    except WorkbenchError as error:
        heads = None
        notes.append(str(error))
    return Comparison(first.name, second.name, compare_results(*results), heads, results[0], results[1], notes)
