"""Each head's scores on one prompt, computed in the same run as its patterns.

One prompt is an example and not a measurement, so nothing here has an interval; use `head_scores`
to measure.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from torch import Tensor

from workbench.figures.explorer.payload import striking
from workbench.interp.patterns.attention import Attention, attention
from workbench.interp.patterns.heads import text_scores
from workbench.interp.patterns.part_scores import PART_SCORES, part_scores
from workbench.interp.stacks.runs import stacks_of
from workbench.interp.stacks.texts import texts_of
from workbench.subjects import Subject
from workbench.subjects.kinds import DECODER


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

    def described(self) -> dict[str, Float[np.ndarray, "layer head"]]:
        """The scores that the prompt has, under words that describe them."""
        described = {
            "to the token before": self.previous_token,
            "to the first token": self.first_token,
            "to what followed an earlier copy": self.induction,
            "entropy in bits": self.entropy,
        }
        return {words: values for words, values in described.items() if values is not None}


@dataclass(frozen=True)
class PartPromptScores:
    """Scores on one prompt of one attention of an encoder or encoder-decoder, by their name."""

    scores: dict[str, Float[np.ndarray, "layer head"]]
    chosen: tuple[int, int]

    @property
    def entropy(self) -> Float[np.ndarray, "layer head"]:
        """The mean entropy of the rows, in bits."""
        return self.scores["attention_entropy"]

    def best(self) -> tuple[int, int]:
        """The head worth opening first, the one that looks most at single tokens."""
        return self.chosen

    def described(self) -> dict[str, Float[np.ndarray, "layer head"]]:
        """The scores under words that describe them."""
        return {
            DESCRIBED[name]: values for name, values in self.scores.items() if name in DESCRIBED
        }


DESCRIBED = {
    "previous_token_score": "to the token before",
    "next_token_score": "to the token after",
    "next_written_score": "to what is written next",
    "first_token_attention": "to the first token",
    "last_token_attention": "to the last token",
    "attention_entropy": "entropy in bits",
}
"""What the explorer says about a head, by the name of the score."""
NAMES = {
    "previous_token": "previous_token_score",
    "first_token": "first_token_attention",
    "entropy": "attention_entropy",
    "induction": "induction_score",
    "duplicate": "duplicate_token_score",
}


def scored_attention(
    subject: Subject, prompt: str, part: str = "", target: str | None = None
) -> tuple[Attention, PromptScores | PartPromptScores]:
    """The attention patterns of a prompt and every head's scores on it, in one run.

    Scores are means over the queries for which they are defined (0 if there are none); the entropy
    of a row is in bits.

    Args:
        subject: The model.
        prompt: The prompt.
        part: As in `attention`.
        target: As in `attention`.

    Raises:
        WorkbenchError: As `attention` does.
    """
    if subject.kind != DECODER:
        return _scored_part(subject, prompt, part, target)
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


def _scored_part(
    subject: Subject, prompt: str, part: str, target: str | None
) -> tuple[Attention, PartPromptScores]:
    """The same for one attention of an encoder or encoder-decoder."""
    stacks = stacks_of(subject)
    part = stacks.need_part(part)
    texts = texts_of(subject, prompt, target)
    shape = (stacks.n_layers(part), stacks.n_heads)
    maps = {name: np.zeros(shape) for name in PART_SCORES[part]}

    def score(layer: int, pattern: Tensor) -> None:
        scores = part_scores(pattern[None], part, texts.queries(part), texts.keys(part))
        for name, values in scores.items():
            maps[name][layer] = np.nan_to_num(values[0].cpu().numpy())

    patterns = attention(subject, prompt, part=part, target=target, each_layer=score)
    square = patterns.joined()
    chosen = striking(square.pattern, causal=not patterns.is_square)
    return patterns, PartPromptScores(maps, chosen)
