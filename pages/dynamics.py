"""Dynamics: when a run learned what, checkpoint by checkpoint."""

import streamlit as st

from workbench.comparison.dynamics import dynamics
from workbench.errors import WorkbenchError
from workbench.figures.dynamics import dynamics as draw
from workbench.ui import runs as ui
from workbench.ui.charts import chart, downloads
from workbench.ui.links import page_link
from workbench.ui.progress import with_progress
from workbench.ui.snippets import same_in_python
from workbench.ui.words import plain_name

TASKS = ("repeat", "agreement")

st.title("When did it learn that?")
st.caption(
    "Loss, the best induction head, the best previous-token head and a benchmark over the checkpoints that a run "
    "kept. Where induction appears, the loss bends (Olsson et al. 2022)."
)
found = [run for run in ui.store().list("train", limit=200) if len(list((run.folder / "checkpoints").glob("*"))) > 1]
left, right = st.columns([3, 1])
with left:
    run = ui.pick_run("Run", found)
task = right.selectbox(
    "Benchmark", TASKS, key="task", bind="query-params", help="50 items, made here, the same always."
)
if run is None:
    st.info("No run has kept checkpoints yet. Train one, with `series = 12` under [train].", icon=":material/info:")
    page_link("train", "Train", icon=":material/model_training:")
    st.stop()
try:
    key = ("dynamics", run.id, run.ended, run.status, task)
    result = with_progress(key, lambda report: dynamics(run, task=str(task), progress=report))
except WorkbenchError as error:
    st.info(str(error), icon=":material/info:")
    st.stop()
rise = result.rise()
figure = draw(result.to_frame(), rise=rise)
chart(
    figure, key="dynamics", name=f"dynamics-{plain_name(run.title)}", alt="Loss, head scores and accuracy over tokens"
)
shaded = (
    f"Shaded: the induction score rose most between {rise[0]:,} and {rise[1]:,} tokens."
    if rise
    else "The induction score never rose by 0.1 from one checkpoint to the next."
)
st.caption(
    f"{shaded} Bars are 95 % intervals over {result.points[0].n} random sequences, or over the benchmark's items; of "
    "one run, so they say nothing of another seed."
)
downloads(
    lambda: [figure], result.to_frame, name=f"dynamics-{run.id}", title=f"Training dynamics of {run.title} ({run.id})"
)
same_in_python(f"""\
from workbench.comparison.dynamics import dynamics

found = dynamics({run.id!r}, task={task!r})
print(found.to_frame(), found.rise())
""")
