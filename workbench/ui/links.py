"""Links from one page to another, with what it should show in the URL."""

import streamlit as st
from streamlit.errors import StreamlitAPIException

from workbench import paths


def page_link(page: str, label: str, *, icon: str | None = None, **query: str | list[str]) -> None:
    """A link to a page of the shelf, opened in the same session.

    Args:
        page: The page's name, as in its file and its URL.
        label: What the link says.
        icon: A Material icon.
        query: What goes into the URL, such as `model` and `prompt`.
    """
    try:
        st.page_link(paths.shelf("pages") / f"{page}.py", label=label, icon=icon, query_params=query)
    except StreamlitAPIException:  # a page that is run alone, as a test does, knows no other pages
        st.caption(label)
