"""The attention that the Attention page subtracts: another model's, or that on another prompt."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.look import look
from workbench.ui.parts.models import cached_load, pick_name

if TYPE_CHECKING:
    from workbench.interp.patterns.attention import Attention

ALONE = "nothing"
MODEL = "another model"
PROMPT = "another prompt"


def subtracted(attention: "Attention") -> "tuple[Attention, str] | None":
    """The attention that the page's controls choose to subtract, and its name; None for none.

    Args:
        attention: The attention to subtract from.

    Raises:
        WorkbenchError: The two differ in their numbers of tokens, layers or heads.
    """
    what, which = st.columns([1, 3], vertical_alignment="bottom")
    kind = what.selectbox(
        "Compare with",
        [ALONE, MODEL, PROMPT],
        key="less",
        bind="query-params",
        help="Shows each head's difference. Minus, below, compares two heads of this model.",
    )
    if kind == ALONE:
        return None
    with which:
        if kind == MODEL:
            label = pick_name("Model ", key="other", default="shelf-tuned")
            other = look(cached_load(label), attention.prompt).attention
        else:
            text = st.text_input(
                "Prompt ", attention.prompt, key="other_prompt", bind="query-params"
            )
            label = "the other prompt"
            other = look(cached_load(str(st.session_state["model"])), text).attention
    if len(other.tokens) != len(attention.tokens):
        raise WorkbenchError(
            f"A difference needs as many tokens on both sides: {len(attention.tokens)} here, "
            f"{len(other.tokens)} with {label}; choose a prompt or model with as many."
        )
    if other.pattern.shape != attention.pattern.shape:
        raise WorkbenchError(
            f"A difference needs the same heads on both sides: {_size(attention)} here, "
            f"{_size(other)} with {label}; choose a model of the same size."
        )
    return other, label


def _size(attention: "Attention") -> str:
    n_layers, n_heads = attention.pattern.shape[:2]
    return f"{n_layers} layers of {n_heads} heads"
