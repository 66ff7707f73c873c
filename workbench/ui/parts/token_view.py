"""Text, token by token, coloured by a number that each has; a click on one is told to the page.

Streamlit has no text that answers the mouse. Tokens reach the browser as data and are put on the
page as text, never as HTML.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
from streamlit.components.v2 import component

from workbench.figures.style import visible

_HERE = Path(__file__).parent
_component = component(
    "workbench_token_view",
    html='<div class="view"></div>',
    css=(_HERE / "token_view.css").read_text(encoding="utf-8"),
    js=(_HERE / "token_view.js").read_text(encoding="utf-8"),
)


class Coloured(NamedTuple):
    """One token of a running text: its text, its background ("" for none), and what hovering over
    it says.
    """

    text: str
    colour: str
    title: str
    dark: bool = False
    """Whether the background asks for white letters."""


def coloured_view(
    tokens: Sequence[Coloured],
    *,
    key: str,
    on_pick: Callable[[int], None],
    chosen: int | None = None,
) -> None:
    """Show a running text; a click on a token calls `on_pick` with its place, and frames it."""
    data = {
        "tokens": [token.text for token in tokens],
        "shown": [_running(token.text) for token in tokens],
        "colours": [token.colour or None for token in tokens],
        "dark": [token.dark for token in tokens],
        "titles": [token.title for token in tokens],
        "chosen": chosen,
    }

    def picked() -> None:
        told: Any = st.session_state[key]
        if told.picked is not None:
            on_pick(int(told.picked))

    _component(data=data, key=key, on_picked_change=picked)


def _running(token: str) -> str:
    """A token as part of a text to be read: line ends are seen and break the line, odd characters
    are made visible.
    """
    return "".join(
        f"⏎{c}" if c == "\n" else c if c == " " else visible(c) if not c.isprintable() else c
        for c in token
    )
