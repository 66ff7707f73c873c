"""A long prompt cut to what a page can show, with a notice."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.subjects.spelling import offsets, read

if TYPE_CHECKING:
    from workbench.subjects import Subject

CHARACTERS = 40
"""No tokenizer's tokens are longer on average; what lies beyond is not even tokenised."""


def cut(subject: "Subject", prompt: str, most: int) -> str:
    """The prompt, or as much of its beginning as `most` tokens and the context hold; the page then
    says so.
    """
    most = min(most, subject.n_ctx)
    start = prompt[: most * CHARACTERS]
    ends = [stop for _, stop in offsets(subject.tokenizer, start)]
    n_tokens = len(ends)
    if n_tokens <= most and len(start) == len(prompt):
        return prompt
    if n_tokens > most:
        start = next(
            start[: ends[i]]
            for i in range(most - 1, -1, -1)
            if i == 0 or _fits(subject, start[: ends[i]], most)
        )
    st.info(
        f"The prompt has more than {most:,} tokens; its first {len(start):,} of {len(prompt):,} characters are shown.",
        icon=":material/content_cut:",
    )
    return start


def _fits(subject: "Subject", text: str, most: int) -> bool:
    """Whether a text is short enough by itself: a cut word may split anew."""
    return len(read(subject.tokenizer, text)) <= most
