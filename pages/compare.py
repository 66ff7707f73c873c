"""Compare: what fine-tuning changed in behaviour, predictions, layers, heads and weights."""

from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

import workbench as wb
from workbench.benchmarks import Results, suites
from workbench.comparison import head_shift, score_shift
from workbench.comparison.compare import outcomes
from workbench.comparison.head_scores import head_table
from workbench.comparison.weights import head_change
from workbench.errors import WorkbenchError
from workbench.figures import attention as draw_attention
from workbench.figures import change as draw
from workbench.figures import scores as draw_scores
from workbench.figures.style import head_name
from workbench.interp.patterns.attention import Attention
from workbench.interp.patterns.heads import UNITS
from workbench.store import Run
from workbench.subjects import resolve
from workbench.ui.parts import runs as ui
from workbench.ui.parts.both_heads import all_heads
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.history import first_index
from workbench.ui.parts.models import alone, cached_load, pick_two
from workbench.ui.parts.notices import warn
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import plain_name, short_names
from workbench.ui.views import benchmarks as ev
from workbench.ui.views import benchmarks_samples, compare_several
from workbench.ui.views import compare as views
from workbench.ui.views.compare import TEXT, measured

VIEWS = ["Behaviour", "Text", "Layers", "Heads", "Weights", "Several"]
DISTANCE = "attention (Jensen-Shannon distance)"
WEIGHTS = "weights (relative change)"
SNIPPETS = {
    "Behaviour": """\
print(comparison.table)  # paired differences with 95 % intervals
print(comparison.outcomes())""",
    "Text": """\
print(comparison.text.summary(), comparison.text.texts[0].to_frame())
print(comparison.partings)""",
    "Layers": """\
print(comparison.layers.to_frame(), comparison.lenses.to_frame())
print(comparison.transfer[0].to_frame())""",
    "Heads": "print(comparison.head_table().head())",
    "Weights": "print(comparison.weights.to_frame().head())",
}


@st.cache_data(max_entries=64, show_spinner=False)
def compared(_results: dict[str, Results], base: str, tuned: str, run_id: str) -> pd.DataFrame:
    """Paired differences per task, cached by run."""
    return ev.compared(_results, base, tuned)


@st.cache_resource(max_entries=8, show_spinner="Reading the attention of every head")
def read(sha256: str, text: str, _subject: wb.Subject) -> Attention:
    """The attention of every head on a text, cached by model and text."""
    with alone(sha256):
        return wb.attention(_subject, text)


def behaviour(base: str, tuned: str) -> None:
    """Behaviour view: evaluate both models on a suite and show the paired differences."""
    st.subheader("Does it behave differently?")
    known = [name for name, suite in suites().items() if not suite.problem]
    left, middle, words, button = st.columns([2, 2, 5, 2], vertical_alignment="bottom")
    suite = left.selectbox("Suite", known, known.index("core"), key="suite", bind="query-params")
    limit = int(
        middle.number_input(
            "Items per task", 1, value=50, step=50, key="limit", bind="query-params"
        )
        or 50
    )
    words.caption(ev.detectable(limit, paired=True))
    exact = resolve(base), resolve(tuned)
    run = ev.newest(*exact, suite, limit)
    again = "Measure" if run is None else "Measure again"
    busy = run is not None and run.active
    look = {"type": "primary" if run is None else "secondary", "disabled": busy, "width": "stretch"}
    if ui.pressed(button.button, again, "measure", **look):
        ev.start(exact, suite, limit)
        st.rerun()
    if run is None:
        st.info(
            f"{' and '.join(short_names((base, tuned)).values())} have not been measured on "
            f"{suite} yet. Press Measure to start it in the background (about a minute for the "
            "bundled pair on core); the other views do not need it.",
            icon=":material/scoreboard:",
        )
        return
    ui.live(run.id)
    if run.status == "done":
        shown(run, *exact, limit)


