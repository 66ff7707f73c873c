"""What each head does on one prompt: the head statistics of `heads`, read off that prompt's pattern.

One prompt is an example and not a measurement, so nothing here has an interval; `head_scores` measures.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from workbench.interp.attention import Attention


@dataclass(frozen=True)
class PromptScores:
    """Scores `[layer, head]` on one prompt; induction and duplicates are None where no token occurs twice."""

    previous_token: Float[np.ndarray, "layer head"]
    first_token: Float[np.ndarray, "layer head"]
    entropy: Float[np.ndarray, "layer head"]
    induction: Float[np.ndarray, "layer head"] | None
    duplicate: Float[np.ndarray, "layer head"] | None

    def best(self) -> tuple[int, int]:
        """The head worth opening first: most induction, or most previous-token where nothing is repeated."""
        score = self.previous_token if self.induction is None else self.induction
        layer, head = np.unravel_index(score.argmax(), score.shape)
        return int(layer), int(head)


def prompt_scores(found: Attention) -> PromptScores:
    """Mean attention to the token before, to the first token, to an earlier copy and to what followed it.

    The mean is over the queries for which the statistic is defined; the entropy of a row is in bits.
    """
    pattern = found.pattern
    n_layers, n_heads, n_pos, _ = pattern.shape
    later = np.arange(1, n_pos)
    nothing = np.zeros((n_layers, n_heads))
    entropy = np.zeros((n_layers, n_heads))
    for layer, heads in enumerate(pattern):  # one layer at a time, for long prompts
        logs = np.log2(np.maximum(heads, 1e-30, dtype=np.float32))
        entropy[layer] = -(heads * logs).sum(-1, dtype=np.float32).mean(-1)
    copies = [(q, k) for q in range(n_pos) for k in range(q) if found.tokens[q] == found.tokens[k]]
    queries, keys = (np.array(side, int) for side in zip(*copies, strict=True)) if copies else ([], [])
    n_queries = len(set(queries))
    return PromptScores(
        previous_token=pattern[..., later, later - 1].mean(-1, dtype=np.float32) if n_pos > 1 else nothing,
        first_token=pattern[..., 1:, 0].mean(-1, dtype=np.float32) if n_pos > 1 else nothing,
        entropy=entropy,
        induction=_sum(pattern, queries, np.asarray(keys, int) + 1, n_queries),
        duplicate=_sum(pattern, queries, keys, n_queries),
    )


def _sum(pattern, queries, keys, n_queries: int) -> Float[np.ndarray, "layer head"] | None:
    if not n_queries:
        return None
    return pattern[..., queries, keys].sum(-1, dtype=np.float32) / n_queries
