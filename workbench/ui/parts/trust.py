"""The panel under every map: what was verified on it, and what failed."""

import streamlit as st

from workbench.interp.patching.checks import TOLERANCE, WORDS, failed
from workbench.interp.patching.pair_maps import Patching
from workbench.interp.patching.probe_maps import Probed


def trust(found: Patching | Probed) -> None:
    """Every check with its value; a red sentence names those that failed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Can this be trusted?**", width="content")
        for name, value in found.checks.items():
            good = value <= TOLERANCE
            st.badge(
                f"{WORDS.get(name, name)}: {value:.0e}",
                icon=":material/check:" if good else ":material/warning:",
                color="green" if good else "red",
            )
        st.badge(f"engine: {found.engine}", color="gray")
        st.badge(
            "1 prompt pair: no interval" if found.n == 1 else f"{found.n} prompt pairs",
            color="gray",
        )
    if wrong := failed(found.checks):
        st.error(
            f"Do not believe this map: {'; '.join(wrong)} failed.", icon=":material/dangerous:"
        )
