"""A steered model on a page: its text beside the base model's, and its loss on ordinary text."""

import streamlit as st

from workbench.interp.interventions.effect import cost_of
from workbench.statistics.words import bracketed
from workbench.subjects import Subject
from workbench.subjects.intervention import Intervention, apply
from workbench.ui.parts.generation import continuation
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import alone
from workbench.ui.parts.words import called, escaped, p_text, signed

TOKENS = 40
"""New tokens that each model writes."""


def steered(base: Subject, change: Intervention, prompt: str, *, keep: bool = True) -> None:
    """Show continuations with and without an intervention and its cost, and save the edited model.

    Args:
        base: The base model.
        change: The intervention.
        prompt: The text to continue.
        keep: Whether to save the edited model.
    """
    edited = apply(base, change)
    with alone(base.hash), st.spinner("Generating, and measuring both models on ordinary text"):
        texts = [continuation(s, prompt, n=TOKENS, temperature=0.0, seed=0) for s in (base, edited)]
        cost = cost_of(base, edited)
    for column, name, text in zip(st.columns(2), (base.name, edited.name), texts, strict=True):
        column.caption(called(name))
        marked = "  \n".join(
            f"**{escaped(line.strip())}**" for line in text.splitlines() if line.strip()
        )
        column.markdown(f"{escaped(prompt)} {marked}")
    st.metric(
        "Loss on ordinary text, nats per token",
        f"{cost.tuned:.3f}",
        delta=signed(cost.difference),
        delta_color="off",
        delta_arrow="off",
    )
    st.caption(
        f"before {cost.base:.3f}; change {bracketed(cost.low, cost.high, signed)}, "
        f"{p_text(cost.p)}, n = {cost.n} paragraphs"
    )
    if not keep:
        return
    saved_name = change.save()
    st.success(f"Saved as **{saved_name}**: {change.words}.", icon=":material/check:")
    with st.container(horizontal=True):
        page_link(
            "benchmarks",
            "Benchmark it",
            icon=":material/scoreboard:",
            models=[base.name, saved_name],
        )
        page_link(
            "chat",
            "Talk to it, beside its base",
            icon=":material/forum:",
            models=[base.name, saved_name],
        )
        st.download_button(
            "Intervention (JSON)",
            change.to_json(),
            file_name=f"{change.name}.json",
            on_click="ignore",
        )
