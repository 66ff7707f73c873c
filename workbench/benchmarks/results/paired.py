"""Paired comparison of two models' results on the same samples, task by task."""

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.benchmarks.results.scores import COUNTS
from workbench.data.entities import entity_f1
from workbench.errors import WorkbenchError
from workbench.statistics import Difference, benjamini_hochberg, paired_counts, paired_difference

if TYPE_CHECKING:
    import pandas as pd

    from workbench.benchmarks.results.record import Results


def compare_results(base: "Results", tuned: "Results") -> "pd.DataFrame":
    """One row a task, by its headline metric: base, tuned, paired difference, interval and p.

    Args:
        base: Results of one model.
        tuned: Results of the other, on the same data and with the same shots.

    Returns:
        Only samples on which both models were scored count. `p_adjusted` is corrected over tasks
        (Benjamini-Hochberg). Where the samples give no interval it is NaN, and `reason` says why.

    Raises:
        WorkbenchError: the two were measured on different data or with different shots, or have no
            task in common.
    """
    import pandas as pd

    tasks = [
        task for task in dict.fromkeys(base.samples["task"]) if task in set(tuned.samples["task"])
    ]
    if not tasks:
        raise WorkbenchError(
            f"{base.subject} and {tuned.subject} have no task in common; "
            "evaluate both on one suite."
        )
    rows = []
    for task in tasks:
        _refuse_other_data(base, tuned, task)
        both = _scored(base, task).join(
            _scored(tuned, task), how="inner", lsuffix="_base", rsuffix="_tuned"
        )
        if both.empty:
            continue
        rows.append(
            {"task": task, "metric": both["metric_base"].iloc[0], **vars(_difference(both))}
        )
    names = [
        "task",
        "metric",
        "base",
        "tuned",
        "difference",
        "low",
        "high",
        "p",
        "p_adjusted",
        "n",
        "test",
        "method",
        "reason",
    ]
    frame: Any = pd.DataFrame(rows, columns=[name for name in names if name != "p_adjusted"])
    frame["p_adjusted"] = benjamini_hochberg(list(frame["p"]))
    return frame[names]


def _difference(both: Any) -> Difference:
    """Paired difference over samples joined by document: of means, or of F1 over summed counts."""
    if both["metric_base"].iloc[0] == COUNTS:
        base = np.array([json.loads(scores)[COUNTS] for scores in both["scores_base"]])
        tuned = np.array([json.loads(scores)[COUNTS] for scores in both["scores_tuned"]])
        return paired_counts(base, tuned, entity_f1)
    clusters = both["cluster_base"]
    return paired_difference(
        both["score_base"].to_numpy(),
        both["score_tuned"].to_numpy(),
        weights=both["weight_base"].to_numpy(),
        clusters=None if clusters.isna().any() else list(clusters),
    )


def _scored(results: "Results", task: str) -> Any:
    frame: Any = results.samples
    scored = frame[(frame["task"] == task) & frame["score"].notna()].set_index("doc_id")
    return scored[["score", "weight", "metric", "cluster", "scores"]]


def _refuse_other_data(base: "Results", tuned: "Results", task: str) -> None:
    one, other = (results.config.get("data", {}).get(task) for results in (base, tuned))
    if one != other:
        raise WorkbenchError(
            f"{task}: {base.subject} was measured on data or prompts {str(one)[:12]}, "
            f"{tuned.subject} on {str(other)[:12]}; evaluate both again with the same data, shots "
            "and version."
        )
