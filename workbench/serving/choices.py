"""Several texts for one prompt: their seeds, and the choice of the best."""

import math
from collections.abc import Sequence
from dataclasses import replace

from workbench.generation import Completion, Sampling


def seeded(sampling: Sampling, index: int) -> Sampling:
    """The sampling of the `index`-th text: its seed is the request's plus `index`."""
    return replace(sampling, seed=((sampling.seed or 0) + index + 2**63) % 2**64 - 2**63)


def best(completions: Sequence[Completion], n: int) -> list[Completion]:
    """The `n` completions with the highest mean log-probability per token, the best first.

    Args:
        completions: With scores; if there are just `n`, they are returned in their order.
        n: How many to return.
    """
    if len(completions) == n:
        return list(completions)

    def mean(completion: Completion) -> float:
        values = [score.logprob for score in completion.scores]
        return sum(values) / len(values) if values else -math.inf

    return sorted(completions, key=mean, reverse=True)[:n]
