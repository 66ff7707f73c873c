"""Linear probes: what can be decoded from each layer, and steering along the direction found."""

import streamlit as st

import workbench as wb
from workbench.figures import linear as draw
from workbench.interp.linear.labels import LABELS
from workbench.interp.linear.probe import LinearProbe
from workbench.interp.linear.stages import SITES, STREAM
from workbench.statistics.words import bracketed
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.progress import with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import p_text, plain_name
from workbench.ui.views.steering import steered

# Layers probed by default; of a deeper model every second, third, ... layer.
FEW = 10


def numbers(linear_probe: LinearProbe) -> None:
    """Accuracy, selectivity and code length at the best layer, and the majority baseline."""
    best = linear_probe.best
    where = draw.stage_name(best.stage)
    columns = st.columns(4)
    columns[0].metric(
        f"Accuracy, layer {where}",
        f"{best.accuracy.value:.0%}",
        help="The layer with the highest selectivity.",
    )
    columns[0].caption(
        f"{bracketed(best.accuracy.low, best.accuracy.high, '.0%')}, n = {best.accuracy.n}"
    )
    gain = best.selectivity
    columns[1].metric(
        "Selectivity",
        f"{gain.difference:+.0%}",
        help="Accuracy minus the accuracy on the control task, on the same activations.",
    )
    columns[1].caption(f"{bracketed(gain.low, gain.high, '+.0%')}, {p_text(gain.p)}")
    columns[2].metric(
        "Bits per label",
        f"{best.bits.value:.2f}",
        help=f"Online code length; {linear_probe.uniform_bits:.2f} without a linear probe.",
    )
    columns[2].caption(f"{bracketed(best.bits.low, best.bits.high, '.2f')}, n = {best.bits.n}")
    columns[3].metric(
        "Majority class",
        f"{linear_probe.majority.value:.0%}",
        help="Accuracy of always predicting the most frequent class.",
    )
    left_out = ", ".join(f"{count:,} {reason}" for reason, count in linear_probe.dropped.items())
    columns[3].caption(
        f"{len(linear_probe.classes)} classes, {linear_probe.n:,} examples in "
        f"{linear_probe.n_texts:,} texts" + (f"; left out: {left_out}" if left_out else "")
    )


def figures(linear_probe: LinearProbe) -> None:
    """Accuracy and bits per label by layer, with the control task."""
    frame = linear_probe.to_frame()
    over = f", n = {linear_probe.n_held:,}"
    accuracy = draw.by_layer(
        frame, reference=linear_probe.majority.value, words="majority class", n=over
    )
    bits = draw.by_layer(
        frame,
        "bits",
        reference=linear_probe.uniform_bits,
        words="without a linear probe",
        n=f", n = {linear_probe.n:,}",
    )
    left, right = st.columns(2, gap="medium")
    with left:
        chart(accuracy, key="accuracy", name="linear-probe", alt="Accuracy by layer")
    with right:
        chart(bits, key="bits", name="description-length", alt="Bits per label by layer")
    what = "word type" if linear_probe.level == "token" else "text"
    st.caption(
        f"Bands are 95 % intervals over texts. In the control task every {what} has a random "
        "label, so a linear probe can only memorise it. Bits per label: online (prequential) code "
        "length, where each block of labels is coded with a linear probe trained on all earlier "
        "blocks. A layer that encodes something need not be used by the model."
    )
    downloads(
        lambda: [accuracy, bits],
        lambda: frame,
        name=f"linear-{plain_name(linear_probe.labels)}",
        title=f"{linear_probe.title} decoded from {linear_probe.subject}",
        text=f"{linear_probe.source}; site {linear_probe.site}, seed {linear_probe.seed}",
    )


@fragment
def steer(model: str, linear_probe: LinearProbe) -> None:
    """A form that steers the model towards one class along the direction of the linear probe."""
    st.subheader("Steer along this direction")
    layers = [s.stage - 1 for s in linear_probe.stages if s.stage]
    with st.form("steer", border=False):
        columns = st.columns([3, 2, 3, 4, 2], vertical_alignment="bottom")
        label = columns[0].selectbox("Towards", linear_probe.classes)
        layer = columns[1].selectbox("After layer", layers, len(layers) // 2)
        strength = columns[2].slider(
            "Strength",
            -8.0,
            8.0,
            3.0,
            0.5,
            help="1 is the distance from the other classes' mean to this class's mean.",
        )
        prompt = columns[3].text_input("Prompt to continue", "The old man and the")
        submitted = columns[4].form_submit_button("Steer", type="primary", width="stretch")
    if submitted and layer is not None:
        name = plain_name(
            f"{model.rpartition('/')[2]}-{label}-L{layer}x{strength:g}".replace(" ", "")
        )
        base = cached_load(model)
        steered(
            base,
            linear_probe.steering(str(label), int(layer), strength=strength, name=name, base=model),
            prompt,
        )


st.title("What can be read off each layer?")
st.caption(
    "A linear probe is trained at every layer on labelled texts and tested on held-out ones, "
    "together with a control task that it can only memorise."
)
columns = st.columns([3, 3, 2, 2])
with columns[0]:
    model = pick_name()
labels = columns[1].selectbox(
    "Label to decode",
    list(LABELS),
    list(LABELS).index("position"),
    key="labels",
    bind="query-params",
    accept_new_options=True,
    help="Or type the path of a .tsv, .csv, .jsonl, .conll or .conllu file with {text, label} or "
    "{tokens, tags} per row. "
    + "; ".join(f"{name}: {kind.title}, {kind.source}" for name, kind in LABELS.items()),
)
site = columns[2].selectbox(
    "Site",
    list(SITES),
    key="site",
    bind="query-params",
    help="; ".join(f"{k}: {v}" for k, v in SITES.items()),
)
n = columns[3].select_slider(
    "Examples", [300, 600, 1000, 1500, 3000], 1000, key="n", bind="query-params"
)
subject = cached_load(model)
n_layers = subject.card.n_layers
step = -(-n_layers // FEW)
if step > 1 and columns[3].toggle(
    "All layers", key="all", bind="query-params", help=f"Otherwise {FEW} of {n_layers}."
):
    step = 1
layers = list(range(step - 1, n_layers, step))
key = ("linear", subject.hash, labels, site, n, step)
with alone(subject.hash):
    linear_probe = with_progress(
        key,
        lambda report: wb.linear_probe(
            subject, str(labels), site=str(site), layers=layers, n=int(n), progress=report
        ),
    )
numbers(linear_probe)
figures(linear_probe)
if linear_probe.site == STREAM:
    steer(model, linear_probe)
same_in_python(f"""\
import workbench as wb

model = wb.load({model!r})
linear_probe = wb.linear_probe(model, {labels!r}, site={site!r}, layers={layers!r}, n={n})
columns = ["stage", "accuracy", "control", "selectivity", "bits"]
print(linear_probe.to_frame()[columns], linear_probe.majority)
""")