def shown(run: Run, base: str, tuned: str, limit: int) -> None:
    """The paired differences of a finished run: in words, as a chart, and item by item."""
    if (used := run.config.get("limit")) != limit:
        more = f"; measure again for {limit}" if used and used < limit else ""
        st.caption(f"Measured with {used or 'all'} items per task{more}.")
    every = ev.results_of(run)  # the run may have measured more models than these two
    pair = {name: every[name] for name in (base, tuned) if name in every}
    try:
        table = compared(pair, base, tuned, run.id)
    except WorkbenchError as error:
        warn(error)
        return
    short = short_names((base, tuned))
    base = short[base]
    tuned = short[tuned]
    st.markdown(ev.verdicts(table, base, tuned))
    figure = draw_scores.differences(table, base=base, tuned=tuned)
    chart(
        figure,
        key="differences",
        name=f"differences-{run.id}",
        alt="Paired differences with 95 % intervals",
    )
    st.caption(
        "Filled dots: the 95 % interval excludes 0 (uncorrected p below 0.05). The p in the text "
        "is corrected for the number of tasks (Benjamini-Hochberg)."
    )
    st.subheader("Which items?")
    st.markdown(
        "Items by which model got them right. Choose a task below to read them and to see their "
        "attention."
    )
    counts = outcomes(*pair.values())
    st.dataframe(
        counts.rename(columns=lambda c: c.replace("_", " ")), hide_index=True, width="content"
    )
    benchmarks_samples.browse(pair, *pair)
    with st.expander("As a table"):
        st.dataframe(
            table.drop(columns="higher_is_better"),
            hide_index=True,
            column_config=ev.decimals(table),
        )
    downloads(
        lambda: [figure],
        lambda: table,
        name=f"differences-{run.id}",
        title=f"{tuned} − {base}",
        text=run.title,
    )


def choose(name: str) -> None:
    """Select the head with this name."""
    st.session_state["head"] = name


def heads(base: wb.Subject, tuned: wb.Subject) -> None:
    """Heads view: how much each head changed, as a map and a table, and one head in detail."""
    shift = measured("heads", base, tuned, lambda report: head_shift(base, tuned, progress=report))
    scores = measured(
        "scores", base, tuned, lambda report: score_shift(base, tuned, progress=report)
    )
    weights = measured("head weights", base, tuned, lambda report: head_change(base, tuned))
    table = head_table(shift, scores, weights)
    names = [
        head_name(i, j) for i in range(shift.mean.shape[0]) for j in range(shift.mean.shape[1])
    ]
    index = first_index("head", shift.mean.shape, names, str(table["name"].iloc[0]))
    kinds = {DISTANCE: "distance", **({WEIGHTS: "weights"} if weights is not None else {})}
    kinds |= {name.removesuffix("_score").replace("_", " "): name for name in scores.mean}
    pick, sort, box = st.columns([1, 2, 3])
    name = str(pick.selectbox("Head", names, index, key="head", bind="query-params"))
    kind = str(sort.selectbox("Change of", list(kinds), key="change", bind="query-params"))
    text = box.text_area("Text", TEXT, height=70, key="text", bind="query-params")
    place = divmod(names.index(name), shift.mean.shape[1])
    figure = draw_heads(kind, kinds[kind], (shift, scores, weights), place)
    left, right = st.columns([3, 2], gap="medium")
    with left:
        chart(
            figure,
            key="shift",
            name=f"head-{kinds[kind]}",
            on_click=choose,
            alt=f"Change of every head: {kind}",
        )
    with right:
        column = kinds[kind]
        shown: Any = table.sort_values(column, key=abs, ascending=False, kind="stable")
        order = [
            "name",
            column,
            f"{column}_low",
            f"{column}_high",
            "distance",
            "weights",
            *scores.mean,
        ]
        shown = shown[[c for c in dict.fromkeys(order) if c in shown]].reset_index(drop=True)

        def choose_row() -> None:
            if rows := st.session_state["changed"].selection.rows:
                choose(str(shown["head"].iloc[rows[0]]))

        titles = {c: c.removesuffix("_score").replace("_", " ") for c in scores.mean}
        titles |= {"name": "head", f"{column}_low": "low", f"{column}_high": "high"}
        shown.columns = [titles.get(str(name), str(name)) for name in shown.columns]
        layout: Any = figure.layout  # plotly's stubs do not know its attributes
        st.dataframe(
            shown,
            hide_index=True,
            height=layout.height,
            column_config=ev.decimals(shown),
            on_select=choose_row,
            selection_mode="single-row",
            key="changed",
        )
    st.caption(
        f"Attention: Jensen-Shannon distance over {shift.n} texts (0: identical, 1: no overlap). "
        f"Scores: tuned − base over the same {scores.n} random sequences, paired 95 % intervals. "
        "Copying and weights are computed from the weights alone and have no interval. Click a "
        "cell or a row to see both attention patterns."
    )
    patterns(base, tuned, name, place, text or "")
    pair = (str(st.session_state["tuned"]), str(st.session_state["base"]))
    all_heads(pair, text or "", key="both", head=(place[0], place[1]))
    downloads(
        lambda: [figure],
        lambda: table,
        name="heads",
        title=f"Heads of {shift.tuned} against {shift.base}",
    )


