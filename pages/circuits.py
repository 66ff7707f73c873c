"""Circuits: which heads a probe needs, the edges between them, and the model with them ablated."""

import numpy as np
import pandas as pd
import streamlit as st

import workbench as wb
from workbench.errors import WorkbenchError
from workbench.figures import circuits as draw
from workbench.figures import patching as maps
from workbench.interp.circuits.search import Circuit
from workbench.interp.interventions.ablation import KINDS, ablation, parse_heads
from workbench.interp.interventions.effect import effect_of
from workbench.interp.interventions.needs import Needed
from workbench.interp.prompts.probes import available_probes
from workbench.statistics.words import bracketed
from workbench.subjects.intervention import apply
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cost import is_small, time_of
from workbench.ui.parts.estimates import Estimated, estimates
from workbench.ui.parts.links import page_link
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import warn
from workbench.ui.parts.progress import wanted, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import called, p_text, percent, plain_name, signed
from workbench.ui.views.circuits import task_heads

PAIRS = 20


def needed(needs: Needed) -> None:
    """How much of the metric is lost when each head is ablated: a map and a table."""
    left, right = st.columns([4, 5], gap="medium")
    with left:
        figure = maps.effect_map(
            needs.loss,
            needs.loss * needs.intact.value,
            [f"H{i}" for i in range(needs.loss.shape[1])],
            across="head",
            title=f"Share of the {needs.metric_name.replace('_', ' ')} lost by ablating one head",
            label="share lost (1: all of it)",
        )
        chart(
            figure, key="needed", name="needed-heads", alt="What the probe loses without each head"
        )
    table = needs.to_frame()
    with right:
        st.markdown(
            f"Most needed heads on {needs.n_held_out} held-out prompts, with 95 % intervals"
        )
        shown = [
            Estimated("loss", "low", "high", "share lost"),
            Estimated("chosen_on", "chosen_low", "chosen_high", "when ranked"),
        ]
        numbers = ["head", "loss", "low", "high", "p", "chosen_on", "chosen_low", "chosen_high"]
        estimates(table.head(12).loc[:, numbers], shown)
        st.caption(
            f"*When ranked*: the same on the {needs.n} other prompts that the heads were ranked "
            "on, so it is biased upwards."
        )
        downloads(
            lambda: [figure], lambda: table, name="needed-heads", title="Heads that the probe needs"
        )


def search_circuit(model: str, probe: str) -> None:
    """Search the edges that carry the answer, and show the circuit's faithfulness by size."""
    subject = cached_load(model)
    key = ("circuit", subject.hash, probe)
    if not st.toggle(
        "Search for the circuit",
        key="search",
        bind="query-params",
        help="Scores every edge between two components by gradient, then patches the best ones "
        "exactly. About a minute for a model of 30 layers.",
    ):
        return
    cost = (
        f"The edges of {called(subject.name)} are scored by gradients, and the best are patched "
        "exactly: some minutes for a model of 135 M parameters."
    )
    if not wanted(key, cost, quick=is_small(subject)):
        return
    with alone(subject.hash):
        circuit = with_progress(key, lambda report: wb.circuit(subject, probe, progress=report))
    chosen = next(size for size in circuit.curve if size.edges == circuit.chosen)
    columns = st.columns(4)
    columns[0].metric(
        "Edges in the circuit",
        f"{circuit.chosen:,}",
        help=f"Out of {circuit.n_edges:,} possible ones.",
    )
    for column, words, value in (
        (1, "Faithfulness of the circuit", chosen.faithfulness),
        (2, "Faithfulness without it", chosen.without),
        (3, "Faithfulness of random edges", chosen.random),
    ):
        columns[column].metric(
            words, percent(value.value), help="0 % is the corrupted run, 100 % the clean run."
        )
        columns[column].caption(
            f"{bracketed(value.low, value.high, percent)}, n = {value.n} held out"
        )
    seen = chosen.chosen_on
    st.caption(
        f"Measured on {circuit.n_held_out} held-out pairs. On the {seen.n} pairs that it was "
        f"chosen on, faithfulness is {percent(seen.value)} "
        f"{bracketed(seen.low, seen.high, percent)}, which is biased upwards."
    )
    left, right = st.columns(2, gap="medium")
    with left:
        chart(
            draw.size_curve(circuit.curve, circuit.chosen),
            key="curve",
            name="circuit-sizes",
            alt="Faithfulness by size",
        )
    with right:
        strongest = circuit.edges.head(60)
        rows = list(
            zip(strongest["sender"], strongest["receiver"], strongest["score"], strict=True)
        )
        chart(
            draw.edge_graph(rows, subject.card.n_layers),
            key="graph",
            name="circuit",
            alt="The circuit's edges",
        )
    st.markdown(
        "Strongest edges: gradient estimate and exact value (correlation "
        f"{circuit.correlation:.2f})"
    )
    exact = circuit.edges.dropna(subset=["exact"])
    shown = [
        Estimated("exact", "low", "high"),
        Estimated("needed", "needed_low", "needed_high"),
        Estimated("needed_chosen_on", "needed_chosen_low", "needed_chosen_high", "when chosen"),
    ]
    estimates(exact.round({"score": 3}), shown, {"score": "by gradient"}, rows=6)
    st.caption(
        "*Needed*: the faithfulness lost without this edge (minimality), on held-out pairs; "
        "*when chosen*: the same on the pairs that the edge was chosen on."
    )
    missed(circuit)
    worst = max(circuit.checks.values())
    st.caption(
        f"Check: all edges give the clean run and no edge the corrupted run, to {worst:.0e}. "
        f"Gradients took {circuit.seconds_screen:.0f} s of {circuit.seconds:.0f} s; "
        f"{circuit.n} pairs to choose, {circuit.n_held_out} held out."
    )


