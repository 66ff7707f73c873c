"""Runs: everything that was trained, evaluated or edited here; find, name, tag and delete it."""

import streamlit as st

from workbench.ui.parts.notices import note
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import runs as view

RUNS = "Runs"
EDITS = "Edited models"

st.title("What have I made?")
st.caption(
    "Everything that was trained, evaluated or edited here. Select a run to open, name, tag or "
    "delete it, or several to see in which settings they differ."
)
what = st.segmented_control(
    "What",
    [RUNS, EDITS],
    default=RUNS,
    key="made",
    bind="query-params",
    required=True,
    label_visibility="collapsed",
)
if what == EDITS:
    view.edits()
else:
    listed = view.find()
    if not listed:
        note("No run matches. Runs begin on the Train and Benchmarks pages.")
    else:
        selected = view.table(listed)
        if len(selected) == 1:
            view.one(selected[0])
        elif selected:
            view.several(selected)
    same_in_python("""\
from workbench.store import Store
from workbench.store.settings import differing

store = Store()
runs = store.list(search="lora", limit=20)
print([(run.id, run.title, run.tags) for run in runs])
print(differing(runs))
# store.rename(runs[0].id, "Sentiment, LoRA of rank 8")
# store.tag(runs[0].id, ["paper", "figure 2"])
# store.delete(runs[0].id)
""")
