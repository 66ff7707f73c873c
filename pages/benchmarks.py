"""Benchmarks: evaluate models on a suite; see scores with intervals and the samples behind them."""

import itertools
import json
from typing import Any

import pandas as pd
import streamlit as st

from workbench.benchmarks import Results, suites
from workbench.benchmarks.results.export import harness_json, report
from workbench.benchmarks.results.leaderboard import leaderboard
from workbench.errors import WorkbenchError
from workbench.figures import scores as draw
from workbench.store import Run
from workbench.ui.parts import runs as ui
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.models import choices
from workbench.ui.parts.notices import plain, warn
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.titles import bare, option, titled
from workbench.ui.parts.words import duration, interval_text, short_names
from workbench.ui.views import benchmarks as ev
from workbench.ui.views import benchmarks_samples, benchmarks_trust


@st.cache_data(max_entries=64, show_spinner="Comparing the models on the same samples")
def compared(
    _results: dict[str, Results], base: str, tuned: str, run_id: str, rows: int
) -> pd.DataFrame:
    """Paired differences per task, cached by run and by how many rows it has so far."""
    return ev.compared(_results, base, tuned)


def controls() -> tuple[list[str], str, int, dict[str, Any]]:
    """Models, suite, limit, and a dict of seed, shots and variants; all in the URL."""
    chosen_suite = str(st.session_state.get("suite") or st.query_params.get("suite", "core"))
    options = ev.offered(chosen_suite, st.query_params.get_all("models"))
    default = [name for name in ev.PAIR if name in options] or options[:1]
    known = [name for name, suite in suites().items() if not suite.problem]
    left, middle, limit_box, seed_box = st.columns([6, 3, 2, 2])
    models = left.multiselect(
        "Models",
        options,
        default,
        format_func=option,
        key="models",
        bind="query-params",
        accept_new_options=True,
        help="The first one is the base of comparisons. You can type a folder, a .gguf file or a "
        "Hugging Face id.",
    )
    suite = middle.selectbox("Suite", known, known.index("core"), key="suite", bind="query-params")
    limit = limit_box.number_input(
        "Items per task",
        1,
        value=50,
        step=50,
        key="limit",
        bind="query-params",
        help="A random subset, fixed by the seed.",
    )
    seed = seed_box.number_input(
        "Seed", 0, value=0, key="seed", bind="query-params", help="Seed of the subset."
    )
    shots_box, vary_box, _ = st.columns([3, 5, 5], vertical_alignment="bottom")
    shots = shots_box.selectbox(
        "Examples before each question",
        ["as the task says", "0", "1", "2", "3", "5"],
        key="shots",
        bind="query-params",
        help="Few-shot examples: solved questions placed before each one, where the task allows "
        "them.",
    )
    vary = vary_box.toggle(
        "Also vary the prompt",
        key="vary",
        bind="query-params",
        help="Runs each task again with two examples and with other prompts, to show how much the "
        "score depends on them.",
    )
    more = {"seed": int(seed or 0), "shots": int(shots) if shots.isdigit() else None}
    return (
        list(map(bare, models)),
        suite,
        int(limit or 50),
        {**more, "variants": list(ev.VARIANTS) if vary else []},
    )


def plan(models: list[str], suite: str, limit: int, variants: list[str]) -> None:
    """The tasks that would run, the smallest detectable difference, and missing data sets.

    Args:
        models: Names of the models.
        suite: Name of the suite.
        limit: Items per task.
        variants: Other ways each task is asked.
    """
    chosen_suite = suites()[suite]
    absent = ev.missing(chosen_suite)
    tasks = [task for task in chosen_suite.tasks if task not in absent]
    st.caption(
        f"{chosen_suite.description} **{len(tasks)} tasks ({', '.join(tasks) or 'none'}), at most "
        f"{limit * len(tasks) * len(models):,} items.** "
        f"{ev.detectable(limit, paired=len(models) > 1)} {expected(models, tasks, limit, variants)}"
    )
    if absent:
        st.caption(
            f":material/cloud_off: Not on this machine: {', '.join(absent)}. Set WORKBENCH_DATA to "
            "a folder that has them, or connect to the network; otherwise they are skipped."
        )
    for broken in (s for s in suites().values() if s.problem):
        st.caption(f":material/warning: {plain(broken.problem)}")


