"""The panel below every map: which checks it passed, and which failed."""

import streamlit as st

from workbench.interp.patching.checks import TOLERANCE, WORDS, failed
from workbench.interp.patching.pair_maps import Patching
from workbench.interp.patching.probe_maps import Probed


def trust(patching: Patching | Probed) -> None:
    """Show every check with its value; an error names those that failed."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("**Can this be trusted?**", width="content")
        for name, value in patching.checks.items():
            good = value <= TOLERANCE
            st.badge(
                f"{WORDS.get(name, name)}: {value:.0e}",
                icon=":material/check:" if good else ":material/warning:",
                color="green" if good else "red",
            )
        st.badge(f"engine: {patching.engine}", color="gray")
        st.badge(
            "1 prompt pair: no interval" if patching.n == 1 else f"{patching.n} prompt pairs",
            color="gray",
        )
    if wrong := failed(patching.checks):
        st.error(
            f"Do not believe this map: {'; '.join(wrong)} failed.", icon=":material/dangerous:"
        )
