"""The Python that does the same as a page."""

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from workbench.subjects import Subject


def same_in_python(code: str, what: str = "Same") -> None:
    """An expander with code that runs as it stands."""
    with st.expander(f"{what} in Python", icon=":material/code:"):
        st.code(code, language="python")


def loading(subject: "Subject") -> str:
    """The argument with which `wb.load` takes a model of this kind; "" for decoders."""
    from workbench.subjects.kinds import ENCODER, SEQ2SEQ

    return {SEQ2SEQ: ", seq2seq=True", ENCODER: ", encoder=True"}.get(subject.kind, "")