def expected(models: list[str], tasks: list[str], limit: int, variants: list[str]) -> str:
    """A sentence with the expected duration, from earlier runs on this machine.

    Args:
        models: Names of the models.
        tasks: Names of the tasks.
        limit: Items per task.
        variants: Other ways each task is asked.
    """
    seconds = ev.expected_seconds(models, tasks, limit)
    if seconds is None:
        return "No earlier run to estimate the time from; the run shows it once it has started."
    total = duration(seconds * (1 + len(variants)))
    return f"Estimated time, from earlier runs on this machine: **{total}**."


def first_visit(limit: int) -> None:
    """What is shown before the first evaluation: an explanation and a button for a quick one."""
    st.info(
        "No evaluation yet. It runs in the background: you can leave the page, close the browser "
        "or restart the app, and find its scores, intervals and samples here later.",
        icon=":material/scoreboard:",
    )
    pair = [name for name in ev.PAIR if name in choices()]
    words = f"Try it: core suite on {' and '.join(pair)}, about a minute"
    if pair and ui.pressed(st.button, words, "try", icon=":material/play_arrow:"):
        ui.follow(ev.start(pair, "core", limit).id)


def progress(run: Run) -> None:
    """The scores that an active run has so far."""
    scored = ev.rows(ev.results_of(run))
    if run.active and len(scored):
        st.table(ev.score_table(scored), hide_index=True, border="horizontal")


def scores(run: Run, results: dict[str, Results]) -> None:
    """The score table, its chart, the spread over prompts, published scores and downloads."""
    table = ev.rows(results)
    st.table(ev.score_table(table), hide_index=True, border="horizontal")
    for note in dict.fromkeys(
        f"{task}: {note}" for task, note in zip(table["task"], table["note"], strict=True) if note
    ):
        st.caption(f":material/info: {note}")
    ev.explain(table)
    figure = draw.dots(table)
    chart(
        figure,
        key="dots",
        name=f"scores-{run.id}",
        alt="Score of each model on each task with 95 % intervals",
    )
    st.caption(
        "Brackets and bars are 95 % intervals: exact for accuracies, otherwise a t interval "
        "corrected for skewness; where items share a passage, they are clustered by passage."
    )
    moved = ev.spread(table)
    if len(moved):
        st.markdown("**How much does the score depend on the prompt?**")
        st.dataframe(moved, hide_index=True, column_config=ev.decimals(moved))
    benchmarks_trust.published(results)
    every = ev.rows(results, headlines=False)
    with st.container(horizontal=True):
        downloads(
            lambda: [figure],
            lambda: every,
            name=f"scores-{run.id}",
            title=run.title,
            text=json.dumps(run.config),
        )
        st.download_button(
            "Results (lm-eval's JSON)",
            lambda: json.dumps([harness_json(result) for result in results.values()], indent=2),
            f"results-{run.id}.json",
            "application/json",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "Report (HTML)",
            lambda: report(
                dict(zip(short_names(results).values(), results.values(), strict=True)),
                title=run.title,
            ),
            f"report-{run.id}.html",
            "text/html",
            icon=":material/download:",
            on_click="ignore",
        )


def differences(run: Run, results: dict[str, Results]) -> None:
    """Paired differences of two models, task by task: in words, as a chart and as a table."""
    names = list(results)
    left, right, _ = st.columns([2, 2, 3])
    short = short_names(names)
    base = left.selectbox("Base", names, 0, format_func=short.__getitem__)
    others = [name for name in names if name != base]
    tuned = right.selectbox("Compared with it", others, format_func=short.__getitem__)
    table = compared(
        results, base, tuned, run.id, sum(len(result.rows) for result in results.values())
    )
    base = short[base]
    tuned = short[tuned]
    st.markdown(ev.verdicts(table, base, tuned))
    figure = draw.differences(table, base=base, tuned=tuned)
    chart(
        figure,
        key="differences",
        name=f"differences-{run.id}",
        alt="Paired differences with 95 % intervals",
    )
    st.caption(
        "Filled dots: the 95 % interval excludes 0, which is the same as an uncorrected p below "
        "0.05. Accuracies: McNemar's exact test and Tango's interval; other metrics: a paired t "
        "test corrected for skewness."
    )
    ev.explain(table)
    st.dataframe(
        table.drop(columns="higher_is_better"), hide_index=True, column_config=ev.decimals(table)
    )
    downloads(
        lambda: [figure],
        lambda: table,
        name=f"differences-{run.id}",
        title=f"{tuned} − {base}",
        text=run.title,
    )


