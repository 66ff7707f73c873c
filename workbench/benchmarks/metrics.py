"""Metrics of our own tasks, in the form in which lm-eval calls them: (document, results) -> a number a metric."""

import re
import string
from collections import Counter
from typing import Any


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
