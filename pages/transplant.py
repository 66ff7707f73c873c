"""Transplant: swap parts between a base and a tuned model, and measure the change in behaviour."""

import streamlit as st

import workbench as wb
from workbench.comparison import Located
from workbench.comparison.lineage import fine_tune_of
from workbench.comparison.location.carry import SITES
from workbench.comparison.location.experiments import GRAINS
from workbench.comparison.measures import METRICS
from workbench.errors import WorkbenchError
from workbench.figures import transplants as draw
from workbench.interp.prompts.probes import available_probes
from workbench.ui.parts.charts import themed
from workbench.ui.parts.cost import is_small
from workbench.ui.parts.models import both_alone, cached_load, pick_two
from workbench.ui.parts.notices import fault, warn
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.registered import registered
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views import transplant as view

TASKS = ("intents", "clinc150", "banking77", "sst2", "arc_easy", "hellaswag", "lambada")
VIEWS = ("Weights", "Heads", "Activations", "Between the two", "Make one", "Report")


def controls() -> tuple[str, str, str, int]:
    """The two models, the behaviour that is measured, and the number of samples."""
    base, tuned = pick_two()
    learned = fine_tune_of(tuned)
    options = [*TASKS, *(f"probe:{name}" for name in available_probes()), "text"]
    more = [name for name in (st.query_params.get("on"), learned) if name and name not in options]
    options = [*dict.fromkeys(more), *options]
    left, right = st.columns([5, 1])
    on = left.selectbox(
        "Behaviour",
        options,
        options.index(learned) if learned else options.index("intents"),
        key="on",
        bind="query-params",
        accept_new_options=True,
        help="What the gain is measured on: a benchmark task, a probe, the held-out examples of a "
        "fine-tuning run (run:ID), or text.",
    )
    n = right.number_input("Samples", 2, 500, 24, 8, key="n", bind="query-params")
    if learned and on == learned:
        st.caption("Measured on the run's own held-out examples.")
    return base, tuned, registered(str(on)), int(n or 24)


def measured(key: tuple, subject: wb.Subject, on: str, *, quick: bool) -> bool:
    """Whether to measure now: at once where it is quick, otherwise after a button was pressed.

    Args:
        key: Of the result in `with_progress`.
        subject: The base model; a small one (below 20 M parameters) is quick.
        on: The behaviour; names that a user typed in are never measured at once.
        quick: Whether the measurement is quick on a small model.
    """
    usual = on in TASKS or on == "text" or on.startswith(("probe:", "run:"))
    cost = (
        "Each part of one model is copied into the other, in both directions, and the behaviour "
        f"is measured again: {subject.card.n_layers} layers. A model of 135 M parameters takes "
        "minutes; partial results are shown meanwhile."
    )
    return wanted(key, cost, quick=quick and usual and is_small(subject), button="Measure")


def located(base: str, tuned: str, on: str, n: int, grain: str) -> Located | None:
    """The transplant study, cached for all sessions; None until it has been requested.

    Partial results are drawn while it is computed.

    Args:
        base: Name of the base model.
        tuned: Name of the tuned model.
        on: The behaviour.
        n: Number of samples.
        grain: One of `GRAINS`: how finely the models are divided.
    """
    first = cached_load(base)
    second = cached_load(tuned)
    key = view.located_key(first, second, on, n, grain)
    if not measured(key, first, on, quick=grain != "heads"):
        return None
    growing = st.empty()

    def seen(part: Located) -> None:
        if not part.undefined():
            figure = draw.parts(part.table(), n_layers=part.n_layers, title="So far")
            growing.plotly_chart(themed(figure), theme=None, key=f"growing{len(part.values)}")

    with both_alone(first, second):
        study = with_progress(
            key,
            lambda report: wb.locate(
                first, second, on, n=n, grain=grain, progress=report, partial=seen
            ),
        )
    growing.empty()
    return study


def weights(base: str, tuned: str, on: str, n: int, shown: str) -> None:
    """The views that come from swapping weights.

    Args:
        base: Name of the base model.
        tuned: Name of the tuned model.
        on: The behaviour.
        n: Number of samples.
        shown: One of `VIEWS`.
    """
    grain = "heads" if shown == "Heads" else GRAINS[1]
    study = located(base, tuned, on, n, grain)
    if study is None:
        return
    metric = st.segmented_control(
        "Metric",
        study.metrics,
        default=study.metrics[0],
        format_func=METRICS.__getitem__,
        key="metric",
        bind="query-params",
        required=True,
    )
    metric = metric if metric in study.metrics else study.metrics[0]
    view.gain(study, metric)
    if shown == "Between the two":
        view.path(study)
    elif not study.undefined(metric):
        (view.heads if shown == "Heads" else view.weights)(study, metric)
    same_in_python(f"""\
import workbench as wb

study = wb.locate({base!r}, {tuned!r}, {on!r}, n={n}, grain={grain!r})
print(study.gain({metric!r}), study.checks)
print(study.best({"head" if grain == "heads" else "layer"!r}, "base", {metric!r}).head())
print(study.path({metric!r}))
""")


def activations(base: str, tuned: str, on: str, n: int) -> None:
    """The view that comes from swapping activations.

    Args:
        base: Name of the base model.
        tuned: Name of the tuned model.
        on: The behaviour.
        n: Number of samples; at most 24 are used.
    """
    chosen = st.segmented_control(
        "Site",
        list(SITES),
        default="resid_pre",
        key="site",
        bind="query-params",
        help="; ".join(f"{name}: {words}" for name, words in SITES.items()),
    )
    site = str(chosen or "resid_pre")
    first = cached_load(base)
    second = cached_load(tuned)
    key = view.carried_key(first, second, on, n, site)
    if not measured(key, first, on, quick=True):
        return
    with both_alone(first, second):
        carried = with_progress(
            key,
            lambda report: wb.locate_activations(
                first, second, on, n=min(n, 24), site=site, progress=report
            ),
        )
    view.activations(carried)
    same_in_python(f"""\
import workbench as wb

carried = wb.locate_activations({base!r}, {tuned!r}, {on!r}, n={min(n, 24)}, site={site!r})
print(carried.gain)
print(carried.to_frame().nlargest(10, "share"))
""")


st.title("Where does the change live?")
st.caption(
    "Copy parts of the tuned model into the base model and the other way round, and measure how "
    "much of the difference in behaviour each carries: weights, heads, activations, and "
    "interpolations of the two."
)
try:
    base, tuned, on, n = controls()
except WorkbenchError as error:
    fault(error)
    st.stop()
shown = st.segmented_control(
    "View",
    VIEWS,
    default=VIEWS[0],
    key="transplant_view",
    bind="query-params",
    required=True,
    label_visibility="collapsed",
)
try:
    if shown == "Activations":
        activations(base, tuned, on, n)
    elif shown == "Report":
        view.report(base, tuned, on, n)
        same_in_python(f"""\
import workbench as wb
from workbench.figures.export import write_page

report = wb.report({base!r}, {tuned!r}, suite="core", limit=50, on={on!r}, n={n})
write_page(report.to_html(), "report.html")
""")
    elif shown == "Make one":
        view.make_one(base, tuned, f"L{cached_load(base).card.n_layers - 1}")
        same_in_python(f"""\
import workbench as wb

name = wb.transplant({base!r}, {tuned!r}, "L0, L1.mlp", name="grafted").save()
print(wb.evaluate(wb.load(name), "core", limit=50).table())
""")
    else:
        weights(base, tuned, on, n, str(shown))
except WorkbenchError as error:
    warn(error)