def missed(circuit: Circuit) -> None:
    """How many edges the gradient screen may have missed, estimated from random edges."""
    seen = circuit.audit
    if seen is None:
        return
    st.markdown(
        f"**What the gradient screen may have missed.** Of {seen.edges} random edges outside the "
        f"circuit, patched exactly, {seen.missed} move the metric by {seen.matters:.0%} or more "
        f"(largest: {seen.largest:+.1%}, {seen.name}). With 95 % confidence, at most "
        f"{seen.most:.1%} of the {seen.outside:,} edges outside do."
    )


def without(model: str, probe: str, first: str) -> None:
    """A form that ablates heads, measures the effect and saves the edited model."""
    st.subheader("The model without these heads")
    with st.form("ablate", border=False):
        columns = st.columns([4, 2, 3, 2], vertical_alignment="bottom")
        heads = columns[0].text_input("Heads", first, help="For example L3H1, L5H0.")
        kind = columns[1].selectbox(
            "Ablation",
            list(KINDS),
            list(KINDS).index("mean"),
            help="; ".join(f"{k}: {v}" for k, v in KINDS.items()),
        )
        name = columns[2].text_input("Name", plain_name(f"{model.rpartition('/')[2]}-{probe}-cut"))
        submitted = columns[3].form_submit_button(
            "Make and measure", type="primary", width="stretch"
        )
    if submitted:
        st.session_state["cut"] = (model, probe, heads, kind, name)
    cut = st.session_state.get("cut")
    if cut is None or cut[:2] != (model, probe):
        return
    _, _, heads, kind, name = cut
    base = cached_load(model)
    with alone(base.hash), st.spinner("Ablating the heads and measuring both models"):
        change = ablation(base, parse_heads(heads), replacement=str(kind), name=name, base=model)
        saved_name = change.save()
        effect = effect_of(base, apply(base, change), probe)
    columns = st.columns(2)
    for column, words, d in (
        (0, f"{probe}: {effect.metric_name.replace('_', ' ')} on its clean prompts", effect.metric),
        (1, "Loss on ordinary text, nats per token", effect.loss),
    ):
        columns[column].metric(
            words,
            f"{d.tuned:.3f}",
            delta=signed(d.difference),
            delta_color="off",
            delta_arrow="off",
        )
        columns[column].caption(
            f"before {d.base:.3f}; change {bracketed(d.low, d.high, signed)}, {p_text(d.p)}, n = "
            f"{d.n}"
        )
    st.success(
        f"Saved as **{saved_name}**; it is now in the model list of every page.",
        icon=":material/check:",
    )
    with st.container(horizontal=True):
        page_link(
            "benchmarks", "Benchmark both", icon=":material/scoreboard:", models=[model, saved_name]
        )
        page_link(
            "patching", "Patch it", icon=":material/conversion_path:", model=saved_name, probe=probe
        )
        page_link("attention", "See its attention", icon=":material/grid_on:", model=saved_name)
        st.download_button(
            "Intervention (JSON)", change.to_json(), file_name=f"{name}.json", on_click="ignore"
        )


st.title("Which parts does it need?")
st.caption(
    "Ablate every head in turn, search for the edges that carry the answer, and save the model "
    "with heads ablated."
)
left, middle, right = st.columns([3, 2, 3], vertical_alignment="bottom")
with left:
    model = pick_name()
about = middle.segmented_control(
    "Needed for",
    ["a probe", "a benchmark task"],
    default="a probe",
    key="about",
    bind="query-params",
    required=True,
)
if about == "a benchmark task":
    task_heads(model)
    st.stop()
probes = available_probes()
probe = str(
    right.selectbox("Question", probes, probes.index("induction"), key="probe", bind="query-params")
)
subject = cached_load(model)
key = ("needed", subject.hash, probe)
n_heads = subject.card.n_layers * subject.card.n_heads


def cost() -> str:
    """What takes long here, and the most that it takes."""
    return (
        f"Each of the {n_heads} heads of {called(subject.name)} is ablated on {PAIRS} prompts: "
        f"{time_of(subject, n_heads * PAIRS)}."
    )


if not wanted(key, cost, quick=is_small(subject)):
    st.stop()
try:
    with alone(subject.hash):
        needs = with_progress(
            key,
            lambda report: wb.needed_heads(subject, probe, n=PAIRS, progress=report),
        )
except WorkbenchError as error:
    warn(error)
    st.stop()
needed(needs)
significant: pd.DataFrame = needs.to_frame().query("p < 0.05 and loss > 0")
first = ", ".join((significant if len(significant) else needs.to_frame()).head(3)["head"])
without(model, probe, first)
st.subheader("How are they connected?")
search_circuit(model, probe)
best = np.unravel_index(needs.loss.argmax(), needs.loss.shape)
same_in_python(f"""\
import workbench as wb
from workbench.interp import ablation

model = wb.load({model!r})
print(wb.needed_heads(model, {probe!r}, n={PAIRS}).to_frame().head(10))
print(wb.circuit(model, {probe!r}).edges.head(20))
name = ablation(model, [({best[0]}, {best[1]})], name="cut", base={model!r}).save()
print(wb.evaluate(wb.load(name), "core", limit=50).table())
""")
