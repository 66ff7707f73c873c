"""Pictures: a GPT that reads 8 by 8 pixels; what it looks at, recognises, completes and draws."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.ui.parts.models import cached_load
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views.pictures import VIEWS, pick_model, pick_view

st.title("How does a GPT see a picture?")
st.caption(
    "The same model and the same tools, on pictures: a token for the class, then 64 tokens of grey "
    "levels, row by row. Nobody tells it that pixel 35 lies below pixel 27."
)
left, right = st.columns([1, 3], vertical_alignment="bottom")
try:
    with right:
        view = pick_view()
    with left:
        model = pick_model()
    subject = cached_load(model)
    code = VIEWS[view](subject)
    same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r})
{code}""")
except WorkbenchError as error:
    fault(error)
