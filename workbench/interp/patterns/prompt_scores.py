"""What each head does on one prompt: the head statistics of `heads`, read as that prompt's patterns
pass by.

One prompt is an example and not a measurement, so nothing here has an interval; `head_scores`
measures.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.heads import text_scores
from workbench.subjects import Subject


@dataclass(frozen=True)
class PromptScores:
    """Scores `[layer, head]` on one prompt; induction and duplicates are None where no token occurs
    twice.
    """

    previous_token: Float[np.ndarray, "layer head"]
    first_token: Float[np.ndarray, "layer head"]
    entropy: Float[np.ndarray, "layer head"]
    induction: Float[np.ndarray, "layer head"] | None
    duplicate: Float[np.ndarray, "layer head"] | None

    def best(self) -> tuple[int, int]:
        """The head worth opening first: most induction, or most previous-token where nothing is
        repeated.
        """
        score = self.previous_token if self.induction is None else self.induction
        layer, head = np.unravel_index(score.argmax(), score.shape)
        return int(layer), int(head)


NAMES = {
    "previous_token": "previous_token_score",
    "first_token": "first_token_attention",
    "entropy": "attention_entropy",
    "induction": "induction_score",
    "duplicate": "duplicate_token_score",
}


def scored_attention(
    subject: Subject, prompt: str, *, also: Callable[[int, Tensor], None] | None = None
) -> tuple[Attention, PromptScores]:
    """`attention` and the scores of every head on the prompt, in one run.

    Mean attention to the token before, to the first token, to an earlier copy and to what followed
    it, over the queries for which the statistic is defined (0 without any); the entropy of a row is
    in bits. `also` and errors as there.
    """
    ids = subject.encode(prompt)
    found = {name: np.zeros((subject.card.n_layers, subject.card.n_heads)) for name in NAMES}

    def score(layer: int, pattern: Tensor) -> None:
        scores = text_scores(pattern[None], ids)
        for name, word in NAMES.items():
            found[name][layer] = np.nan_to_num(scores[word][0].cpu().numpy())
        if also is not None:
            also(layer, pattern)

    seen = attention(subject, prompt, each_layer=score)
    repeats = len(set(ids[0].tolist())) < ids.shape[1]
    nothing = {} if repeats else {"induction": None, "duplicate": None}
    return seen, PromptScores(**{**found, **nothing})
