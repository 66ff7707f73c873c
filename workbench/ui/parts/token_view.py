"""A running text whose tokens are coloured by a number and can be clicked.

Streamlit has no text that answers the mouse. Tokens reach the browser as data and are put on the
page as text, never as HTML.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

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
    """One token of a running text.

    - `text`: the token
    - `colour`: its background, as CSS; "" for none
    - `title`: what is shown while the mouse is over it
    """

    text: str
    colour: str
    title: str


def coloured_view(
    tokens: Sequence[Coloured],
    *,
    key: str,
    on_pick: Callable[[int], None],
    chosen: int | None = None,
) -> None:
    """Show a running text whose tokens can be clicked.

    Args:
        tokens: The tokens in reading order.
        key: The element's name on the page.
        on_pick: Called with the place of a token that is clicked.
        chosen: The place of the token with a frame; None for no frame.
    """
    data = {
        "tokens": [token.text for token in tokens],
        "shown": [_running(token.text) for token in tokens],
        "colours": [token.colour or None for token in tokens],
        "titles": [token.title for token in tokens],
        "chosen": chosen,
    }

    def picked() -> None:
        place = st.session_state[key].picked
        if place is not None:
            on_pick(int(place))

    _component(data=data, key=key, on_picked_change=picked)


def _running(token: str) -> str:
    """A token as it stands in a text to read: line ends and unprintable characters are visible."""
    return "".join(_running_character(character) for character in token)


def _running_character(character: str) -> str:
    if character == "\n":
        return "⏎\n"  # the sign is seen, and the line breaks
    return character if character.isprintable() else visible(character)
