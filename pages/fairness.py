"""Fairness: stereotypes that a model prefers, the heads that carry them, the cost of removal."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.notices import fault
from workbench.ui.views import fairness as view

st.title("How does it treat groups of people?")
st.caption(
    "Pairs of sentences that differ in whom they speak of: which one does the model find likelier? "
    "Which heads carry that, and what does it cost to take them out? The texts of these sets are "
    "offensive by design, and none is shown here."
)
try:
    choice = view.controls()
    result = view.measured(choice)
    view.scores(result)
    view.heads(choice)
    view.same_as(choice)
except WorkbenchError as error:
    fault(error)
