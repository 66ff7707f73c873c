"""Turns lm-eval's logged samples of a task into rows (metrics with intervals) and records."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from workbench.benchmarks.results.record import TaskScore, interval
from workbench.benchmarks.tasks import own_requests
from workbench.data.entities import entity_f1
from workbench.statistics import Estimate, estimate_aggregate, estimate_mean

Logged = dict[str, Any]
COUNTS = entity_f1.__name__
"""Name of the metric, and of its aggregation, whose items are counts (found, wrong, missed)."""
SHARES = ("acc", "acc_norm", "acc_mutual_info", "exact_match", "em", "f1", COUNTS)
"""Metrics that are always between 0 and 1."""


def rows_and_records(
    name: str, task: Any, logged: list[Logged]
) -> tuple[list[TaskScore], list[dict[str, Any]]]:
    """A row for every metric (and filter, where a task has several) and a record of every sample.

    Args:
        name: Name of the task in the results.
        task: The lm-eval task.
        logged: lm-eval's samples of it, one for each document and filter.

    Samples whose log-likelihood is NaN (nothing to score, or longer than the context) count as
    unscored.
    """
    filters = list(dict.fromkeys(sample["filter"] for sample in logged))
    metrics = [(metric, key) for key in filters for metric in _metrics(task, logged, key)]
    headline = next((m for m in metrics if m[0] == COUNTS), None)
    headline = headline or next((m for m in metrics if _binary(logged, *m)), None)
    headline = headline or next((m for m in metrics if m[0] == "bits_per_byte"), metrics[0])
    rows = []
    for metric, key in metrics:
        items, lost, clusters = _items(logged, metric, key)
        label = metric if len(filters) == 1 else f"{metric} ({key})"
        estimate = _estimate(items, task.aggregation().get(metric), clusters)
        if metric in SHARES:
            estimate = _within_0_and_1(estimate)
        rows.append(
            TaskScore(
                task=name,
                metric=label,
                **interval(estimate),
                n_unscored=lost + estimate.left_out,
                higher_is_better=task.higher_is_better().get(metric) is not False,
                headline=(metric, key) == headline,
                chance=_chance(task, logged) if metric.startswith("acc") else None,
                n_clusters=len(set(clusters)) if clusters else None,
            )
        )
    first = [sample for sample in logged if sample["filter"] == headline[1]]
    return rows, [_record(name, task, sample, headline[0]) for sample in first]


def _metrics(task: Any, logged: list[Logged], key: str) -> list[str]:
    present = {
        metric for sample in logged if sample["filter"] == key for metric in sample["metrics"]
    }
    ordered = [metric for metric in task.aggregation() if metric in present]
    return ordered + sorted(present - set(ordered))


def _items(logged: list[Logged], metric: str, key: str) -> tuple[list[Any], int, list[str] | None]:
    """The metric's items, the number of unscored samples, and the items' clusters if all have one.

    Args:
        logged: lm-eval's samples.
        metric: Name of the metric.
        key: Name of the filter.
    """
    with_metric = [s for s in logged if s["filter"] == key and metric in s]
    scored = [sample for sample in with_metric if not _unscored(sample)]
    clusters = [_of_doc(sample, "cluster") for sample in scored]
    known = [str(cluster) for cluster in clusters if cluster is not None]
    return (
        [sample[metric] for sample in scored],
        len(with_metric) - len(scored),
        known if len(known) == len(scored) else None,
    )


def _of_doc(sample: Logged, name: str) -> Any:
    return sample["doc"].get(name) if isinstance(sample["doc"], dict) else None


def _unscored(sample: Logged) -> bool:
    return any(math.isnan(value) for value in _loglikelihoods(sample))


def _loglikelihoods(sample: Logged) -> list[float]:
    responses = [r[0] if isinstance(r, (list, tuple)) else r for r in sample["filtered_resps"]]
    return [float(value) for value in responses if isinstance(value, float)]


def _binary(logged: list[Logged], metric: str, key: str) -> bool:
    items, *_ = _items(logged, metric, key)
    scored = [item for item in items if item == item]  # NaN was not scored
    return bool(scored) and all(isinstance(i, (int, float)) and i in (0, 1) for i in scored)


def _estimate(
    items: list[Any],
    aggregate: Callable[[list[Any]], float] | None,
    clusters: list[str] | None = None,
) -> Estimate:
    if not items:
        return estimate_mean([])
    if aggregate is None or getattr(aggregate, "__name__", "") == "mean":
        return estimate_mean([float(item) for item in items], clusters)
    return estimate_aggregate(items, aggregate, clusters)


def _within_0_and_1(estimate: Estimate) -> Estimate:
    """The estimate with its interval cut to [0, 1], where the true value must be."""
    if math.isnan(estimate.low) or (estimate.low >= 0 and estimate.high <= 1):
        return estimate
    return replace(
        estimate,
        low=max(estimate.low, 0.0),
        high=min(estimate.high, 1.0),
        method=f"{estimate.method}, cut to 0 and 1",
    )


def _chance(task: Any, logged: list[Logged]) -> float | None:
    counts = [len(own_requests(task, sample["arguments"])) for sample in logged]
    return sum(1 / count for count in counts) / len(counts) if min(counts) > 1 else None


def _score(item: Any, aggregate: str) -> tuple[float, float, str]:
    """A sample's (score, weight, name), whose weighted mean is the metric or its logarithm.

    The exception is entity F1, which is computed from summed counts: the score is the sample's F1.
    """
    if aggregate == "bits_per_byte":
        return -item[0] / item[1] / math.log(2), float(item[1]), "bits_per_byte"
    if aggregate == "weighted_perplexity":
        return -item[0] / item[1], float(item[1]), "log perplexity"
    if aggregate == "perplexity":
        return -item, 1.0, "log perplexity"
    if aggregate == COUNTS:
        return float(entity_f1(np.array(item))) if sum(item) else 1.0, 1.0, ""
    if isinstance(item, (int, float)):
        return float(item), 1.0, ""
    return math.nan, 1.0, ""  # corpus-level metrics have no score for a single sample


def _record(name: str, task: Any, sample: Logged, metric: str) -> dict[str, Any]:
    aggregate = getattr(task.aggregation().get(metric), "__name__", "")
    score, weight, label = _score(sample[metric], aggregate)
    unscored = _unscored(sample)
    record = {
        "task": name,
        "doc_id": sample["doc_id"],
        "metric": label or metric,
        "score": math.nan if unscored else score,
        "correct": score if not unscored and score in (0, 1) and not label else math.nan,
        "weight": weight,
        "scores": json.dumps({m: sample[m] for m in sample["metrics"] if m in sample}, default=str),
        "group": _of_doc(sample, "group"),
        "cluster": _of_doc(sample, "cluster"),
        "loglikelihoods": json.dumps(
            [None if math.isnan(v) else v for v in own_requests(task, _loglikelihoods(sample))]
        ),
    }
    return record | (_choice(task, sample) if len(sample["arguments"]) > 1 else _single(sample))


def _choice(task: Any, sample: Logged) -> dict[str, Any]:
    pairs = own_requests(task, sample["arguments"])  # (context, continuation)
    contexts = [context for context, *_ in pairs]
    shared = len(set(contexts)) == 1
    choices = [pair[1] if shared else pair[0] + pair[1] for pair in pairs]
    target = task.doc_to_text(sample["doc"]) if task.multiple_input else sample["target"]
    if isinstance(target, str):
        texts = [choice.strip() for choice in choices]
        target = texts.index(target.strip()) if target.strip() in texts else None
    values = [
        v if not math.isnan(v) else -math.inf for v in own_requests(task, _loglikelihoods(sample))
    ]
    prediction = max(range(len(values)), key=values.__getitem__)
    right = target if isinstance(target, int) else None
    in_range = right is not None and 0 <= right < len(choices)
    return {
        "input": contexts[0] if shared else "",
        "choices": json.dumps(choices, ensure_ascii=False),
        "target": right,
        "prediction": prediction,
        "target_text": choices[right] if right is not None and in_range else str(target),
        "prediction_text": choices[prediction],
    }


def _single(sample: Logged) -> dict[str, Any]:
    arguments = sample["arguments"][0]
    output = sample["filtered_resps"][0]
    return {
        "input": arguments[0],
        "choices": "[]",
        "target": None,
        "prediction": None,
        "target_text": str(sample["target"]) if len(arguments) > 1 else "",
        "prediction_text": output if isinstance(output, str) else "",
    }
