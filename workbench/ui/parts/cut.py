"""Cutting a long prompt to what a page can show, with a notice."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.subjects.spelling import offsets, read

if TYPE_CHECKING:
    from workbench.subjects import Subject

CHARACTERS = 40
"""Characters per token, an upper bound on the average; text beyond it is not even tokenized."""


def cut(subject: "Subject", prompt: str, most: int) -> str:
    """The prompt, or its beginning with a notice on the page, if it is too long.

    Args:
        subject: The model; its tokenizer counts the tokens.
        prompt: The text.
        most: Tokens at most; never more than the model's context.
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
        f"The prompt has more than {most:,} tokens; the first {len(start):,} of {len(prompt):,} "
        "characters are used.",
        icon=":material/content_cut:",
    )
    return start


def _fits(subject: "Subject", text: str, most: int) -> bool:
    """Whether a text is short enough: a word that was cut may be split into more tokens."""
    return len(read(subject.tokenizer, text)) <= most
