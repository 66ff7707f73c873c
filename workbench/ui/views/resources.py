"""The Resources page: costs before a start, what runs now, and a scaling law."""

import io
from typing import Any

import pandas as pd
import streamlit as st

from workbench.budget.costs import KINDS, MOST_GPUS, Costs, costs, in_words
from workbench.budget.free import free
from workbench.budget.gpus import GPUS
from workbench.budget.machine import Machine, machine
from workbench.budget.scaling import ScalingLaw, scaling_law
from workbench.budget.usage import Usage, usage
from workbench.errors import WorkbenchError
from workbench.figures import budget as draw
from workbench.statistics.words import bracketed
from workbench.store import Run
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.models import forget, pick_name
from workbench.ui.parts.notices import fault, note, notices
from workbench.ui.parts.runs import label
from workbench.ui.parts.titles import store
from workbench.ui.parts.words import duration

EVERY = 3.0
"""Seconds between two looks at what runs."""
KEPT_S = 600
"""Seconds for which costs are shown as they were computed."""
EXAMPLE = """parameters,loss
12464,2.391
27912,2.164
49504,2.086
111120,1.984
197312,1.923
443424,1.872
787840,1.831
"""
"""Points that are shown until others are given: seven widths of `shakespeare-char`, 240 steps."""


# -- costs --


def choices() -> list[str]:
    """Everything that the page offers to cost."""
    from workbench.benchmarks.suites import suites
    from workbench.training import recipe

    return [*KINDS, *recipe.names(), *suites()]


def pick() -> dict[str, Any]:
    """The controls of the costs; what they say, as arguments of `costs`."""
    left, middle, right = st.columns([2, 2, 1], vertical_alignment="bottom")
    what = left.selectbox(
        "What",
        choices(),
        key="what",
        bind="query-params",
        accept_new_options=True,
        help="All recipes, all suites, a patching map, one recipe or suite; or type the file of a "
        "sweep's plan or the name of a task.",
    )
    gpus = middle.multiselect("Also on", list(GPUS), key="gpus", bind="query-params")
    n_gpus = right.number_input(
        "How many", 1, MOST_GPUS, 1, key="n_gpus", bind="query-params", disabled=not gpus
    )
    arguments: dict[str, Any] = {"what": str(what or "recipes"), "gpus": tuple(gpus)}
    arguments["n_gpus"] = int(n_gpus)
    if not _is_training(arguments["what"]):
        with left:
            arguments["model"] = pick_name()
    return arguments


def _is_training(what: str) -> bool:
    from workbench.training import recipe

    return what == "recipes" or what in recipe.names() or what.endswith(".toml")


@st.cache_data(ttl=KEPT_S, max_entries=32, show_spinner="Counting operations")
def costed(arguments: dict[str, Any]) -> Costs:
    """The costs, computed once for all sessions."""
    return costs(**arguments)


def figures_of(here: Machine) -> None:
    """What this machine reached when it was measured, and a button to measure it again."""
    columns = st.columns(5)
    shown = (
        ("fp32, TFLOP/s", f"{max(here.fp32_gflops) / 1000:.3g}"),
        ("bf16, TFLOP/s", f"{max(here.bf16_gflops) / 1000:.3g}"),
        ("Memory", f"{here.bandwidth_gbs:.0f} GB/s"),
        ("Disk", f"{here.disk_mbs:,.0f} MB/s"),
        ("GPU", here.gpu or "none"),
    )
    for column, (name, value) in zip(columns, shown, strict=True):
        column.metric(name, value)
    with st.container(horizontal=True, vertical_alignment="center"):
        when = pd.Timestamp(here.measured, unit="s").strftime("%d %b %Y")
        busy = "; others were at work then" if "others" in here.headline() else ""
        st.caption(
            f"{here.processor}, {here.threads} of {here.cores} threads, {here.memory_gb:.0f} GiB; "
            f"measured on {when}{busy}."
        )
        if st.button("Measure again", icon=":material/speed:", key="measure"):
            machine(again=True)
            costed.clear()
            st.rerun()


def results(result: Costs) -> None:
    """The table, the figure and what was assumed."""
    frame = result.to_frame()
    shown = pd.DataFrame(
        {
            "what": frame["what"],
            "on": frame["on"],
            "time": ["" if pd.isna(s) else in_words(s) for s in frame["seconds"]],
            "memory": frame["memory_gb"],
            "fits": [{True: "yes", False: "no"}.get(fits, "") for fits in frame["fits"]],
            "energy": frame["kwh"],
            "operations": frame["flops"] / 1e9,
            "assumed": frame["note"],
        }
    )
    st.dataframe(
        shown,
        hide_index=True,
        height=40 + 36 * min(len(shown), 14),
        column_config={
            "time": st.column_config.TextColumn(width=95),
            "memory": st.column_config.NumberColumn("memory (GiB)", format="%.2f"),
            "energy": st.column_config.NumberColumn("energy (kWh, estimate)", format="%.2g"),
            "operations": st.column_config.NumberColumn("operations (10⁹)", format="compact"),
        },
    )
    figure = draw.costs(frame)
    if figure is not None:
        chart(figure, name="costs", key="costs figure")
    for sentence in result.assumed:
        st.caption(sentence)
    downloads(
        lambda: [figure] if figure is not None else [],
        result.to_frame,
        name="costs",
        title="Costs before the start",
    )


# -- now --


