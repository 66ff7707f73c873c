"""What an encoder or an encoder-decoder reads on a page: text, part, what is written."""

from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

if TYPE_CHECKING:
    from workbench.subjects import Subject

WORD = "stressed"
"""What an encoder-decoder reads at first."""
GAP = "The cat sat on the {mask} ."
"""What an encoder reads at first, with its mask token."""


class Asked(NamedTuple):
    """The text, the part of the model, and what is written so far (None: its own answer)."""

    prompt: str
    part: str
    target: str | None


def ask(subject: "Subject") -> Asked:
    """The controls for a model of this kind, and what they say."""
    from workbench.subjects.kinds import SEQ2SEQ

    if subject.kind != SEQ2SEQ:
        prompt = st.text_input("Text", gap(subject), key="text", bind="query-params")
        return Asked(prompt or "", "", None)
    words, so_far, which = st.columns([2, 2, 3], vertical_alignment="bottom")
    prompt = words.text_input("Text", WORD, key="text", bind="query-params")
    with so_far:
        target = written_so_far()
    with which:
        part = pick_part(subject)
    return Asked(prompt or "", part, target)


def written_so_far() -> str | None:
    """The field for what a decoder has written; None for the model's own answer."""
    target = st.text_input(
        "Written so far",
        key="target",
        bind="query-params",
        placeholder="its own answer",
        help="What the decoder has written. Empty: the model's own answer to the text.",
    )
    return target or None


def pick_part(subject: "Subject", *, key: str = "part") -> str:
    """The choice among the attentions of an encoder-decoder; "" for an encoder, which has one."""
    from workbench.interp.stacks.runs import PARTS
    from workbench.subjects.kinds import SEQ2SEQ

    if subject.kind != SEQ2SEQ:
        return ""
    part = st.segmented_control(
        "Attention",
        list(PARTS),
        default="cross",
        key=key,
        bind="query-params",
        required=True,
        help="\n".join(f"- **{name}**: {words}" for name, words in PARTS.items()),
    )
    return str(part)


def gap(subject: "Subject") -> str:
    """A sentence with a gap, in the words of the model's tokenizer; token ids where it has none."""
    from workbench.subjects.spelling import spells_ids

    if spells_ids(subject.tokenizer):
        return "1 2 3 1 2 3"
    return GAP.format(mask=subject.tokenizer.mask_token or "")
