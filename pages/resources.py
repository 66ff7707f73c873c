"""Resources: what work costs before it starts, what runs now, and what a larger model reaches."""

import streamlit as st

from workbench.budget.machine import machine
from workbench.errors import WorkbenchError
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import resources as view

VIEWS = ("Costs", "Now", "Scaling law")


def costs() -> None:
    """Time, memory and energy before a start."""
    head.title("What will it cost?")
    head.caption(
        "Operations are counted from shapes and lengths, and divided by what this machine reached "
        "when it was measured; on a GPU, by its data sheet. Nothing is run. Energy is an estimate."
    )
    arguments = view.pick()
    try:
        with st.spinner("Measuring this machine, once"):
            here = machine()
        view.figures_of(here)
        view.results(view.costed(arguments))
    except WorkbenchError as error:
        fault(error)
    words = ", ".join(f"{name}={value!r}" for name, value in arguments.items() if name != "what")
    same_in_python(f"""\
import workbench as wb

print(wb.machine())
result = wb.costs({arguments["what"]!r}, {words})
print(result.to_frame())
""")


def now() -> None:
    """What runs now."""
    head.title("What runs now?")
    head.caption(
        "Active runs with all their processes, and this app. Resident memory; pages that processes "
        "share count in each."
    )
    view.now()
    same_in_python("""\
import workbench as wb
from workbench.budget.free import free

print(wb.usage().to_frame())
print(free())
""")


def scaling() -> None:
    """A scaling law through small runs."""
    head.title("What would a larger model reach?")
    head.caption(
        "L = E + A / N^α through runs of several sizes, trained alike (Kaplan et al. 2020, "
        "Hoffmann et al. 2022). The band holds 95 % of single runs, if the law holds that far out."
    )
    left, right = st.columns([1, 2])
    try:
        with left:
            runs = view.pick_runs()
            at = view.pick_place()
        with right:
            result = view.law_of(runs, at)
            if result is not None:
                view.law(result)
        same_in_python(view.in_python(runs, at))
    except WorkbenchError as error:
        fault(error)


head = st.container()
chosen = st.segmented_control(
    "View",
    VIEWS,
    default=VIEWS[0],
    key="resources_view",
    bind="query-params",
    required=True,
    label_visibility="collapsed",
)
{"Costs": costs, "Now": now, "Scaling law": scaling}[chosen or VIEWS[0]]()
