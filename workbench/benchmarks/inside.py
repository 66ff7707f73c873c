"""A model's inside as benchmark tasks: how strong its strongest head of a kind is, with an
interval.
"""

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
"""Each task and the head score that it takes, as `workbench.head_scores` defines it."""
LENGTH = 50
MOST = 24
"""Sequences, however large the limit: their patterns hardly differ."""
VERSION = 1


def heads_task(
    subject: "Subject", name: str, *, limit: int | None, seed: int, report: Callable[[float], None]
) -> tuple[list[TaskScore], list[dict[str, Any]], str]:
    """The row, the samples and the data hash of one task.

    The head is chosen on one half of the random sequences and measured on the other, so that the
    greatest of many scores is not mistaken for a large one.

    Raises:
        WorkbenchError: the model shows no attention patterns.
    """
    from workbench.interp.patterns.attention import each_pattern
    from workbench.interp.patterns.heads import pattern_scores, repeated_tokens

    score = INSIDE[name]
    half = max(2, min(limit or MOST, MOST))
    length = min(LENGTH, (subject.n_ctx - 1) // 2)
    ids = repeated_tokens(subject, 2 * half, length, seed)
    found: list[np.ndarray] = []

    def look(_layer: int, pattern: Any) -> None:
        found.append(pattern_scores(pattern, length)[score].cpu().numpy())

    report(0.0)
    each_pattern(subject, ids, look)
    samples = np.stack(found, axis=1)  # [sequence, layer, head]
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
