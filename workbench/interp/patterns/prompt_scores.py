"""Each head's scores on one prompt, computed in the same run as its patterns.

One prompt is an example and not a measurement, so nothing here has an interval; use `head_scores`
to measure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.heads import text_scores
from workbench.subjects import Subject


@dataclass(frozen=True)
class PromptScores:
    """Scores on one prompt; induction and duplicates are None if no token occurs twice."""

    previous_token: Float[np.ndarray, "layer head"]
    first_token: Float[np.ndarray, "layer head"]
    entropy: Float[np.ndarray, "layer head"]
    induction: Float[np.ndarray, "layer head"] | None
    duplicate: Float[np.ndarray, "layer head"] | None

    def best(self) -> tuple[int, int]:
        """The head worth opening first: most induction, or most previous-token without repeats."""
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


def scored_attention(subject: Subject, prompt: str) -> tuple[Attention, PromptScores]:
    """The attention patterns of a prompt and every head's scores on it, in one run.

    Scores are means over the queries for which they are defined (0 if there are none); the entropy
    of a row is in bits.

    Args:
        subject: The model.
        prompt: The prompt.

    Raises:
        WorkbenchError: As `attention` does.
    """
    ids = subject.encode(prompt)
    maps = {name: np.zeros((subject.card.n_layers, subject.card.n_heads)) for name in NAMES}

    def score(layer: int, pattern: Tensor) -> None:
        scores = text_scores(pattern[None], ids)
        for name, word in NAMES.items():
            maps[name][layer] = np.nan_to_num(scores[word][0].cpu().numpy())

    patterns = attention(subject, prompt, each_layer=score)
    repeats = len(set(ids[0].tolist())) < ids.shape[1]
    return patterns, PromptScores(
        previous_token=maps["previous_token"],
        first_token=maps["first_token"],
        entropy=maps["entropy"],
        induction=maps["induction"] if repeats else None,
        duplicate=maps["duplicate"] if repeats else None,
    )
