"""Privacy: what a corpus holds of people and secrets, by kind, and the corpus without it."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.privacy.kinds import KINDS
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import privacy as view

st.title("What does this corpus say about people?")
st.caption(
    "Before a model learns a text by heart: its e-mail addresses, numbers of people and of money, "
    "addresses of machines, passwords and keys, each held against its own checksum. "
    "Examples are masked, and nothing is kept."
)
try:
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        corpus, name = view.pick_corpus()
    kinds = right.multiselect(
        "Kinds",
        list(KINDS),
        key="kinds",
        bind="query-params",
        placeholder="All",
        help="  \n".join(f"**{kind.name}**: {kind.words}" for kind in KINDS.values()),
    )
    column = view.pick_column(corpus)
    found = view.scanned(corpus, tuple(kinds), column)
    view.results(found)
    view.take_home(found, corpus, name, tuple(kinds), column)
    same_in_python(f"""\
import workbench as wb

found = wb.scan({name!r}, {kinds or None!r}, column={column!r})
print(found.to_frame(), found.examples_frame())
print(wb.redact(["Write to jane.doe@example.org."]))
""")
except WorkbenchError as error:
    fault(error)
view.how_well()
