"""The Python that does the same as a page."""

import streamlit as st


def same_in_python(code: str) -> None:
    """An expander with code that runs as it stands."""
    with st.expander("Same in Python", icon=":material/code:"):
        st.code(code, language="python")
