"""The browser's history and what a page keeps: one entry a page, and no value of another thing."""

import json
from collections.abc import Hashable, Iterable, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

_KEPT_FOR = "kept for"
_SCRIPT = (Path(__file__).parent / "history.js").read_text(encoding="utf-8")


def one_entry_a_page(shared: Iterable[str]) -> None:
    """Make Back lead to the page before, as it was.

    Streamlit adds an entry for each parameter that a page writes into its URL, so that Back would
    undo them one at a time.

    Args:
        shared: Parameters that several pages have.
    """
    script = _SCRIPT.replace("SHARED", json.dumps(sorted(shared)))
    st.html(f"<script>{script}</script>", unsafe_allow_javascript=True)


def changed(key: str, meaning: Hashable) -> bool:
    """Whether what a choice means has changed since the last run of the script.

    What a user chose stays while it means the same thing, such as a position of the same prompt.

    Args:
        key: Of the choice.
        meaning: What the choice depends on.
    """
    kept_for = st.session_state.setdefault(_KEPT_FOR, {})
    before = kept_for.setdefault(key, meaning)
    kept_for[key] = meaning
    return before != meaning


def first_index(key: str, meaning: Hashable, options: Sequence[Any], default: Any) -> int:
    """The `index` of a select box that returns to its default once its value means another thing.

    Args:
        key: Of the widget.
        meaning: What its value depends on.
        options: Its options.
        default: The option that the page chooses.
    """
    stale = changed(key, meaning)
    if key not in st.session_state:
        return options.index(default)
    if stale or st.session_state[key] not in options:
        st.session_state[key] = default  # set, and not deleted: the browser shows what it had
    return 0


def arrived(key: str) -> None:
    """Note that a link has just made a choice, whatever the one before depended on."""
    st.session_state.get(_KEPT_FOR, {}).pop(key, None)
