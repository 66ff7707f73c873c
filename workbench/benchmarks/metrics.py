"""Metrics of our own tasks, as lm-eval calls them: (document, results) -> {metric: number}."""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.data import entities as named


def logit_difference(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Log-probability of the right choice minus that of the best wrong one, in nats.

    If both are one token, this is the difference of their logits, as the normaliser cancels.
    """
    values = [value for value, _ in results]
    wrong = max(value for i, value in enumerate(values) if i != doc["gold"])
    difference = values[doc["gold"]] - wrong
    return {"logit_difference": difference, "acc": float(difference > 0)}


def reading(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """Exact match and token F1 as in SQuAD, each the best over the accepted answers.

    Reference:
        Rajpurkar et al. 2016, "SQuAD".
    """
    prediction = results[0]
    return {
        "exact_match": max(_exact(prediction, answer) for answer in doc["answers"]),
        "f1": max(_f1(prediction, answer) for answer in doc["answers"]),
    }


def entities(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Counts of entities found, wrong and missed, which `entity_f1` sums; and if all are right.

    Judged as in fine-tuning; an entity that is listed but does not occur in the text is wrong.
    """
    verdict = named.judged(doc["words"], doc["tags"], results[0].strip())
    all_right = not verdict.wrong and not verdict.missed
    return {"entity_f1": list(verdict.counts), "all_right": float(all_right)}


def entity_f1(items: Sequence[Sequence[int]]) -> float:
    """Micro F1 over the (found, wrong, missed) counts of all samples."""
    return float(named.entity_f1(np.sum(items, axis=0)))


def reply(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """Bits per byte of a reference reply: (log-likelihood in nats, bytes), which lm-eval sums."""
    return {"bits_per_byte": (results[0][0], len(doc["reply"].encode()))}


def _words(text: str) -> list[str]:
    """Words in lower case, without punctuation and articles."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _exact(prediction: str, answer: str) -> float:
    return float(_words(prediction) == _words(answer))


def _f1(prediction: str, answer: str) -> float:
    predicted = _words(prediction)
    expected = _words(answer)
    if not predicted or not expected:
        return float(predicted == expected)
    shared = sum((Counter(predicted) & Counter(expected)).values())
    return 2 * shared / (len(predicted) + len(expected))
