"""What a result says of how its prompt was read, above the result."""

from collections.abc import Iterable

import streamlit as st


def notices(warnings: Iterable[str]) -> None:
    """A warning a sentence."""
    for sentence in warnings:
        st.warning(sentence)
