"""Attribution: a patching map estimated by gradients beside the exact one, and its errors."""

from typing import Any

import numpy as np
import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures import attribution as draw
from workbench.figures.patching import effect_map
from workbench.figures.style import labels
from workbench.interp.patching.attribution import KINDS, TOLERANCE, Attribution
from workbench.interp.patching.gradients import ESTIMATED
from workbench.interp.patching.pair_maps import DIRECTIONS, SITES
from workbench.interp.prompts.pairs import LengthError, warnings
from workbench.interp.prompts.probes import available_probes, read_probe
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import PROMPT, is_small, time_of
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import notices, warn
from workbench.ui.parts.own_prompts import FIELDS, OWN, prompts, unequal
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.trust import trust
from workbench.ui.parts.words import called

FLAT = [site for site in ESTIMATED if SITES[site] in (("layer", "pos"), ("layer", "head"))]
METHODS = {"one gradient": (1, False), "5 gradients": (5, False), "exact attention": (1, True)}
METHOD_HELP = """
- **one gradient**: the gradient in the patched run times the difference in activation (attribution
  patching)
- **5 gradients**: the mean of five gradients, at inputs between the two prompts (integrated
  gradients)
- **exact attention**: as one gradient, but the softmax of attention is recomputed where queries or
  keys are patched
"""


def controls() -> tuple[str, str, dict]:
    """The model, the probe, and the settings of the estimate."""
    first, second, third, fourth = st.columns([3, 3, 2, 3])
    with first:
        model = pick_name()
    probes = available_probes()
    start = probes.index("induction")
    probe = second.selectbox("Question", [*probes, OWN], start, key="probe", bind="query-params")
    site = third.selectbox(
        "What is patched", FLAT, FLAT.index("resid_pre"), key="site", bind="query-params"
    )
    direction = fourth.segmented_control(
        "Direction",
        DIRECTIONS,
        default=DIRECTIONS[0],
        key="direction",
        bind="query-params",
        required=True,
    )
    left, right = st.columns([3, 3])
    method = left.segmented_control(
        "Estimate from",
        list(METHODS),
        default="one gradient",
        key="method",
        bind="query-params",
        required=True,
        help=METHOD_HELP,
    )
    steps, softmax = METHODS[str(method)]
    more = {"site": str(site), "direction": str(direction), "steps": steps, "softmax": softmax}
    if probe != OWN:
        more["n"] = int(
            right.select_slider(
                "Prompt pairs", [10, 20, 50, 100], 50, key="pairs", bind="query-params"
            )
        )
    return model, str(probe), more


def numbers(attribution: Attribution) -> None:
    """How well the estimate agrees with the exact map, and the time each takes."""
    columns = st.columns(4)
    r = attribution.correlation
    exact = attribution.exact
    assert r is not None and exact is not None
    columns[0].metric(
        "Correlation", f"{r.value:.3f}", help="Pearson's r between the two mean maps, cell by cell."
    )
    columns[0].caption(f"n = {r.n} pairs; {r.reason}")
    columns[1].metric("Cells that mislead", f"{attribution.misleading} of {exact.effect.size}")
    columns[1].caption(f"error above {attribution.tolerance:g}, or the wrong sign")
    columns[2].metric(
        "Estimate",
        f"{attribution.estimate.seconds:.1f} s",
        help="One forward and one backward pass per gradient.",
    )
    columns[3].metric(
        "Exact", f"{exact.seconds:.1f} s", help=f"{exact.effect.size * exact.n:,} patched runs."
    )


def maps(attribution: Attribution) -> list:
    """Draw the estimated and the exact map on one colour scale; returns both figures."""
    exact = attribution.exact
    assert exact is not None
    by_position = exact.axes[-1] == "pos"
    names = labels(exact.names) if by_position else [str(i) for i in range(exact.effect.shape[1])]
    figures = []
    for column, side, words in zip(
        st.columns(2, gap="medium"),
        (attribution.estimate, exact),
        ("Estimate by gradient", "Exact"),
        strict=True,
    ):
        figure = effect_map(
            side.effect,
            side.metric,
            names,
            across="position" if by_position else "head",
            starts=exact.first_difference if by_position else 0,
            title=words,
        )
        figure.data[0].update(zmin=-top(attribution), zmax=top(attribution))
        figures.append(figure)
        with column:
            chart(
                figure,
                key=words.split()[0].lower(),
                name=words.lower().replace(" ", "-"),
                alt=f"{words}: the map",
            )
    return figures


