"""Steering: add a direction from contrasting prompts to the residual stream, and see the effect."""

import zlib

import streamlit as st

from workbench.interp import steering
from workbench.ui import warm
from workbench.ui.parts.models import cached_load, pick_name
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import plain_name
from workbench.ui.views.steering import steered

METHODS = {
    "mean": "difference of the means",
    "svd": "first singular direction of the differences",
}
WITH = "The king was glad and\nShe laughed with joy and\nIt was a happy day, and"
WITHOUT = "The king was sad and\nShe wept with grief and\nIt was a bitter day, and"


def lines(text: str | None) -> list[str]:
    """The prompts of a text, one per line."""
    return [line.strip() for line in (text or "").splitlines() if line.strip()]


st.title("What happens if I steer it?")
st.caption(
    "Activation steering: the difference between the activations of two sets of prompts after one "
    "layer is a direction. Adding it to the residual stream at every position changes what the "
    "model writes."
)
with st.columns([1, 3])[0]:
    model = pick_name()
subject = cached_load(model)
columns = st.columns(2)
positive = columns[0].text_area(
    "Prompts with the quality", WITH, key="with", bind="query-params", help="One per line."
)
negative = columns[1].text_area(
    "Prompts without it",
    WITHOUT,
    key="without",
    bind="query-params",
    help="One per line; the same number as on the left.",
)
columns = st.columns([2, 3, 3, 4], vertical_alignment="bottom")
last = subject.card.n_layers - 1
layer = columns[0].number_input(
    "After layer", 0, last, min(last, subject.card.n_layers // 2), key="layer"
)
strength = columns[1].slider("Strength", -8.0, 8.0, 2.0, 0.5, key="strength", bind="query-params")
method = columns[2].selectbox(
    "Direction", list(METHODS), format_func=METHODS.__getitem__, key="method", bind="query-params"
)
prompt = columns[3].text_input(
    "Prompt to continue", "The old man opened the door and", key="prompt", bind="query-params"
)
request = (model, positive, negative, layer, strength, method, prompt)
if st.button("Steer", type="primary", help="Saves the steered model under a name."):
    st.session_state["steer_asked"] = request
preview = "steer_asked" not in st.session_state and model == warm.DEFAULT
how = {"layer": int(layer), "strength": float(strength), "method": str(method)}
if preview or st.session_state.get("steer_asked") == request:
    name = plain_name(f"{model.rpartition('/')[2]}-steer-{zlib.crc32(repr(request).encode()):x}")
    change = steering(subject, lines(positive), lines(negative), name=name, base=model, **how)
    steered(subject, change, prompt or "", keep=not preview)
settings = ", ".join(f"{name}={value!r}" for name, value in how.items())
same_in_python(f"""\
import workbench as wb
from workbench.interp import steering

model = wb.load({model!r})
positive = {lines(positive)!r}
negative = {lines(negative)!r}
change = steering(model, positive, negative, name="steered", base={model!r}, {settings})
print(change.words, wb.load(change.save()).name)
""")
