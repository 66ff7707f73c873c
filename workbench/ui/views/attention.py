"""What the Attention page may subtract: another model's attention, or that on another prompt."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.look import look
from workbench.ui.parts.models import cached_load, pick_name

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention

ALONE, MODEL, PROMPT = "nothing", "another model", "another prompt"


def subtracted(found: "Attention") -> "tuple[Attention, str] | None":
    """The attention to be subtracted, by the controls, and what it is called; None for none.

    Raises:
        WorkbenchError: it has not as many tokens, layers and heads.
    """
    what, which = st.columns([1, 3], vertical_alignment="bottom")
    kind = what.selectbox(
        "Compare with",
        [ALONE, MODEL, PROMPT],
        key="less",
        bind="query-params",
        help="The difference head by head; two heads of this model are compared by Minus below.",
    )
    if kind == ALONE:
        return None
    with which:
        if kind == MODEL:
            label = pick_name("Model ", key="other", default="shelf-tuned")
            other = look(cached_load(label), found.prompt).found
        else:
            text = st.text_input("Prompt ", found.prompt, key="other_prompt", bind="query-params")
            label = "the other prompt"
            other = look(cached_load(str(st.session_state["model"])), text).found
    if len(other.tokens) != len(found.tokens):
        raise WorkbenchError(
            f"A difference needs as many tokens on both sides: {len(found.tokens)} here, "
            f"{len(other.tokens)} with {label}."
        )
    if other.pattern.shape != found.pattern.shape:
        sides = [" layers of ".join(map(str, part.pattern.shape[:2])) for part in (found, other)]
        raise WorkbenchError(
            f"A difference needs the same heads on both sides: {sides[0]} heads here, "
            f"{sides[1]} with {label}."
        )
    return other, label
