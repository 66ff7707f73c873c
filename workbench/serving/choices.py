"""Several texts for one prompt: their seeds, and which are the best."""

import math
from collections.abc import Sequence
from dataclasses import replace

from workbench.generation import Completion, Sampling


def seeded(sampling: Sampling, index: int) -> Sampling:
    """The sampling of the text with this number: the first has the request's own seed, the next the
    next.
    """
    return replace(sampling, seed=((sampling.seed or 0) + index + 2**63) % 2**64 - 2**63)


def best(completions: Sequence[Completion], n: int) -> list[Completion]:
    """The `n` with the highest mean log-probability a token, the best first; all, in order, where
    no more were made.
    """
    if len(completions) == n:
        return list(completions)

    def mean(completion: Completion) -> float:
        values = [score.logprob for score in completion.scores]
        return sum(values) / len(values) if values else -math.inf

    return sorted(completions, key=mean, reverse=True)[:n]
