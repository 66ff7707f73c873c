"""Two results on the same samples: is one model better, task by task?"""

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
    """Per task, on the samples both models were scored on: base, tuned, paired difference, interval
    and p.

    Where the samples give no interval it is NaN, and `reason` says why.

    Each task is compared by its headline metric. Raises WorkbenchError where the two were measured
    on other data or with other shots, or have no task in common.
    """
    import pandas as pd

    tasks = [
        task for task in dict.fromkeys(base.samples["task"]) if task in set(tuned.samples["task"])
    ]
    if not tasks:
        raise WorkbenchError(
            f"{base.subject} and {tuned.subject} have no task in common; evaluate both on one suite."
        )
    rows = []
    for task in tasks:
        _refuse_other_data(base, tuned, task)
        one, other = _scored(base, task), _scored(tuned, task)
        both = one.join(other, how="inner", lsuffix="_base", rsuffix="_tuned")
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
    """Of samples joined by document: of summed counts where the metric is made of those, else of
    means.
    """
    if both["metric_base"].iloc[0] == COUNTS:
        counts = [
            np.array([json.loads(s)[COUNTS] for s in both[f"scores_{side}"]])
            for side in ("base", "tuned")
        ]
        return paired_counts(*counts, entity_f1)
    a, b, weights = (both[name].to_numpy() for name in ("score_base", "score_tuned", "weight_base"))
    clusters = both["cluster_base"]
    return paired_difference(
        a, b, weights=weights, clusters=None if clusters.isna().any() else list(clusters)
    )


def _scored(results: "Results", task: str) -> Any:
    frame: Any = results.samples
    scored = frame[(frame["task"] == task) & frame["score"].notna()].set_index("doc_id")
    return scored[["score", "weight", "metric", "cluster", "scores"]]


def _refuse_other_data(base: "Results", tuned: "Results", task: str) -> None:
    one, other = (results.config.get("data", {}).get(task) for results in (base, tuned))
    if one != other:
        raise WorkbenchError(
            f"{task}: {base.subject} was measured on data or prompts {str(one)[:12]}, {tuned.subject} on "
            f"{str(other)[:12]}; evaluate both again with the same data, shots and version."
        )
