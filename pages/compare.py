"""Compare: what fine-tuning changed in behaviour, with paired intervals, and in which heads."""

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.benchmarks import Results, minimal_detectable_difference, suites
from workbench.comparison import HeadShift, head_shift
from workbench.errors import WorkbenchError
from workbench.figures import attention as draw_attention
from workbench.figures import comparison as draw
from workbench.figures import scores as draw_scores
from workbench.figures.style import head_name
from workbench.interp.attention import Attention
from workbench.subjects import resolve
from workbench.ui import evaluations as ev
from workbench.ui import runs as ui
from workbench.ui.charts import chart, downloads
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import alone, cached_load, pick_name
from workbench.ui.words import plain_name, short_names

TEXT = "Request: please wake me up at half past six tomorrow\nIntent:"


@st.cache_data(max_entries=64, show_spinner=False)
def compared(_results: dict[str, Results], base: str, tuned: str, run_id: str) -> pd.DataFrame:
    return ev.compared(_results, base, tuned)


@st.cache_data(max_entries=16, show_spinner="Comparing every head's attention on eight texts")
def shift(hashes: tuple[str, str], _base: wb.Subject, _tuned: wb.Subject) -> HeadShift:
    first, second = sorted(set(hashes))[0], sorted(set(hashes))[-1]
    with alone(first), alone(second):  # always in one order, so that two sessions cannot wait for each other
        return head_shift(_base, _tuned)


@st.cache_resource(max_entries=8, show_spinner="Reading the attention of every head")
def read(sha256: str, text: str, _subject: wb.Subject) -> Attention:
    with alone(sha256):
        return wb.attention(_subject, text)


def behaviour(base: str, tuned: str) -> None:
    st.subheader("Does it behave differently?")
    known = [name for name, suite in suites().items() if not suite.problem]
    left, middle, words, button = st.columns([2, 2, 5, 2], vertical_alignment="bottom")
    suite = left.selectbox("Suite", known, known.index("core"), key="suite", bind="query-params")
    limit = int(middle.number_input("Items a task", 1, value=50, step=50, key="limit", bind="query-params") or 50)
    least = minimal_detectable_difference(limit)
    words.caption(f"{limit} items a task show differences in accuracy from about {least:.2f} (80 % power, p < 0.05).")
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
            f"Not measured on {suite} yet: {' and '.join(short_names((base, tuned)).values())}. Press Measure: it runs "
            "in the background, about a minute for the bundled pair on core; the heads below need not wait.",
            icon=":material/scoreboard:",
        )
        return
    ui.live(run.id)
    if run.status == "done":
        measured(run, *exact, limit)


def measured(run, base: str, tuned: str, limit: int) -> None:
    if (used := run.config.get("limit")) != limit:
        more = f"; measure again for {limit}" if used and used < limit else ""
        st.caption(f"Measured with {used or 'all'} items a task{more}.")
    found = ev.results_of(run)
    try:
        table = compared(found, base, tuned, run.id)
    except WorkbenchError as error:
        st.warning(str(error))
        return
    short = short_names((base, tuned))
    base, tuned = short[base], short[tuned]
    st.markdown(ev.verdicts(table, base, tuned))
    figure = draw_scores.differences(table, base=base, tuned=tuned)
    chart(figure, key="differences", name=f"differences-{run.id}", alt="Paired differences with 95 % intervals")
    st.caption(
        "Filled: the 95 % interval (paired bootstrap over the same items) leaves out 0. p is corrected over "
        "tasks (Benjamini-Hochberg)."
    )
    with st.expander("As a table"):
        st.dataframe(table.drop(columns="higher_is_better"), hide_index=True, column_config=ev.decimals(table))
    downloads(
        lambda: [figure],
        lambda: table,
        name=f"differences-{run.id}",
        title=f"{tuned} − {base}",
        text=run.title,
    )


def choose(name: str) -> None:
    st.session_state["head"] = name


@st.fragment
def heads(base: wb.Subject, tuned: wb.Subject, found: HeadShift) -> None:
    frame = found.to_frame()
    names = [head_name(i, j) for i in range(found.mean.shape[0]) for j in range(found.mean.shape[1])]
    if st.session_state.get("head") not in names:
        st.session_state.pop("head", None)  # the head of another, larger model
    pick, box = st.columns([1, 4])
    name = pick.selectbox("Head", names, names.index(frame["name"][0]), key="head", bind="query-params")
    text = box.text_area("Text", TEXT, height=70, key="text", bind="query-params")
    layer, head = divmod(names.index(name), found.mean.shape[1])
    left, right = st.columns([3, 2], gap="medium")
    with left:
        figure = draw.head_map(found.mean, found.low, found.high, n=found.n, chosen=(layer, head))
        chart(
            figure,
            key="shift",
            name="head-shift",
            on_click=choose,
            alt="Jensen-Shannon distance of every head",
        )
    with right:
        shown = frame[["name", "distance", "low", "high"]].rename(columns={"name": "head"})

        def choose_row() -> None:
            if rows := st.session_state["changed"].selection.rows:
                choose(shown["head"][rows[0]])

        st.dataframe(
            shown,
            hide_index=True,
            height=figure.layout.height,
            column_config=ev.decimals(shown),
            on_select=choose_row,
            selection_mode="single-row",
            key="changed",
        )
    patterns(base, tuned, name, (layer, head), text or "")
    downloads(
        lambda: [figure],
        found.to_frame,
        name="head-shift",
        title=f"Attention of {found.tuned} against {found.base}",
    )


def patterns(base: wb.Subject, tuned: wb.Subject, name: str, place: tuple[int, int], text: str) -> None:
    try:
        pair = [read(subject.hash, text, subject) for subject in (base, tuned)]
    except WorkbenchError as error:
        st.warning(str(error))
        return
    for side, column, found in zip(("base", "tuned"), st.columns(2, gap="medium"), pair, strict=True):
        with column:
            figure = draw_attention.head(found.head(*place), found.tokens, title=f"{found.subject}, {name}", height=460)
            file = f"{plain_name(found.subject)}-{name}"
            chart(figure, key=f"pattern of {side}", name=file, alt=f"Attention of {name} in {found.subject}")


def inside(base: str, tuned: str) -> None:
    st.subheader("Which heads look elsewhere?")
    try:
        first, second = cached_load(base), cached_load(tuned)
        found = shift((first.hash, second.hash), first, second)
    except WorkbenchError as error:
        st.info(f"The heads cannot be compared: {error}", icon=":material/info:")
        return
    st.caption(
        f"How far each head's attention moved on the same {found.n} texts: Jensen-Shannon distance, 0 = the "
        "same, 1 = nothing in common; 95 % intervals over the texts. Click a head to see both patterns."
    )
    heads(first, second, found)


st.title("What did fine-tuning change?")
st.caption("Two models on the same items and texts: whether the difference is real, and which heads changed.")
left, right = st.columns(2)
with left:
    base = pick_name("Base", key="base", default="shelf-base")
with right:
    tuned = pick_name("Tuned", key="tuned", default="shelf-tuned")
if resolve(base) == resolve(tuned):
    st.info("Base and tuned are the same model: every difference is exactly 0.", icon=":material/info:")
behaviour(base, tuned)
inside(base, tuned)
same_in_python(f"""\
import workbench as wb

found = wb.compare({base!r}, {tuned!r}, suite="core", limit=50)
print(found.table)  # paired differences with 95 % intervals
print(found.heads.to_frame().head() if found.heads else found.notes)
""")
