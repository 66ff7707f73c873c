"""Dynamics: what a training run learned when, checkpoint by checkpoint."""

from typing import Any

import streamlit as st

from workbench.comparison import behaviour_series, checkpoint_series
from workbench.comparison.dynamics import bundled, dynamics
from workbench.comparison.measures import METRICS
from workbench.comparison.series import MEASURES
from workbench.errors import WorkbenchError
from workbench.figures import change as draw_change
from workbench.figures.dynamics import dynamics as draw
from workbench.statistics.words import bracketed
from workbench.store import Run
from workbench.ui.parts import runs as ui
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.links import page_link
from workbench.ui.parts.notices import note
from workbench.ui.parts.progress import known, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import p_text, plain_name, signed
from workbench.ui.views.benchmarks import decimals

TASKS = ("repeat", "agreement")

st.title("When did it learn that?")
st.caption(
    "Loss, the best induction head, the best previous-token head and a benchmark over a run's "
    "checkpoints. Where induction heads form, the loss drops (Olsson et al. 2022)."
)
TASK_HELP = "50 generated items, always the same."
AGAINST = {
    "the last checkpoint": "last",
    "the first checkpoint": "first",
    "what it was fine-tuned from": "base",
}
PARTS = {"heads": "head", "stream": "number of layers", "weights": "layer"}


def learned(name: str, run: Run | None, task: str) -> None:
    """Loss, head scores and a benchmark over training tokens.

    Args:
        name: The run's id or the bundled model's name.
        run: The run; None for a bundled model.
        task: One of `TASKS`.
    """
    key = ("dynamics", name, run and (run.ended, run.status), task)
    result = with_progress(key, lambda report: dynamics(run or name, task=task, progress=report))
    rise = result.rise()
    figure = draw(result.to_frame(), rise=rise)
    file = f"dynamics-{plain_name(result.title)}"
    chart(figure, key="dynamics", name=file, alt="Loss, head scores and accuracy over tokens")
    shaded = (
        f"Shaded: the steepest rise of the induction score, {rise[0]:,} to {rise[1]:,} tokens."
        if rise
        else "The induction score never rose by 0.1 from one checkpoint to the next."
    )
    st.caption(
        f"{shaded} Bars are 95 % intervals over {result.points[0].n} random sequences or the "
        "benchmark's items. They cover one training run, not the spread over seeds."
    )
    title = f"Training dynamics of {result.title} ({result.run})"
    downloads(lambda: [figure], result.to_frame, name=f"dynamics-{name}", title=title)


@st.fragment
def answered(run: Run) -> None:
    """How a fine-tuned model's answers to held-out examples changed, checkpoint by checkpoint."""
    key = ("answers", run.id, run.ended, run.status)
    if ui.pressed(st.button, "Evaluate every checkpoint", "ask"):
        st.session_state["answers of"] = run.id
    if st.session_state.get("answers of") != run.id and not known(key):
        st.caption(
            "The base and every checkpoint answer the same 24 held-out examples, which were not "
            "trained on."
        )
        return
    try:
        answers = with_progress(key, lambda report: behaviour_series(run, progress=report))
    except WorkbenchError as error:
        note(error)
        return
    figures = []
    metrics = list(dict.fromkeys(answers["metric"]))
    for metric, column in zip(metrics, st.columns(len(metrics), gap="medium"), strict=True):
        rows = answers[answers["metric"] == metric].assign(
            stage=lambda f: f["step"], line=run.title
        )
        figures.append(
            draw_change.stage_lines(
                rows, line="line", value="value", title=METRICS[metric], across="step"
            )
        )
        with column:
            chart(
                figures[-1],
                key=f"answers {metric}",
                name=f"answers-{metric}-{run.id}",
                alt=f"{metric} over steps",
            )
    last: Any = answers[answers["metric"] == metrics[0]].iloc[-1]
    interval = f"paired, 95 %: {bracketed(last.d_low, last.d_high, signed)}, {p_text(last.d_p)}"
    st.caption(
        f"Step 0 is the base. Bands: 95 % intervals over the same {last.n} examples. At the last "
        f"step the {METRICS[metrics[0]]}, has changed by {signed(last.difference)} ({interval})."
    )
    downloads(
        lambda: figures,
        lambda: answers,
        name=f"answers-{run.id}",
        title=f"Answers of {run.title}, step by step",
    )


