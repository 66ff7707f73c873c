"""Positions: a model's position encoding, and how far back each head attends."""

import streamlit as st

import workbench as wb
from workbench.data.passages import TEXTS
from workbench.figures import positions as draw
from workbench.figures import positions_in_use as draw_use
from workbench.figures.style import head_name
from workbench.interp.position.distance import Distances
from workbench.interp.position.encoding import Encoding
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import note
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import called
from workbench.ui.views.positions import FIRST, VIEWS, in_python

SEQUENCES = 8
# Tokens of a random sequence.
LENGTH = 64
# Each kind of encoding in words; the sentence begins with the model's name.
WORDS = {
    "learned": "uses **learned** positions: one trained vector per position, added to the token "
    "embedding",
    "sinusoidal": "uses **sinusoidal** positions: sines and cosines of fixed wavelengths, added "
    "to the token embedding (Vaswani et al. 2017)",
    "rotary": "uses **rotary** positions: each pair of dimensions of queries and keys is rotated "
    "by an angle proportional to the position, so scores depend on the distance (Su et al. 2021)",
    "alibi": "uses **ALiBi**: each head subtracts a fixed amount from the score per token of "
    "distance (Press et al. 2022)",
    "none": "has **no** position encoding; a causal model can still infer order from what each "
    "position attends to",
}


@st.cache_resource(max_entries=8, show_spinner="Reading the position encoding")
def encoding(sha256: str, _subject: wb.Subject) -> Encoding:
    """The model's position encoding, cached by model."""
    with alone(sha256):
        return wb.position_encoding(_subject)


@st.cache_resource(max_entries=16, show_spinner="Measuring attention by distance")
def distances(sha256: str, on_text: bool, _subject: wb.Subject) -> Distances:
    """Attention by distance on random tokens or on real text, cached by model."""
    texts = list(TEXTS) if on_text else None
    with alone(sha256):
        return wb.attention_by_distance(_subject, texts=texts, n=SEQUENCES, length=LENGTH)


def show_encoding(subject: wb.Subject, scheme: Encoding) -> None:
    """The encoding in words and in figures."""
    words = WORDS.get(scheme.kind, "uses a position encoding that is not described here")
    st.markdown(f"{called(subject.name)} {words}.")
    figures = {}
    if (
        scheme.matrix is not None
        and scheme.similarity is not None
        and scheme.singular_values is not None
    ):
        figures = {
            "matrix": draw.matrix(scheme.matrix),
            "similarity": draw.similarity(scheme.similarity),
            "norms": draw.norms(scheme.matrix),
            "spectrum": draw.singular_values(scheme.singular_values, scheme.effective_rank or 0.0),
            "helix": draw_use.helix(scheme.matrix),
            "fourier": draw_use.fourier(scheme.matrix),
        }
    elif scheme.wavelengths:
        figures = {
            "wavelengths": draw.wavelengths(scheme.wavelengths, subject.n_ctx),
            "turns": draw.turns(scheme.wavelengths, LENGTH),
        }
    elif scheme.slopes is not None:
        figures = {"slopes": draw.slopes(scheme.slopes)}
    columns = st.columns(2, gap="medium")
    for i, (name, figure) in enumerate(figures.items()):
        with columns[i % 2]:
            chart(figure, key=name, name=f"{subject.name}-{name}", alt=f"Position encoding: {name}")
    if figures:
        downloads(
            lambda: list(figures.values()),
            scheme.to_frame,
            name=f"encoding-{subject.name}",
            title=f"Position encoding of {subject.name}: {scheme.kind}",
        )


@fragment
def show_distances(subject: wb.Subject) -> None:
    """Mean attention by distance: a line for each chosen head, and maps of all heads."""
    random = distances(subject.hash, False, subject)
    try:
        text = distances(subject.hash, True, subject)
    except wb.WorkbenchError as error:
        text = None
        note(f"Shown for random tokens only: {error}")
    both = [measured for measured in (random, text) if measured is not None]
    n_layers, n_heads = random.mean.shape[:2]
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    still_valid = [name for name in st.session_state.get("heads", []) if name in names]
    if "heads" in st.session_state and not still_valid:
        st.session_state.pop("heads")  # heads of another, larger model
    default = [head_name(*h) for h in draw.telling_heads(random.mean)]
    chosen = st.multiselect(
        "Heads", names, default, key="heads", bind="query-params", max_selections=3
    )
    picked = [divmod(names.index(name), n_heads) for name in chosen]
    maps = [
        draw.distance_map(
            measured.mean, title=f"On {measured.text}, n = {measured.n}", chosen=picked
        )
        for measured in both
    ]
    curves = {
        f"{name}, {measured.text}": tuple(
            a[layer, head] for a in (measured.mean, measured.low, measured.high)
        )
        for name, (layer, head) in zip(chosen, picked, strict=True)
        for measured in both
    }
    lines = draw.distance_lines(
        curves, title=f"Mean attention with 95 % intervals over {random.n} sequences"
    )
    chart(lines, key="lines", name=f"{subject.name}-distances", alt="Mean attention by distance")
    for column, figure, measured in zip(st.columns(2, gap="medium"), maps, both, strict=False):
        with column:
            chart(
                figure, key=f"map_{measured.text}", name=f"{subject.name}-distances-{measured.text}"
            )
    downloads(
        lambda: [lines, *maps],
        lambda: draw.distance_frame(
            {measured.text: (measured.mean, measured.low, measured.high) for measured in both}
        ),
        name=f"distances-{subject.name}",
        title=f"Attention by distance of {subject.name}",
        text=f"{random.n} sequences of {LENGTH} tokens; the first token is left out.",
    )


st.title("How does the model know order?")
st.caption(
    "The model's position encoding, read from its weights, and how far back each head attends."
)
with st.columns([1, 3])[0]:
    model = pick_name()
subject = cached_load(model)
st.subheader("The encoding")
show_encoding(subject, encoding(subject.hash, subject))
st.subheader("How the heads use it")
st.caption(
    "Mean attention by distance back. On random tokens only position matters; on real text "
    "content matters too, so a difference between the two curves is due to content. The first "
    "token is left out, because many heads use it as an attention sink."
)
show_distances(subject)
st.subheader("What else does position do?")
more = st.segmented_control(
    "Measure",
    list(VIEWS),
    default=FIRST,
    key="more",
    bind="query-params",
    label_visibility="collapsed",
)
if more:
    fragment(VIEWS[str(more)])(subject)
else:
    st.caption("Choose a view; it is measured when opened, in seconds for a small model.")
same_in_python(f"""\
import workbench as wb
from workbench.data.passages import TEXTS

subject = wb.load({model!r})
print(wb.position_encoding(subject).kind)
distances = wb.attention_by_distance(subject, n={SEQUENCES}, length={LENGTH})
print(distances.mean.shape, distances.n)  # [layer, head, distance]
{in_python(str(more), subject)}
""")
