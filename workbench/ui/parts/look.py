"""A prompt's attention, read once for all sessions, the Attention page, Home and the warm-up."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention
    from workbench.interp.patterns.prompt_scores import PartPromptScores, PromptScores
    from workbench.subjects import Subject

PROMPT = (
    "When Mary and John went to the store, John gave a drink to Mary. "
    "When Mary and John went to the store, John gave a drink to"
)
"""The default prompt: all of it is said twice, so heads that look for repetition find some."""
CANDIDATES = 20
"""Most likely tokens among which those are found that can be typed."""


class Look(NamedTuple):
    """A prompt's attention, and the heads' scores on it."""

    attention: "Attention"
    scores: "PromptScores | PartPromptScores"


def look(subject: "Subject", prompt: str, part: str = "", target: str | None = None) -> Look:
    """The attention of every head; a Subject reads one prompt at a time.

    Args:
        subject: The model.
        prompt: The prompt.
        part: Which attention of an encoder-decoder.
        target: What its decoder has written so far; None for its own answer.
    """
    return _look(subject.hash, prompt, part, target, subject)


@kept("attention of prompts", 4, "Reading the attention of every head")
def _look(sha256: str, prompt: str, part: str, target: str | None, _subject: "Subject") -> Look:
    from workbench.interp.patterns.prompt_scores import scored_attention

    with alone(sha256):
        return Look(*scored_attention(_subject, prompt, part, target))


@st.cache_data(max_entries=64, show_spinner=False)
def likeliest(sha256: str, prompt: str, _subject: "Subject") -> tuple[str, str]:
    """The two most likely next tokens that can be typed as an answer; "" where there are fewer.

    Args:
        sha256: The model's hash, the key of the cache.
        prompt: The text.
    """
    import torch  # Home must not wait for it

    from workbench.errors import WorkbenchError

    with alone(sha256), torch.inference_mode():
        logits = _subject.model(_subject.encode(prompt)).logits[0, -1]
    texts = []
    for token in logits.topk(min(CANDIDATES, len(logits))).indices:
        text = _subject.text(token)
        try:
            if _subject.answer_id(text, prompt=prompt) == int(token):
                texts.append(text)
        except WorkbenchError:  # part of a character, or a text that is spelt otherwise here
            continue
    texts += ["", ""]
    return texts[0], texts[1]