def top(attribution: Attribution) -> float:
    """The largest absolute effect of both maps (at least 1): the end of their colour scale."""
    assert attribution.exact is not None
    return max(
        1.0,
        float(np.abs(attribution.exact.effect).max()),
        float(np.abs(attribution.estimate.effect).max()),
    )


def misled(attribution: Attribution) -> list:
    """Draw estimate against exact value and list the largest errors; returns the figures."""
    table = attribution.to_frame()
    left, right = st.columns(2, gap="medium")
    figure = draw.scatter(
        table, attribution.tolerance, title="Every cell: estimate against exact value"
    )
    with left:
        chart(
            figure,
            key="scatter",
            name="attribution-scatter",
            alt="Estimate against exact effect, a point a cell",
        )
    with right:
        several = attribution.estimate.n > 1
        st.markdown(f"Largest errors{' with 95 % intervals' if several else ''}")
        numbers = ["exact", "estimate", "error", *(["error_low", "error_high"] if several else [])]
        furthest: Any = table.sort_values("error", key=abs, ascending=False)
        furthest = furthest[["cell", *numbers, "kind"]].head(14)
        furthest["kind"] = [
            "" if kind == "not shown to mislead" else kind for kind in furthest["kind"]
        ]
        error = Estimated("error", "error_low", "error_high")
        shown = [Estimated("exact"), Estimated("estimate"), error]
        estimates(furthest, shown, rows=11, digits=2)
    st.caption(
        "; ".join(
            f"**{kind}**: {words}"
            for kind, words in KINDS.items()
            if kind != "not shown to mislead"
        )
        + "."
    )
    return [figure]


st.title("How far can gradients be trusted?")
st.caption(
    "Attribution patching estimates every patch from one gradient. Compare each estimate with the "
    "exact value from activation patching."
)
model, probe, given = controls()
subject = cached_load(model)
question: str | tuple[str, ...] = probe
if probe == OWN:
    question = tuple(prompts().values())
else:
    definition = read_probe(probe)
    st.caption(f"{definition.question} {definition.source}.")
key = ("attribution", subject.hash, question, *given.values())
cells = subject.card.n_layers * (subject.card.n_heads if "head" in SITES[given["site"]] else PROMPT)


def cost() -> str:
    """What takes long here, and the most that it takes."""
    runs = cells * given.get("n", 1)
    return (
        f"The exact map of {called(subject.name)} that the estimate is compared with takes "
        f"{time_of(subject, runs)}."
    )


if not wanted(key, cost, quick=is_small(subject)):
    st.stop()
try:
    with alone(subject.hash):
        attribution = with_progress(
            key,
            lambda report: wb.attribution(subject, question, progress=report, **given),
        )
except LengthError as error:
    unequal(error)
    st.stop()
except WorkbenchError as error:
    warn(error)
    st.stop()
notices(
    warnings(subject, question[0], question[1], question[2:])
    if isinstance(question, tuple)
    else attribution.estimate.warnings
)
numbers(attribution)
figures = maps(attribution) + misled(attribution)
if attribution.exact is not None:
    trust(attribution.exact)
query = {"probe": probe} if isinstance(question, str) else dict(zip(FIELDS, question, strict=True))
page_link("patching", "The exact map on Patching", model=model, site=given["site"], **query)
downloads(
    lambda: figures,
    attribution.to_frame,
    name=f"attribution-{attribution.estimate.subject}-{given['site']}",
    title=f"Attribution patching of {given['site']} in {attribution.estimate.subject}",
    text=f"{attribution.estimate.title}, n = {attribution.estimate.n}, tolerance {TOLERANCE}",
)
call = ", ".join(f"{name}={value!r}" for name, value in given.items())
same_in_python(f"""\
import workbench as wb

attribution = wb.attribution(wb.load({model!r}), {question!r}, {call})
print(attribution.correlation, attribution.misleading)
print(attribution.to_frame().query("kind != 'not shown to mislead'"))
""")
