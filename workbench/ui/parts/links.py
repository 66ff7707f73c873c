"""Links from one page to another that also set what the page shows.

Streamlit drops URL parameters from a link if a widget of the current page is bound to them, such as
the model. So a link carries everything in one parameter, and the app's entry passes it on to the
widgets of the page that opens.
"""

import json

import streamlit as st
from streamlit.errors import StreamlitAPIException
from streamlit.runtime.scriptrunner import get_script_run_ctx

from workbench import paths
from workbench.ui.parts.history import arrived
from workbench.ui.parts.titles import bare

SHOWN = "show"
"""The only parameter of a link; it is removed from the URL when the page opens."""

KEYS = frozenset(
    (
        *("model", "models", "base", "tuned", "run", "probe", "site", "prompt", "head"),
        *("clean", "corrupted", "answer", "wrong", "more", "measure"),
        *("privacy_view", "suite"),
    )
)
"""What a link may set: keys of widgets, or parameters that a page reads from the URL itself."""


def page_link(page: str, label: str, *, icon: str | None = None, **query: str | list[str]) -> None:
    """A link to a page of the shelf, opened in the same session.

    Args:
        page: The page's name, as in its file and its URL.
        label: Text of the link.
        icon: A Material icon.
        query: What the page should show, by `KEYS`: "true" or "false" for a toggle, a list for
            several choices.
    """
    assert set(query) <= KEYS, set(query) - KEYS
    shown = {SHOWN: json.dumps(query, ensure_ascii=False)} if query else None
    try:
        st.page_link(
            paths.shelf("pages") / f"{page}.py", label=label, icon=icon, query_params=shown
        )
    except StreamlitAPIException:  # a page run on its own, as in tests, knows no other pages
        st.caption(label)


def arrive() -> None:
    """Pass what a link, or Back, carries to the widgets of the page it opens."""
    text = st.query_params.get(SHOWN)
    if text is None:
        return
    del st.query_params[SHOWN]
    _forget_widgets()
    for key, value in carried(text).items():
        arrived(key)
        value = bare(value) if isinstance(value, str) else [*map(bare, value)]
        st.query_params[key] = value
        st.session_state[key] = value == "true" if value in ("true", "false") else value
    st.rerun()  # in a run that Back asks for, only the URL as it came would count


def _forget_widgets() -> None:
    """Drop what the widgets of the page before hold: their values, and their share of the URL.

    A page that was drawn already owns its parameters: Streamlit lets nobody else set them. After
    Back that happens where a run ends before the request with the link's parameter arrives.
    """
    context = get_script_run_ctx()
    assert context is not None  # only a page's run has links
    with context.session_state.query_params() as query:
        for key in KEYS:
            if binding := query.get_binding_for_param(key):
                query.unbind_widget(binding.widget_id)
    for key in KEYS:
        st.session_state.pop(key, None)


def carried(text: str) -> dict[str, str | list[str]]:
    """The values in a link's parameter, by `KEYS`; invalid ones are ignored."""
    try:
        query = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(query, dict):
        return {}
    return {key: value for key, value in query.items() if _fits(key, value)}


def _fits(key: str, value: object) -> bool:
    if key == "models":
        return isinstance(value, list) and all(isinstance(part, str) for part in value)
    return key in KEYS and isinstance(value, str)
