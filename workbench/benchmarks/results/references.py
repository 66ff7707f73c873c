"""Published scores of models to compare ours with, their sources, and why they may differ."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from workbench.benchmarks.results.record import Results

CARD = "model card, huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct"
HARNESS = (
    "model card, huggingface.co/lldois/SmolLM2-135M-Reasoning-SLERP-Champion (its baseline column)"
)


@dataclass(frozen=True)
class Reference:
    """A published score: the mean of `metric` over `tasks`, between 0 and 1, run by `engine`."""

    model: str
    tasks: tuple[str, ...]
    metric: str
    value: float
    source: str
    engine: str


_SMOLLM = "SmolLM2-135M-Instruct"
_CARD = (
    (("hellaswag",), "acc_norm", 0.409, "lighteval, 0 shots"),
    (("arc_easy", "arc_challenge"), "acc_norm", 0.373, "lighteval, 0 shots, average of both"),
    (("piqa",), "acc_norm", 0.663, "lighteval, 0 shots"),
    (("mmlu_cloze",), "acc_norm", 0.293, "lighteval, 0 shots, cloze"),
    (("bbh",), "exact_match", 0.282, "lighteval, 3 shots"),
    (("gsm8k",), "exact_match", 0.014, "lighteval, 5 shots"),
)
_HARNESS = (
    (("arc_challenge",), "acc_norm", 0.2773),
    (("arc_easy",), "acc", 0.5412),
    (("hellaswag",), "acc_norm", 0.4299),
    (("piqa",), "acc_norm", 0.6692),
)
REFERENCES = [
    *(Reference(_SMOLLM, tasks, metric, value, CARD, how) for tasks, metric, value, how in _CARD),
    *(
        Reference(_SMOLLM, tasks, metric, value, HARNESS, "lm-eval, 0 shots")
        for tasks, metric, value in _HARNESS
    ),
]


def references(results: "Results") -> "pd.DataFrame":
    """Our scores beside published ones of the same model; empty where there are none.

    Returns:
        Columns: tasks, metric, ours, low, high, n, published, why (they may differ), engine,
        source.
    """
    import pandas as pd

    rows = []
    for reference in REFERENCES:
        by_task = {row.task: row for row in results.rows if row.metric == reference.metric}
        same_model = results.subject.startswith(reference.model)
        if not same_model or not set(reference.tasks) <= set(by_task):
            continue
        ours = [by_task[task] for task in reference.tasks]
        value = sum(row.value for row in ours) / len(ours)
        # Newcombe's MOVER: the interval of a mean of independent scores from their intervals.
        below = sum((row.value - row.low) ** 2 for row in ours) ** 0.5 / len(ours)
        above = sum((row.high - row.value) ** 2 for row in ours) ** 0.5 / len(ours)
        rows.append(
            {
                "tasks": " and ".join(reference.tasks),
                "metric": reference.metric,
                "ours": value,
                "low": value - below,
                "high": value + above,
                "n": sum(row.n for row in ours),
                "published": reference.value,
                "engine": reference.engine,
                "source": reference.source,
                "why": _why(results, reference),
            }
        )
    names = ["tasks", "metric", "ours", "low", "high", "n", "published", "why", "engine", "source"]
    return pd.DataFrame(rows, columns=names)


def _why(results: "Results", reference: Reference) -> str:
    """What is known to differ between the two measurements."""
    reasons = []
    quantised = results.subject.removeprefix(reference.model).lstrip(".-_")
    if quantised:
        reasons.append(f"weights quantised to {quantised.removesuffix('.gguf')}")
    if results.config.get("limit"):
        reasons.append(f"{results.config['limit']} items a task")
    if results.config.get("num_fewshot") is not None:
        reasons.append(f"{results.config['num_fewshot']} shots")
    if "lighteval" in reference.engine:
        reasons.append("other prompts")
    if "hellaswag" in reference.tasks:
        reasons.append("1,000 of 10,042 items where read from a folder")
    return "; ".join(reasons)
