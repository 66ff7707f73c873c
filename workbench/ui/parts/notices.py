"""The one place where pages show sentences that may hold words from outside: nothing in them is
read as Markdown.
"""

from collections.abc import Iterable

import streamlit as st

from workbench.ui.parts.words import escaped


def fault(text: object, *, icon: str = ":material/error:") -> None:
    """An error, such as a `WorkbenchError`, in red."""
    st.error(plain(text), icon=icon)


def warn(text: object, *, icon: str | None = ":material/block:") -> None:
    """A warning, in yellow."""
    st.warning(plain(text), icon=icon)


def note(text: object, *, icon: str | None = ":material/info:") -> None:
    """What is worth knowing, in blue."""
    st.info(plain(text), icon=icon)


def notices(warnings: Iterable[str]) -> None:
    """What a result says of how its prompt was read, a warning a sentence."""
    for sentence in warnings:
        warn(sentence, icon=None)


def plain(text: object) -> str:
    """The text of a sentence or several lines as Markdown that shows it just as it is, line by
    line.
    """
    return "  \n".join(escaped(line) for line in str(text).splitlines())
