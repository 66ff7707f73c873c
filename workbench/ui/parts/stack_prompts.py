"""A pair of prompts for an encoder, with a gap, or for an encoder-decoder, with what is written."""

from typing import TYPE_CHECKING

import streamlit as st

from workbench.ui.parts.stack_texts import GAP

if TYPE_CHECKING:
    from workbench.subjects import Subject

REVERSED = ("stressed", "stretsed", "s", "t", "des")
"""Two strings to reverse, the letters that come next, and what is written before them."""


def stack_prompts(subject: "Subject") -> dict[str, str]:
    """Draw the fields for a model of this kind; returns their texts by `patch`'s arguments."""
    from workbench.subjects.kinds import SEQ2SEQ

    writes = subject.kind == SEQ2SEQ
    mask = subject.tokenizer.mask_token or ""
    first = REVERSED if writes else (GAP.format(mask=mask), "", "", "", "")
    words, answers = st.columns([4, 1])
    where = "that comes next" if writes else f"that fills the gap {mask}"
    given = {
        "clean": words.text_input("Clean prompt", first[0], key="gap_clean", bind="query-params"),
        "corrupted": words.text_input(
            "Corrupted prompt", first[1], key="gap_corrupted", bind="query-params"
        ),
        "answer": answers.text_input(
            "Answer",
            first[2],
            key="gap_answer",
            bind="query-params",
            help=f"The token {where} in the clean run.",
        ),
        "wrong": answers.text_input(
            "Wrong answer",
            first[3],
            key="gap_wrong",
            bind="query-params",
            help=f"The token {where} in the corrupted run.",
        ),
    }
    if writes:
        given["target"] = words.text_input(
            "Written before the answer",
            first[4],
            key="target",
            bind="query-params",
            help="What the decoder has written in both runs; the answer is what comes next.",
        )
    return {name: text or "" for name, text in given.items()}
