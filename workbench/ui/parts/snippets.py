"""The Python that does the same as a page."""

import streamlit as st


def same_in_python(code: str, what: str = "Same") -> None:
    """An expander with code that runs as it stands."""
    with st.expander(f"{what} in Python", icon=":material/code:"):
        st.code(code, language="python")
