"""Links from one page to another, with what it should show.

Streamlit drops from a link what a widget of the page that is left has bound to the URL, such as the
model. So a link carries all of it under one name, and the entry lays it before the widgets of the
page that is reached.
"""

import json

import streamlit as st
from streamlit.errors import StreamlitAPIException

from workbench import paths

SHOWN = "show"
"""The one parameter that a link has; it leaves the URL when its page has opened."""

KEYS = frozenset(
    "model models base tuned run probe site clean corrupted answer wrong prompt head more measure".split()
)
"""What a link may set, by the keys of the widgets (or what a page reads from the URL itself)."""


def page_link(page: str, label: str, *, icon: str | None = None, **query: str | list[str]) -> None:
    """A link to a page of the shelf, opened in the same session.

    Args:
        page: The page's name, as in its file and its URL.
        label: What the link says.
        icon: A Material icon.
        query: What the page should show, by `KEYS`; of a toggle "true" or "false", of several
            choices a list.
    """
    assert set(query) <= KEYS, set(query) - KEYS
    shown = {SHOWN: json.dumps(query, ensure_ascii=False)} if query else None
    try:
        st.page_link(
            paths.shelf("pages") / f"{page}.py", label=label, icon=icon, query_params=shown
        )
    except StreamlitAPIException:  # a page that is run alone, as a test does, knows no other pages
        st.caption(label)


def arrive() -> None:
    """Give the widgets of a page what the link to it carries."""
    text = st.query_params.get(SHOWN)
    if text is None:
        return
    del st.query_params[SHOWN]
    for key, value in carried(text).items():
        st.query_params[key] = value
        st.session_state[key] = value == "true" if value in ("true", "false") else value


def carried(text: str) -> dict[str, str | list[str]]:
    """What a link's parameter says, by `KEYS`; what someone has spoilt in it is passed over."""
    try:
        query = json.loads(text)
    except ValueError:
        return {}
    return (
        {key: value for key, value in query.items() if _fits(key, value)}
        if isinstance(query, dict)
        else {}
    )


def _fits(key: str, value: object) -> bool:
    if key == "models":
        return isinstance(value, list) and all(isinstance(part, str) for part in value)
    return key in KEYS and isinstance(value, str)
