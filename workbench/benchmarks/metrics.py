"""Metrics of our own tasks, in the form in which lm-eval calls them: (document, results) -> a
number a metric.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.data import entities as named


def logit_difference(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, float]:
    """Log-probability of the right choice above the best wrong one, in nats.

    Where both are one token it is the difference of their logits, as the normaliser is the same.
    """
    values = [value for value, _ in results]
    wrong = max(value for i, value in enumerate(values) if i != doc["gold"])
    difference = values[doc["gold"]] - wrong
    return {"logit_difference": difference, "acc": float(difference > 0)}


def reading(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """SQuAD's exact match and token F1 (Rajpurkar et al. 2016): the best over the accepted answers."""
    said = results[0]
    pairs = [(_exact(said, answer), _f1(said, answer)) for answer in doc["answers"]]
    return {"exact_match": max(exact for exact, _ in pairs), "f1": max(f1 for _, f1 in pairs)}


def entities(doc: dict[str, Any], results: list[str]) -> dict[str, Any]:
    """Entities found, wrongly named and missed, which `entity_f1` sums; and whether all are right.

    As in fine-tuning; what a model lists but does not stand in the text is wrongly named.
    """
    seen = named.judged(doc["words"], doc["tags"], results[0].strip())
    return {"entity_f1": list(seen.counts), "all_right": float(not seen.wrong and not seen.missed)}


def entity_f1(items: Sequence[Sequence[int]]) -> float:
    """Micro F1 over the counts of all samples."""
    return float(named.entity_f1(np.sum(items, axis=0)))


def reply(doc: dict[str, Any], results: list[tuple[float, bool]]) -> dict[str, tuple[float, int]]:
    """What a given reply costs the model, in bits a byte of it."""
    return {"bits_per_byte": (results[0][0], len(doc["reply"].encode()))}


def _words(text: str) -> list[str]:
    """Words without case, punctuation and articles."""
    bare = "".join(character for character in text.lower() if character not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _exact(said: str, answer: str) -> float:
    return float(_words(said) == _words(answer))


def _f1(said: str, answer: str) -> float:
    one, other = _words(said), _words(answer)
    if not one or not other:
        return float(one == other)
    shared = sum((Counter(one) & Counter(other)).values())
    return 2 * shared / (len(one) + len(other))
