"""Pictures: what models of pictures and sounds look at, recognise, complete and draw."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.subjects.encoder_load import encoders
from workbench.ui.parts.models import cached_load
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views.pictures_models import cached_encoder, pick_model, pick_view, views_of

title = st.empty()
title.title("How does a model see a picture?")
about = st.empty()
left, right = st.columns([1, 3], vertical_alignment="bottom")
try:
    with left:
        name = pick_model()
    encodes = name in encoders()
    model = cached_encoder(name) if encodes else cached_load(name)
    if name in encoders("sound"):
        title.title("How does a model hear a sound?")
    about.caption(
        "An encoder: every patch sees every other, and a class is read off in the end."
        if encodes
        else "A GPT, and the same tools as on text: a token for the class, then 64 tokens of grey "
        "levels, row by row. Nobody tells it that pixel 35 lies below pixel 27."
    )
    views = views_of(model)
    with right:
        view = pick_view(list(views))
    code = views[view](model)
    if code:
        loaded = "model = wb.load_encoder" if encodes else "subject = wb.load"
        same_in_python(f"""\
import workbench as wb

{loaded}({name!r})
{code}""")
except WorkbenchError as error:
    fault(error)