@st.fragment
def changed(run: Run) -> None:
    """How far each head or layer is from a reference checkpoint, over all checkpoints."""
    left, right = st.columns([1, 1])
    known = [words for words, which in AGAINST.items() if which != "base" or run.config.get("base")]
    words = str(left.selectbox("Compared with", known, key="against", bind="query-params"))
    options = list(PARTS)
    measure = str(
        right.segmented_control(
            "What", options, default="heads", key="what", bind="query-params", required=True
        )
    )
    against = AGAINST[words]
    if ui.pressed(st.button, "Measure every checkpoint", "follow"):
        st.session_state["changes of"] = (run.id, against)
    if st.session_state.get("changes of") != (run.id, against):
        st.caption(
            f"Loads {len(run.checkpoints)} checkpoints one after the other, a few seconds each for "
            "a small model."
        )
        return
    key = ("changes", run.id, run.ended, run.status, against)
    try:
        changes = with_progress(
            key, lambda report: checkpoint_series(run, against=against, progress=report)
        )
    except WorkbenchError as error:  # here, since a fragment runs again by itself
        note(error)
        return
    values, places, steps = changes.grid(measure)
    figure = draw_change.over_time(
        values, places, steps, name=MEASURES[measure], what=PARTS[measure]
    )
    chart(
        figure,
        key="changes",
        name=f"changes-{measure}-{run.id}",
        alt=f"{MEASURES[measure]} over checkpoints",
    )
    st.caption(
        f"{MEASURES[measure]}, compared with {words}; 0: identical. The download has intervals "
        "over texts."
    )
    if against == "last":
        half = (
            changes.half_way(measure)
            .dropna()
            .rename(columns={"place": PARTS[measure], "at": "half way at step"})
        )
        st.markdown(
            "**Half way:** the step from which on the distance to the last checkpoint is at most "
            "half of what it was at first."
        )
        st.dataframe(
            half, hide_index=True, height=240, width="content", column_config=decimals(half)
        )
    downloads(
        lambda: [figure],
        lambda: changes.table,
        name=f"changes-{run.id}",
        title=f"Changes of {run.title}",
    )


mine = [run for kind in ("train", "finetune") for run in ui.store().list(kind, limit=200)]
runs = {run.id: run for run in mine if len(run.checkpoints) > 1}
# Runs trained from scratch come first: this page shows most about them.
whole = {i: ui.label(run) for i, run in runs.items() if run.kind == "train"}
names = whole | {name: f"{name}, its training" for name in bundled()}
names |= {i: ui.label(run) for i, run in runs.items() if i not in names}
left, right = st.columns([3, 1])
linked = st.query_params.get("run")
# Not bound to the URL by Streamlit: that would put the run's label there instead of its id.
if linked in names and "run shown" not in st.session_state:
    st.session_state["run shown"] = linked
chosen = left.selectbox("Run", list(names), format_func=names.__getitem__, key="run shown")
if chosen is not None:
    st.query_params["run"] = chosen
task = str(right.selectbox("Benchmark", TASKS, key="task", bind="query-params", help=TASK_HELP))
if chosen is None:
    st.info(
        "No run has saved checkpoints yet. Train one with `series = 12` under [train].",
        icon=":material/info:",
    )
    page_link("train", "Train", icon=":material/model_training:")
    st.stop()
run = runs.get(chosen)
snippet = ""
if run is None or run.kind == "train":
    try:
        learned(chosen, run, task)
    except WorkbenchError as error:
        note(error)
    snippet = f"""\
from workbench.comparison.dynamics import dynamics

history = dynamics({chosen!r}, task={task!r})
print(history.to_frame(), history.rise())
"""
if run is None:
    st.caption(
        "The checkpoints of bundled models are not shipped. For your own runs this page also "
        "shows how each head and layer changed."
    )
else:
    if run.kind == "finetune":
        st.subheader("When did its answers change?")
        answered(run)
        snippet += f"""\
from workbench.comparison import behaviour_series

print(behaviour_series({run.id!r}))
"""
    st.subheader("When did each part change?")
    changed(run)
    snippet += f"""
from workbench.comparison import checkpoint_series

changes = checkpoint_series({run.id!r}, against="last")
print(changes.half_way("heads"), changes.grid("weights"))
"""
same_in_python(snippet)