def now() -> None:
    """What runs, redrawn every few seconds, and the button that frees memory."""

    @st.fragment(run_every=EVERY)
    def watch() -> None:
        _used(usage())

    watch()
    if st.button(
        "Free memory",
        icon=":material/mop:",
        key="free",
        help="Unloads all models and empties the caches of all sessions; what is needed again is "
        "loaded and computed again.",
    ):
        freed = free(forget)
        note(
            f"This process had {freed.before_gb:.2f} GiB in memory and has {freed.after_gb:.2f}.",
            icon=":material/mop:",
        )


def _used(result: Usage) -> None:
    """The machine's figures, and a table of runs."""
    own = next(use for use in result.uses if not use.run)
    columns = st.columns(4)
    columns[0].metric("Cores in use", f"{result.cpu:.1f} of {result.cores}")
    columns[1].metric(
        "Memory free", f"{result.available_gb:.1f} GiB", help=f"Of {result.memory_gb:.1f} GiB."
    )
    columns[2].metric("This app", f"{own.memory_gb:.2f} GiB", help=f"{own.cpu:.2f} cores just now.")
    columns[3].metric(
        "GPU free", f"{result.gpu_free_gb:.1f} GiB" if result.gpu_memory_gb else "none"
    )
    if result.models:
        pairs = zip(result.models, result.model_gb, strict=True)
        st.caption("Models in memory: " + ", ".join(f"{name} ({gb:.2f} GiB)" for name, gb in pairs))
    runs = [use for use in result.uses if use.run]
    if not runs:
        st.caption("No run is active.")
        return
    rows = [
        {
            "run": use.what,
            "kind": use.kind,
            "for": duration(use.seconds),
            "done": use.progress,
            "cores": use.cpu,
            "memory (GiB)": use.memory_gb,
            "processes": use.processes,
            "note": use.note,
        }
        for use in runs
    ]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        column_config={
            "done": st.column_config.ProgressColumn(format="percent"),
            "cores": st.column_config.NumberColumn(format="%.2f"),
            "memory (GiB)": st.column_config.NumberColumn(format="%.2f"),
        },
    )


# -- scaling law --


def pick_runs() -> Any:
    """The runs that were chosen, else the points in a text; as `scaling_law` takes them."""
    listed = [
        run for run in store().list(limit=500) if run.kind == "train" and run.status == "done"
    ]
    by_id: dict[str, Run] = {run.id: run for run in listed}
    chosen = st.multiselect(
        "Pretraining runs",
        list(by_id),
        format_func=lambda run_id: label(by_id[run_id]) if run_id in by_id else run_id,
        key="runs",
        bind="query-params",
        placeholder="Choose runs of several sizes, trained alike",
    )
    if chosen:
        return list(chosen)
    text = st.text_area(
        "Or points", EXAMPLE, key="points", height=215, help="CSV: parameters, loss; also tokens."
    )
    try:
        return pd.read_csv(io.StringIO(text or ""))
    except (ValueError, pd.errors.ParserError) as error:
        raise WorkbenchError(f"The points are no CSV table ({error}); see the example.") from error


def pick_place() -> float | None:
    """Millions of parameters to predict for, as parameters; None for ten times the largest."""
    text = st.number_input(
        "Predict for (million parameters)",
        min_value=0.0,
        value=0.0,
        key="at",
        bind="query-params",
        help="0: ten times the largest run.",
    )
    return float(text) * 1e6 or None


def law_of(runs: Any, at: float | None) -> ScalingLaw | None:
    """The law; None where there is none, and then the reason is shown."""
    try:
        return scaling_law(runs, at=at)
    except WorkbenchError as error:
        fault(error)
        return None


def law(result: ScalingLaw) -> None:
    """The prediction, the exponent, the check, and the figure."""
    columns = st.columns(4)
    columns[0].metric(f"Loss at {result.at:,.0f}", f"{result.predicted:.3f}")
    columns[0].caption(f"{bracketed(result.low, result.high, '.3f')}, one run, n = {result.n}")
    columns[1].metric("Exponent", f"{result.alpha:.3f}")
    columns[1].caption(bracketed(result.alpha_low, result.alpha_high, ".3f"))
    columns[2].metric("Never below", f"{result.e:.3f}", help="The law's irreducible loss E.")
    columns[2].caption(f"a run differs by {result.error:.4f}")
    held = result.held_out
    columns[3].metric(
        "Held-out check",
        "too few" if held is None else f"{held.predicted:.3f}",
        help="What the law predicts for the largest run if it is fitted without it.",
    )
    if held is not None:
        inside = "inside" if held.inside else "OUTSIDE"
        columns[3].caption(
            f"{bracketed(held.low, held.high, '.3f')}; it has {held.loss:.3f}, {inside}"
        )
    notices(result.warnings)
    figure = draw.scaling(result)
    chart(figure, name="scaling-law", key="law figure")
    downloads(lambda: [figure], result.to_frame, name="scaling-law", title="Scaling law")


def in_python(runs: Any, at: float | None) -> str:
    """The same in Python."""
    points = runs if isinstance(runs, list) else list(runs.itertuples(index=False, name=None))
    given = ", ".join(repr(tuple(one) if not isinstance(one, str) else one) for one in points)
    return f"""\
import workbench as wb

law = wb.scaling_law([{given}], at={at!r})
print(law, law.held_out)
print(law.to_frame())
"""
