"""Two models' heads on one prompt in the explorer, on pages that are about something else."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.cut import cut
from workbench.ui.parts.explorer import explorer
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.look import look
from workbench.ui.parts.models import cached_load
from workbench.ui.parts.notices import fault, note

MOST = 256
"""Tokens of a prompt."""


@fragment
def all_heads(
    models: tuple[str, ...], prompt: str, *, key: str, head: tuple[int, int] | None = None
) -> None:
    """A switch; once it is on, every head of the first model on the prompt, less the second's.

    Args:
        models: Names of one or two models; the second can be subtracted in the explorer.
        prompt: The text.
        key: Of the explorer.
        head: Layer and number of the head that is open at first; the one worth it where None.
    """
    if not st.toggle("All heads on this text", key=f"show {key}"):
        return
    try:
        subject = cached_load(models[0])
        text = cut(subject, prompt, MOST)
        seen = look(subject, text)
        other = None
        for name in models[1:2]:
            theirs = look(cached_load(name), text).attention
            if theirs.pattern.shape == seen.attention.pattern.shape:
                other = theirs, name
            else:
                note(f"{name} has other heads or tokens on this text, so it is not subtracted.")
    except WorkbenchError as error:
        fault(error)
        return
    explorer(seen.attention, seen.scores, chosen=head or seen.scores.best(), key=key, other=other)
