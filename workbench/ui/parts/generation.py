"""A model's continuation of a prompt, for pages."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.generation import Request, Sampling, end_tokens, write
from workbench.subjects import Subject

MOST = 100
"""New tokens at most."""


def continuation(subject: Subject, prompt: str, *, n: int, temperature: float, seed: int) -> str:
    """The model's continuation of a prompt, without the prompt; cached.

    Args:
        subject: The model.
        prompt: The text to continue.
        n: New tokens at most; never more than `MOST`.
        temperature: 0 takes the most likely token each time.
        seed: Of sampling, for temperatures above 0.

    Raises:
        WorkbenchError: The prompt fills the context.
    """
    return _continuation(subject.hash, prompt, min(n, MOST), temperature, seed, subject)


@st.cache_data(max_entries=64, show_spinner="Writing")
def _continuation(
    sha256: str, prompt: str, n: int, temperature: float, seed: int, _subject: Subject
) -> str:
    ids = _subject.encode(prompt)[0].tolist()
    room = _subject.n_ctx - len(ids)
    if room < 1:
        raise WorkbenchError(
            f"The prompt fills the context of {_subject.name} ({_subject.n_ctx} tokens); shorten "
            "it."
        )
    sampling = Sampling(temperature=temperature, seed=seed)
    request = Request(ids, min(n, room), sampling, ends=end_tokens(_subject))
    return write(_subject, [request])[0].text
