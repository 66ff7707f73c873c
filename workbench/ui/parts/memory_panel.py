"""What the app keeps in memory, and the button that frees it."""

import streamlit as st

from workbench import memory
from workbench.ui.parts import cards


def memory_panel() -> None:
    """A closed box with what all caches hold, and a button that lets go of all of it."""
    with st.expander("Memory", icon=":material/memory:"):
        held = [each for each in memory.held() if each.n_entries]
        cards.table(
            {each.name: f"{each.n_bytes / 1e6:,.0f} MB" for each in held} or {"": "nothing"}
        )
        st.caption(
            f"Of {memory.budget() / 1e9:g} GB over the models' weights {memory.total() / 1e9:.2f} "
            f"are in use; the whole process has {memory.resident() / 1e9:.2f} GB."
        )
        help_text = "All results that are kept, and models that nobody uses. They come again."
        st.button("Free memory", icon=":material/mop:", on_click=_free, help=help_text)
        if freed := st.session_state.pop("freed memory", None):
            st.caption(freed)


def _free() -> None:
    freed = memory.release()
    st.session_state["freed memory"] = f"{freed / 1e6:,.0f} MB were given up."
