"""Benchmark tasks on a model's attention heads: the score of its strongest head of a kind."""

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.benchmarks.results.record import TaskScore, interval
from workbench.statistics import estimate_mean

if TYPE_CHECKING:
    from workbench.subjects import Subject

INSIDE = {
    "induction_head": "induction_score",
    "previous_token_head": "previous_token_score",
    "duplicate_token_head": "duplicate_token_score",
}
"""The head score of each task, as `workbench.head_scores` defines it."""
LENGTH = 50
"""Random tokens a sequence, each of which comes twice."""
MOST = 24
"""Sequences for each half at most, whatever the limit: their patterns hardly differ."""
VERSION = 1


def heads_task(
    subject: "Subject", name: str, *, limit: int | None, seed: int, report: Callable[[float], None]
) -> tuple[list[TaskScore], list[dict[str, Any]], str]:
    """(rows, samples, data hash) of one task: the score of the model's strongest head.

    The head is chosen on one half of the random sequences and measured on the other, so that
    choosing the highest of many scores does not bias the result.

    Args:
        subject: The model.
        name: A key of `INSIDE`.
        limit: Sequences that are measured, 2 to `MOST`; None for `MOST`.
        seed: Of the random tokens.
        report: Called with the share done.

    Raises:
        WorkbenchError: the model shows no attention patterns.
    """
    from workbench.interp.patterns.heads import pattern_scores, repeated_tokens
    from workbench.interp.patterns.passing import each_pattern

    score = INSIDE[name]
    half = max(2, min(limit or MOST, MOST))
    length = min(LENGTH, (subject.n_ctx - 1) // 2)
    ids = repeated_tokens(subject, 2 * half, length, seed)
    by_layer: list[np.ndarray] = []  # each [sequence, head]

    def measure(_layer: int, pattern: Any) -> None:
        by_layer.append(pattern_scores(pattern, length)[score].cpu().numpy())

    report(0.0)
    each_pattern(subject, ids, measure)
    samples = np.stack(by_layer, axis=1)  # [sequence, layer, head]
    layer, head = np.unravel_index(samples[:half].mean(0).argmax(), samples.shape[1:])
    values = samples[half:, layer, head]
    note = f"L{layer}H{head}, chosen on {half} other sequences"
    row = TaskScore(name, score, **interval(estimate_mean(values)), note=note, headline=True)
    records = [
        {
            "task": name,
            "doc_id": number,
            "metric": score,
            "input": subject.text(ids[half + number]),
            "choices": "[]",
            "target_text": "",
            "prediction_text": f"L{layer}H{head}",
            "loglikelihoods": "[]",
            "score": float(value),
            "weight": 1.0,
            "scores": "{}",
        }
        for number, value in enumerate(values)
    ]
    report(1.0)
    digest = hashlib.sha256(f"{VERSION} {score} {length} {half} {seed}".encode()).hexdigest()
    return [row], records, digest
