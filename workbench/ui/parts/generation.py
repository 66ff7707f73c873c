"""A model's continuation of a prompt, for pages."""

import streamlit as st
import torch
from transformers import GenerationConfig

from workbench.errors import WorkbenchError
from workbench.subjects import Subject

MOST = 100
"""New tokens at most; a page is no place for long texts."""


def continuation(subject: Subject, prompt: str, *, n: int, temperature: float, seed: int) -> str:
    """Up to `n` new tokens; temperature 0 takes the likeliest token each time, else the draw follows `seed`.

    Raises `WorkbenchError` for a prompt that fills the context.
    """
    return _continuation(subject.hash, prompt, min(n, MOST), temperature, seed, subject)


@st.cache_data(max_entries=64, show_spinner="Writing")
def _continuation(sha256: str, prompt: str, n: int, temperature: float, seed: int, _subject: Subject) -> str:
    ids = _subject.encode(prompt)
    room = _subject.n_ctx - ids.shape[1]
    if room < 1:
        raise WorkbenchError(
            f"The prompt fills the context of {_subject.name} ({_subject.n_ctx} tokens); shorten it to leave room."
        )
    end = _subject.tokenizer.eos_token_id
    how = GenerationConfig(
        max_new_tokens=min(n, room),
        do_sample=temperature > 0,
        temperature=temperature or None,
        eos_token_id=end,
        pad_token_id=0 if end is None else end,
    )
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(seed)
        mask = torch.ones_like(ids)
        written = _subject.model.generate(ids, attention_mask=mask, generation_config=how)  # pyright: ignore
    return _subject.text(written[0, ids.shape[1] :], skip_special=True)
