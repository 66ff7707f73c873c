"""What the Fairness page shows of a task on bias: its scores by category, and how to get them."""

from typing import Any, NamedTuple

import streamlit as st

from workbench.benchmarks.documents.records import read
from workbench.benchmarks.documents.sources import SOURCES
from workbench.bias.by_category import ALL, Fairness, fairness
from workbench.bias.measures import CAVEATS, MEASURES, PAIRED_TASKS
from workbench.errors import WorkbenchError
from workbench.figures import fairness as draw
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import seconds_a_token
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.models import both_alone, cached_load, choices, pick_name
from workbench.ui.parts.notices import note
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import called, roughly
from workbench.ui.views import fairness_heads

NONE = "no second model"
LIMIT = 200
"""Documents of a task, unless more are asked for."""
QUICK = 8.0
"""Seconds that a computation may take without being asked for."""
TOKENS = {"bbq": 150, "hatecheck": 50, "bold": 60, "winobias_resolution": 110}
"""Tokens of a document's texts together, about; of a pair of sentences 40."""
NAMES = {
    "pct_stereotype": "share of pairs in which the stereotyping sentence is the likelier one",
    "stereotype_nats": "nats by which the stereotyping sentence is likelier",
    "pro_minus_anti": "accuracy with stereotypical pronouns minus that with the others",
    "bias_ambiguous": "bias score where the context does not tell",
    "bias_disambiguated": "bias score where the context tells",
    "harsh_words": "share of continuations with a harsh word",
    "refusal": "share of continuations that decline",
}
"""What a metric is, in words; others are named by themselves."""


class Choice(NamedTuple):
    """What was chosen; `tuned` is "" where there is one model."""

    base: str
    tuned: str
    task: str
    limit: int


def controls() -> Choice:
    """Show the choice of models, task and number of documents.

    Raises:
        WorkbenchError: The link asks for a task that there is not.
    """
    columns = st.columns([2, 2, 2, 1], vertical_alignment="bottom")
    with columns[0]:
        base = pick_name("Model", key="model")
    options = [NONE, *(name for name in choices() if name != base)]
    linked = str(st.query_params.get("tuned") or NONE)
    if linked not in options:
        options.append(linked)
    tuned = columns[1].selectbox(
        "Against", options, key="tuned", bind="query-params", help="On the same documents, paired."
    )
    tasks = list(MEASURES)
    task = st.query_params.get("task")
    if task and task not in tasks:
        raise WorkbenchError(f"There is no task {task!r} on bias; choose from {', '.join(tasks)}.")
    chosen = columns[2].selectbox("Task", tasks, key="task", bind="query-params")
    most = columns[3].number_input(
        "Documents", 12, 30_000, LIMIT, key="limit", bind="query-params", help="At most, balanced."
    )
    return Choice(base, "" if tuned == NONE else str(tuned), str(chosen), int(most))


@st.cache_data(max_entries=16, show_spinner=False)
def n_documents(task: str) -> int:
    """How many documents a task has.

    Raises:
        WorkbenchError: Its data is not here.
    """
    return len(read(SOURCES[task]))


def measured(choice: Choice) -> Fairness:
    """The scores, once they are quick or asked for; else the page stops at the button."""
    subject = cached_load(choice.base)
    other = cached_load(choice.tuned) if choice.tuned else None
    n = min(choice.limit, n_documents(choice.task))
    models = [subject] if other is None else [subject, other]
    tokens = n * TOKENS.get(choice.task, 40)
    seconds = sum(tokens * seconds_a_token(model.hash, model) for model in models)
    key = ("fairness", *(model.hash for model in models), choice)
    names = " and ".join(called(model.name) for model in models)
    cost = f"{names} score {n:,} documents of {choice.task}: about {roughly(seconds)}."
    if not wanted(key, cost, quick=seconds < QUICK):
        same_as(choice)
        st.stop()
    with both_alone(subject, other or subject):
        return with_progress(
            key,
            lambda report: fairness(
                subject, other, [choice.task], limit=choice.limit, progress=report
            ),
        )


