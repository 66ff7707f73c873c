"""A user's own prompt pair: four fields, examples, and help with prompts of unequal length."""

import re

import streamlit as st

from workbench.figures.style import visible
from workbench.interp.prompts.pairs import LengthError
from workbench.ui.parts.alignment import alignment
from workbench.ui.parts.notices import fault

OWN = "My own prompts"
EXAMPLES = {
    "Subject and verb": ("The plants of the garden", "The plant of the garden", " are", " is"),
    "Induction": (
        "She had a sister, a horse and a fire. He had a sister, a horse and a",
        "She had a sister, a horse and a door. He had a sister, a horse and a",
        " fire",
        " door",
    ),
    "Indirect object": (
        "When Mary and John went to the store, John gave a drink to",
        "When Mary and John went to the store, Mary gave a drink to",
        " Mary",
        " John",
    ),
    "Whole phrase": (
        "The red house, the green tree, the old horse, the black dog. "
        "The red house, the green tree, the old",
        "The red house, the green tree, the old dog, the black horse. "
        "The red house, the green tree, the old",
        " horse, the black dog.",
        " dog, the black horse.",
    ),
}
FIELDS = ("clean", "corrupted", "answer", "wrong")


def fill(example: str) -> None:
    """Fill the fields with an example."""
    for field, text in zip(FIELDS, EXAMPLES[example], strict=True):
        st.session_state[field] = text


def prompts() -> dict[str, str]:
    """Draw the four fields; returns their texts by name (`FIELDS`)."""
    first = next(iter(EXAMPLES.values()))
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.caption("Examples", width="content")
        for name in EXAMPLES:
            st.button(name, on_click=fill, args=(name,))
    words, answers = st.columns([4, 1])
    given = {
        "clean": words.text_input("Clean prompt", first[0], key="clean", bind="query-params"),
        "corrupted": words.text_input(
            "Corrupted prompt", first[1], key="corrupted", bind="query-params"
        ),
        "answer": answers.text_input(
            "Answer",
            first[2],
            key="answer",
            bind="query-params",
            help="A token or a whole phrase, including its leading space.",
        ),
        "wrong": answers.text_input(
            "Wrong answer",
            first[3],
            key="wrong",
            bind="query-params",
            help="The answer to the corrupted prompt.",
        ),
    }
    return {name: text or "" for name, text in given.items()}


def unequal(error: LengthError) -> None:
    """Show why two prompts cannot be aligned, and buttons that replace a word to fix it."""
    fault(error)
    alignment(*zip(*error.aligned, strict=True))
    for offer in error.substitutes:
        with st.container(horizontal=True, gap="small", vertical_alignment="center"):
            st.caption(
                f"Replace {visible(offer.word)} in the {offer.side} prompt with", width="content"
            )
            for word in offer.choices:
                st.button(
                    word,
                    key=f"{offer.side} {offer.word} {word}",
                    on_click=swap,
                    args=(offer.word, word),
                )


def swap(word: str, other: str) -> None:
    """Replace one word by another in both prompts."""
    for field in ("clean", "corrupted"):
        st.session_state[field] = re.sub(
            rf"\b{re.escape(word)}\b", other, str(st.session_state[field])
        )
