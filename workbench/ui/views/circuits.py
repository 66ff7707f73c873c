"""Which heads a benchmark task needs: ablate heads and measure how much its score drops."""

import streamlit as st

from workbench.benchmarks.needs import TaskNeeds, task_needs
from workbench.interp.interventions.ablation import KINDS, parse_heads
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import downloads
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.models import alone, cached_load
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.registered import registered
from workbench.ui.parts.snippets import same_in_python

TASKS = ["repeat", "agreement", "ioi", "sst2", "subject_verb", "arc_easy", "piqa", "copa"]
ESTIMATED = (
    Estimated("change", "low", "high"),
    Estimated("margin_change", "margin_low", "margin_high", "margin's change"),
    Estimated("chosen_on", "chosen_low", "chosen_high", "margin's, when ranked"),
)


def task_heads(model: str) -> None:
    """Show the controls, and the result once it has been requested."""
    with st.form("task_needs", border=False):
        columns = st.columns([2, 1, 1, 1, 3, 1], vertical_alignment="bottom")
        task = columns[0].selectbox(
            "Task", TASKS, accept_new_options=True, help="Any multiple-choice task."
        )
        limit = columns[1].number_input(
            "Items",
            8,
            500,
            40,
            help="Half of them rank the heads, the other half measure the effect.",
        )
        kind = columns[2].selectbox("Ablation", list(KINDS), list(KINDS).index("mean"))
        greedy = columns[3].number_input(
            "Greedy steps", 0, 10, 0, help="Heads ablated cumulatively, one more in each step."
        )
        heads = columns[4].text_input(
            "Heads",
            placeholder="all, or the layers that matter",
            help="For example L3H1, L5H0. Empty: all heads, or those of the layers that matter.",
        )
        if columns[5].form_submit_button("Measure", type="primary", width="stretch"):
            st.session_state["task_asked"] = (
                model,
                registered(str(task)),
                int(limit),
                str(kind),
                int(greedy),
                heads,
            )
    request = st.session_state.get("task_asked")
    if request is None or request[0] != model:
        st.caption(
            "Every head needs one evaluation of the task: minutes for a model with many heads."
        )
        return
    _, task, limit, kind, greedy, heads = request
    chosen = parse_heads(heads) if heads else []
    subject = cached_load(model)
    how = {"heads": chosen, "limit": limit, "replacement": kind, "greedy": greedy}
    with alone(subject.hash):
        needs = with_progress(
            ("task_needs", subject.hash, task, *map(str, how.values())),
            lambda report: task_needs(subject, str(task), progress=report, **how),
        )
    _shown(needs)
    arguments = ", ".join(f"{name}={value!r}" for name, value in how.items())
    same_in_python(f"""\
import workbench as wb

needs = wb.task_needs(wb.load({model!r}), {task!r}, {arguments})
print(needs.to_frame(), needs.to_frame(needs.greedy))
""")


def _shown(needs: TaskNeeds) -> None:
    intact = needs.intact
    st.markdown(
        f"Intact {needs.metric} {intact.value:.3f} {bracketed(intact.low, intact.high)}, n = "
        f"{intact.n} held out; {needs.tested} of {needs.of} heads tested. *Margin*: log-likelihood "
        "of the right choice minus that of the best wrong one, in nats. *When ranked*: the "
        f"margin's change on the {needs.n} other items that the heads were ranked on, which is "
        "biased upwards."
    )
    for title, cuts in (
        ("Whole layers", needs.layers),
        ("One head at a time", needs.cuts),
        ("Cumulatively", needs.greedy),
    ):
        if cuts:
            st.caption(title)
            estimates(needs.to_frame(cuts).round({"score": 3}), ESTIMATED, rows=6)
    downloads(
        list, needs.to_frame, name=f"needs-{needs.task}", title=f"Heads that {needs.task} needs"
    )
