"""What a computation costs before it starts, from the measured speed of the model here."""

import time
from typing import TYPE_CHECKING

import streamlit as st

from workbench.ui.parts.models import alone
from workbench.ui.parts.words import roughly

if TYPE_CHECKING:
    from workbench.subjects import Subject

QUICK = 20_000_000
"""Parameters below which a model is small: what takes minutes on others takes seconds on it."""
ROWS = 8
"""Texts in the measured batch."""
TOKENS = 16
"""Tokens of each of its texts."""
PROMPT = 20
"""Tokens of a probe's prompt, about."""


def is_small(subject: "Subject") -> bool:
    """Whether the model has so few parameters that a page may compute without asking."""
    return subject.card.n_params < QUICK


def time_of(subject: "Subject", passes: int, tokens: int = PROMPT) -> str:
    """The most that so many patched runs take here, such as "at most about 3 min".

    A packed run starts at its layer, so on the mean it computes half of the layers. It also shares
    the positions before the patched one, and then takes less.

    Args:
        subject: The model.
        passes: Patched runs of one text each, spread evenly over the layers.
        tokens: Tokens of a text.
    """
    seconds = passes / 2 * tokens * seconds_a_token(subject.hash, subject)
    return f"at most about {roughly(seconds)}"


@st.cache_data(show_spinner=False, max_entries=64)
def seconds_a_token(sha256: str, _subject: "Subject") -> float:
    """Seconds of a forward pass per token: the faster of two measured batches."""
    import torch

    ids = torch.arange(ROWS * TOKENS).reshape(ROWS, TOKENS) % _subject.card.d_vocab
    times = []
    with alone(sha256), torch.no_grad():
        for _ in range(2):
            began = time.perf_counter()
            _subject.model(ids.to(_subject.model.device))
            times.append(time.perf_counter() - began)
    return min(times) / ids.numel()
