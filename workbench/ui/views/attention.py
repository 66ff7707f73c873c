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


def subtracted(attention: "Attention", target: str | None = None) -> "tuple[Attention, str] | None":
    """The attention that the page's controls choose to subtract, and its name; None for none.

    Args:
        attention: The attention to subtract from.
        target: What the decoder of an encoder-decoder has written; None for its own answer.

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
            of_kind = {"seq2seq": bool(attention.part), "encoder": bool(attention.part)}
            label = pick_name("Model ", key="other", default="shelf-tuned", **of_kind)
            other_subject = cached_load(label, **of_kind)
            other = look(other_subject, attention.prompt, attention.part, target).attention
        else:
            text = st.text_input(
                "Prompt ", attention.prompt, key="other_prompt", bind="query-params"
            )
            label = "the other prompt"
            own = cached_load(str(st.session_state["model"]), seq2seq=True, encoder=True)
            other = look(own, text, attention.part, target).attention
    ours = len(attention.joined().tokens)
    theirs = len(other.joined().tokens)
    if ours != theirs:
        raise WorkbenchError(
            f"A difference needs as many tokens on both sides: {ours} here, {theirs} with {label}; "
            "choose a prompt or model with as many."
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