def browse(run: Run, results: dict[str, Results]) -> None:
    """The samples behind the scores, filtered by which model was right, and their downloads."""
    pair = list(results)[:2] if len(results) > 1 else [None, None]
    if len(results) > 2:
        short = short_names(list(results))
        pairs = list(itertools.combinations(results, 2))
        pair = st.selectbox(
            "Compare the answers of",
            pairs,
            format_func=lambda two: " and ".join(short[name] for name in two),
        )
    benchmarks_samples.browse(results, *pair)
    frames = [result.samples.assign(model=name) for name, result in results.items()]
    with st.container(horizontal=True):
        st.download_button(
            "All samples (CSV)",
            lambda: pd.concat(frames).to_csv(index=False),
            f"samples-{run.id}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
        st.download_button(
            "All samples (Parquet)",
            lambda: pd.concat(frames).to_parquet(index=False),
            f"samples-{run.id}.parquet",
            "application/vnd.apache.parquet",
            icon=":material/download:",
            on_click="ignore",
        )


def cut_short(run: Run) -> None:
    """A button that continues a run that was stopped or failed."""
    if run.status not in ("cancelled", "failed", "interrupted"):
        return
    if ui.pressed(
        st.button, "Continue where it stopped", f"go on {run.id}", icon=":material/resume:"
    ):
        ui.follow(ev.go_on(run).id)


def boards() -> None:
    """A leaderboard of all stored evaluations, in groups that measured exactly the same thing."""
    leaderboards = leaderboard(ev.stored())
    if not leaderboards:
        return
    groups = "1 group" if len(leaderboards) == 1 else f"{len(leaderboards)} groups"
    with st.expander(f"Leaderboard: all stored evaluations, {groups} that can be compared"):
        titles = {board.title: board for board in leaderboards}
        board = titles[str(st.selectbox("Measured", list(titles), key="board"))]
        rows = []
        for (model, sha), scored in board.models.items():
            cells = {
                task: interval_text(scored[task].value, scored[task].low, scored[task].high)
                for task in board.tasks
                if task in scored
            }
            rows.append({"Model": titled(model), "Weights": sha[:8], **cells})
        st.dataframe(pd.DataFrame(rows), hide_index=True)
        st.caption(
            "Each task's main metric with its 95 % interval. A group shares the suite version, "
            "the data hash (documents, prompts, shots), the limit and the seed."
        )


def show(run: Run) -> None:
    """The results of a run that has ended, in the chosen view."""
    every = ev.results_of(run)
    for name, result in every.items():
        for task, why in result.skipped:
            st.caption(f":material/cloud_off: {plain(f'{name}: {task} was skipped. {why}')}")
    results = {name: result for name, result in every.items() if result.rows}
    if not results:
        st.caption("No task of this run was scored.")
        return
    views = {
        "Scores": scores,
        "Differences": differences,
        "Reliability": benchmarks_trust.reliability,
        "Samples": browse,
    }
    if len(results) < 2:
        views.pop("Differences")
    view = st.segmented_control(
        "View",
        list(views),
        default="Scores",
        key="benchmarks_view",
        bind="query-params",
        required=True,
        label_visibility="collapsed",
    )
    try:
        views[view or "Scores"](run, results)
    except WorkbenchError as error:
        warn(error)


st.title("How good is it, and is the other one better?")
st.caption(
    "Evaluate models on lm-evaluation-harness tasks: every score has an interval, and you can "
    "read the samples behind it."
)
models, suite, limit, more = controls()
words, button = st.columns([6, 1], vertical_alignment="center", gap="medium")
with words:
    plan(models, suite, limit, more["variants"])
look = {"type": "primary", "icon": ":material/play_arrow:", "width": "stretch"}
if ui.pressed(button.button, "Start", "start", disabled=not models, **look):
    ui.follow(ev.start(models, suite, limit, **more).id)
picked = ui.pick_run("Evaluation", ui.store().list("eval", limit=200))
if picked is None:
    first_visit(limit)
else:
    ui.live(picked.id, progress)
    if not picked.active:
        cut_short(picked)
        show(picked)
boards()
same_in_python(f"""\
import workbench as wb
from workbench.benchmarks import compare_results

settings = dict(
    limit={limit},
    seed={more["seed"]},
    num_fewshot={more["shots"]},
    variants={more["variants"]!r},
)
results = [wb.evaluate(name, {suite!r}, **settings) for name in {models!r}]
print(results[0].table()[["task", "metric", "value", "low", "high", "n"]])
if len(results) > 1:
    print(compare_results(results[0], results[1]))
""")
