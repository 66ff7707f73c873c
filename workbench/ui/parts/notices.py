"""Messages on pages that may contain text from outside: nothing in them is read as Markdown."""

from collections.abc import Iterable

import streamlit as st

from workbench.ui.parts.titles import titled
from workbench.ui.parts.words import escaped


def fault(text: object, *, icon: str = ":material/error:") -> None:
    """Show an error, such as a `WorkbenchError`, in red."""
    st.error(plain(text), icon=icon)


def warn(text: object, *, icon: str | None = ":material/block:") -> None:
    """Show a warning in yellow."""
    st.warning(plain(text), icon=icon)


def note(text: object, *, icon: str | None = ":material/info:") -> None:
    """Show information in blue."""
    st.info(plain(text), icon=icon)


def notices(warnings: Iterable[str]) -> None:
    """Show a result's warnings about its prompt, one box for each."""
    for sentence in warnings:
        warn(sentence, icon=None)


def plain(text: object) -> str:
    """The text as Markdown that shows it unchanged, line by line, but for titles of runs."""
    return "  \n".join(escaped(line) for line in titled(str(text)).splitlines())
