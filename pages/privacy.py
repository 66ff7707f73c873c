"""Privacy: personal data and secrets in a corpus, and what a model knows of its rows by heart."""

import streamlit as st

from workbench.errors import WorkbenchError
from workbench.privacy.kinds import KINDS
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import privacy as view

VIEWS = ("A corpus", "A model")


def of_a_corpus() -> None:
    """What a corpus says about people."""
    head.title("What does this corpus say about people?")
    head.caption(
        "A model can learn parts of its training text by heart. This page searches a corpus for "
        "e-mail addresses, telephone, card, account and identity numbers, network addresses, "
        "passwords and keys, and checks checksums where there are any. Examples are masked, and "
        "the data found are not stored."
    )
    try:
        left, right = st.columns([2, 3], vertical_alignment="bottom")
        with left:
            corpus = view.pick_corpus()
        kinds = right.multiselect(
            "Kinds",
            list(KINDS),
            key="kinds",
            bind="query-params",
            placeholder="All",
            help="  \n".join(f"**{kind.name}**: {kind.words}" for kind in KINDS.values()),
        )
        column = view.pick_column(corpus)
        result = view.scanned(corpus, tuple(kinds), column)
        view.results(result, corpus)
        view.downloads(result, corpus, tuple(kinds), column)
        same_in_python(f"""\
import workbench as wb
from workbench.privacy.letters import letters  # the example

result = wb.scan({view.in_python(corpus)}, {kinds or None!r}, column={column!r})
print(result.to_frame(), result.examples_frame())
print(wb.redact(["Write to jane.doe@example.org."]))
""")
    except WorkbenchError as error:
        fault(error)
    view.detection_quality()


def of_a_model() -> None:
    """What a model knows by heart."""
    from workbench.ui.views.privacy_model import by_heart

    head.title("Does a model know it by heart?")
    head.caption(
        "Random values are planted in the training text. Afterwards: does the model find them "
        "likelier than others in their place? Can rows that it was trained on be told from rows "
        "it never saw? Does it write them word by word? Which heads hold them, and what does it "
        "cost to take those out?"
    )
    try:
        by_heart()
    except WorkbenchError as error:
        fault(error)


head = st.container()
chosen = st.segmented_control(
    "Search",
    VIEWS,
    default=VIEWS[0],
    key="privacy_view",
    bind="query-params",
    required=True,
    label_visibility="collapsed",
)
if chosen == VIEWS[1]:
    of_a_model()
else:
    of_a_corpus()