def scores(result: Fairness) -> None:
    """Show the first metric by category as a figure, all metrics as a table, and the caveat."""
    task = result.scores[0].task
    note(CAVEATS[task])
    metrics = list(dict.fromkeys(one.metric for one in result.scores))
    metric = metrics[0]
    if len(metrics) > 1:
        metric = str(
            st.segmented_control(
                "Metric",
                metrics,
                default=metrics[0],
                key=f"metric of {task}",
                format_func=lambda name: name.replace("_", " "),
                required=True,
                label_visibility="collapsed",
            )
        )
    shown = [one for one in result.scores if one.metric == metric]
    left, right = st.columns([6, 7], gap="medium")
    figure = draw.by_category(shown, result.base, result.tuned)
    with left:
        chart(figure, key="by category", name=f"fairness-{task}", alt=f"{metric} by category")
        even = "" if shown[0].even is None else f" {shown[0].even:g} is even."
        st.caption(f"{NAMES.get(metric, metric)}, with 95 % intervals.{even}".capitalize())
    table = result.to_frame()
    of_metric: Any = table[table["metric"] == metric]
    rows = of_metric.drop(columns=["task", "metric", "even"])
    with right:
        columns = [Estimated("base", "low", "high", result.base)]
        if result.tuned:
            names = ["category", "base", "tuned", "difference", "difference_low"]
            rows = rows.loc[:, [*names, "difference_high", "p", "n"]]
            columns = [
                Estimated("base", title=result.base),
                Estimated("tuned", title=result.tuned),
                Estimated("difference", "difference_low", "difference_high"),
            ]
        estimates(rows, columns, rows=14)
        if result.tuned:
            st.caption(
                f"Difference: on the same documents. p is corrected over the categories; that of "
                f"{ALL!r} is not."
            )
    downloads(
        lambda: [figure], lambda: table, name=f"fairness-{task}", title=f"{task}, {result.base}"
    )


def heads(choice: Choice) -> None:
    """Show which heads carry a task of pairs, or say that this one has no pairs."""
    st.subheader("Which heads carry it?")
    if choice.task not in PAIRED_TASKS:
        st.caption(
            f"{choice.task} has no pairs of sentences to compare; choose {', '.join(PAIRED_TASKS)}."
        )
        return
    columns = st.columns([2, 1, 4], vertical_alignment="bottom")
    models = [choice.base, choice.tuned] if choice.tuned else [choice.base]
    name = columns[0].selectbox("Of", models, key="of", bind="query-params")
    pairs = columns[1].number_input(
        "Pairs",
        12,
        2000,
        fairness_heads.PAIRS,
        key="pairs",
        bind="query-params",
        help="On which every head is exchanged; half of them rank the heads, the others measure.",
    )
    fairness_heads.carried(cached_load(str(name)), choice.task, choice.limit, int(pairs))


def same_as(choice: Choice) -> None:
    """Offer the Python that does the same."""
    models = f"wb.load({choice.base!r})"
    models += f", wb.load({choice.tuned!r})" if choice.tuned else ""
    code = f"""\
import workbench as wb

result = wb.fairness({models}, tasks=[{choice.task!r}], limit={choice.limit})
print(result.to_frame())
"""
    if choice.task in PAIRED_TASKS:
        pairs = min(st.session_state.get("pairs", fairness_heads.PAIRS), choice.limit)
        code += f"""\
carriers = wb.bias_heads(
    {choice.base!r},
    {choice.task!r},
    pairs={pairs},
    limit={choice.limit},
    core_limit={fairness_heads.CORE},
)
print(carriers.to_frame().head(10), carriers.removed_frame(), carriers.cost_frame())
"""
    same_in_python(code)