def draw_heads(kind: str, column: str, changes: tuple, place: tuple[int, int]) -> go.Figure:
    """The map of one kind of change over all heads, with the chosen head marked."""
    shift, scores, weights = changes
    if column == "distance":
        return draw.head_map(shift.mean, shift.low, shift.high, n=shift.n, chosen=place)
    if column == "weights":
        return draw.head_map(weights, weights, weights, n=0, chosen=place, name=kind)
    unit = f", {UNITS[column]}" if column in UNITS else ""
    ends = scores.mean[column], scores.low[column], scores.high[column]
    n = 0 if column == "copying" else scores.n
    return draw.head_map(*ends, n=n, chosen=place, name=f"{kind}{unit}, tuned − base", signed=True)


def patterns(
    base: wb.Subject, tuned: wb.Subject, name: str, place: tuple[int, int], text: str
) -> None:
    """The attention pattern of one head in both models, side by side."""
    try:
        pair = [read(subject.hash, text, subject) for subject in (base, tuned)]
    except WorkbenchError as error:
        warn(error)
        return
    for side, column, attention in zip(
        ("base", "tuned"), st.columns(2, gap="medium"), pair, strict=True
    ):
        with column:
            figure = draw_attention.head(
                attention.head(*place),
                attention.tokens,
                title=f"{attention.subject}, {name}",
                height=460,
            )
            file = f"{plain_name(attention.subject)}-{name}"
            chart(
                figure,
                key=f"pattern of {side}",
                name=file,
                alt=f"Attention of {name} in {attention.subject}",
            )


st.title("What did fine-tuning change?")
st.caption(
    "Compare a base model with a fine-tuned one: is the difference real, and where in the model "
    "is it?"
)
base, tuned = pick_two()
if resolve(base) == resolve(tuned):
    st.info(
        "Base and tuned are the same model, so every difference is exactly 0.",
        icon=":material/info:",
    )
view = str(
    st.segmented_control(
        "View", VIEWS, default=VIEWS[0], key="compare_view", bind="query-params", required=True
    )
)
if view == "Behaviour":
    behaviour(base, tuned)
else:
    first = cached_load(base)
    second = cached_load(tuned)
    drawn = {
        "Text": views.text,
        "Layers": views.layers,
        "Heads": heads,
        "Weights": views.weights,
        "Several": compare_several.several,
    }
    # A click on a head redraws this view alone.
    draw_view = st.fragment(views.guarded) if view == "Heads" else views.guarded
    draw_view(drawn[view], first, second)
if view == "Several":
    same_in_python(f"""\
from workbench.comparison import series

comparison = series({base!r}, [{tuned!r}])  # any number of models
print(comparison.summary(), comparison.table)
""")
else:
    chosen = (
        [(key, st.session_state.get(key)) for key in ("suite", "limit")]
        if view == "Behaviour"
        else []
    )
    settings = "".join(f", {key}={value!r}" for key, value in chosen)
    same_in_python(f"""\
import workbench as wb

comparison = wb.compare({base!r}, {tuned!r}{settings}, parts=[{view.lower()!r}])
{SNIPPETS[view]}
print(comparison.notes)
""")
