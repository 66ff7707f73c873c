"""Heads: a score for every head, heads of the same kind, and the circuits in their weights."""

from typing import Any

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.data.passages import TEXTS, passages
from workbench.figures import composition as draw_composition
from workbench.figures import heads as draw
from workbench.figures.style import visible
from workbench.interp.interventions.ablation import parse_heads
from workbench.interp.patterns.catalogue import ALL_SCORES, RULES, HeadCatalogue
from workbench.interp.patterns.composition import COMMON, Composition
from workbench.interp.patterns.heads import UNITS
from workbench.statistics.words import bracketed
from workbench.subjects.kinds import DECODER
from workbench.ui.parts.cell_panel import Cells, cell_panel, cell_texts, head_link
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.history import first_index
from workbench.ui.parts.look import PROMPT
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.views.heads import heads_of_stack

SAMPLES = 8
RANDOM = "random tokens"
REAL = "real text"
OWN = "your own text"
SHORT = {
    s.removesuffix("_score").removeprefix("attention_").replace("_", " "): s for s in ALL_SCORES
}


@st.cache_resource(
    max_entries=8, show_spinner="Scoring every head (half a minute for 100 M parameters)"
)
def catalogue(sha256: str, texts: tuple[str, ...] | None, _subject: wb.Subject) -> HeadCatalogue:
    """The scores of every head, cached by model and texts (None: random tokens)."""
    with alone(sha256):
        return wb.head_catalogue(_subject, texts=texts, n=SAMPLES)


@st.cache_resource(max_entries=8, show_spinner="Computing the composition of every pair of heads")
def feeding(sha256: str, _subject: wb.Subject) -> Composition:
    """The composition scores of all pairs of heads, cached by model."""
    with alone(sha256):
        return wb.composition(_subject)


@st.cache_data(max_entries=64, show_spinner="Computing the head's QK and OV circuits")
def pairs(sha256: str, layer: int, head: int, circuit: str, _subject: wb.Subject) -> pd.DataFrame:
    """The token pairs with the largest entries in a head's QK or OV circuit, cached."""
    with alone(sha256):
        return wb.strongest_pairs(_subject, layer, head, circuit=circuit)


def with_intervals(frame: pd.DataFrame) -> pd.DataFrame:
    """The table with a text column `SCORE_interval` for every score that has an interval."""
    texts = {}
    for score in ALL_SCORES:
        digits = ".2f" if score in UNITS else ".3f"
        ends = zip(frame[f"{score}_low"], frame[f"{score}_high"], strict=True)
        texts[f"{score}_interval"] = [bracketed(low, high, digits) for low, high in ends]
    return frame.assign(**texts)


def score_columns() -> dict[str, Any]:
    """How the table shows each of its columns; `copying` is exact and has no interval."""
    columns: dict[str, Any] = {
        "name": st.column_config.TextColumn("head", pinned=True),
        "labels": st.column_config.TextColumn("labels"),
    }
    for title, score in SHORT.items():
        if score in UNITS or score == "copying":
            unit = f", {UNITS[score]}" if score in UNITS else ""
            columns[score] = st.column_config.NumberColumn(
                title + unit, help=ALL_SCORES[score], format="%.2f"
            )
        else:
            columns[score] = st.column_config.ProgressColumn(
                title, help=ALL_SCORES[score], format="%.3f", min_value=0, max_value=1
            )
        if score != "copying":
            columns[f"{score}_interval"] = st.column_config.TextColumn(
                "95 % interval", help=f"Interval of {title}."
            )
    return columns


def show_table(scored: HeadCatalogue) -> None:
    """The table of all heads with their scores and intervals, and one score as two charts."""
    frame = scored.to_frame()
    labels = sorted({label for cell in frame["labels"] for label in cell.split(", ") if label})
    left, right = st.columns([2, 1])
    wanted = left.multiselect(
        "Only heads with the label",
        labels,
        key="labels",
        bind="query-params",
        placeholder="all heads",
    )
    order = right.selectbox(
        "Sorted by", list(SHORT), list(SHORT).index("induction"), key="score", bind="query-params"
    )
    score = SHORT[str(order)]
    keep = [set(wanted) <= set(cell.split(", ")) for cell in frame["labels"]]
    shown: pd.DataFrame = frame.loc[keep]
    table = with_intervals(shown.sort_values(score, ascending=False, ignore_index=True))
    columns = score_columns()
    st.dataframe(
        table[list(columns)],
        hide_index=True,
        height=360,
        column_config=columns,
        key="catalogue",
    )
    st.caption(
        f"{len(table)} of {len(frame)} heads. Scores are means over {scored.scores.n} samples "
        f"({scored.scores.text}) with 95 % intervals. Labels follow rules: "
        + "; ".join(map(str, RULES))
        + "."
    )
    values = scored.mean[score], scored.low[score], scored.high[score]
    words = score.replace("_", " ")
    figures = [
        draw.score_map(*values, name=words, n=scored.scores.n, unit=UNITS.get(score, "")),
        draw.ranked(*values, name=words, n=scored.scores.n, unit=UNITS.get(score, "")),
    ]
    for column, figure, what in zip(
        st.columns(2, gap="medium"), figures, ("map", "ranked"), strict=True
    ):
        with column:
            chart(
                figure,
                key=f"score_{what}",
                name=f"{subject.name}-{score}-{what}",
                alt=f"{words}, {what}",
            )
    read_map(subject, scored, score)
    downloads(
        lambda: figures,
        scored.to_frame,
        name=f"heads-{subject.name}",
        title=f"Head scores of {subject.name}",
        text=f"{scored.scores.n} samples, {scored.scores.text}, seed {scored.scores.seed}.",
    )


def read_map(subject: wb.Subject, scored: HeadCatalogue, score: str) -> None:
    """The scores and labels of the head under the mouse, or of the clicked one."""
    mean = scored.mean[score]
    n_layers, n_heads = mean.shape
    labels = [[", ".join(scored.labels(i, j)) for j in range(n_heads)] for i in range(n_layers)]
    cells = Cells(
        rows=[f"Layer {i}" for i in range(n_layers)],
        columns=[f"head {j}" for j in range(n_heads)],
        numbers={
            score.replace("_", " "): cell_texts(mean, write="{:.3f}".format),
            "95 % interval": cell_texts(scored.low[score], scored.high[score], write=bracketed),
            "labels": labels,
        },
        links=head_link(model=subject.name),
    )
    hint = "Move over the map to read a head; click one to keep it."
    cell_panel(cells, chart="score_map", about=subject.hash, key="read_map", hint=hint)


def show_head(subject: wb.Subject, scored: HeadCatalogue) -> None:
    """One head: its labels, the heads most like it, and its QK and OV circuits."""
    n_heads = subject.card.n_heads
    names = scored.to_frame()["name"].tolist()
    best, _ = scored.scores.best("induction_score")
    index = first_index("head", (subject.card.n_layers, n_heads), names, best)
    with st.columns([1, 3])[0]:
        name = st.selectbox("Head", names, index, key="head", bind="query-params")
    layer, head = divmod(names.index(name), n_heads)
    given = scored.labels(layer, head)
    st.markdown(f"**{name}**: {', '.join(given) if given else 'no label'}")
    alike, reads, writes = st.columns([3, 2, 2], gap="medium")
    with alike:
        st.markdown("**Heads like this one**")
        similar = scored.similar(layer, head)[["name", "labels", "distance"]]
        st.dataframe(
            similar,
            hide_index=True,
            column_config={"distance": st.column_config.NumberColumn(format="%.2f")},
        )
        st.caption(
            "Distance between the scores of two heads, each score standardised over all heads."
        )
    for column, circuit, words in (
        (reads, "QK", "which query attends to which key"),
        (writes, "OV", "what attending to a token writes"),
    ):
        with column:
            st.markdown(f"**{circuit} circuit: {words}**")
            table = pairs(subject.hash, layer, head, circuit, subject)
            tokens = table.columns[:2]
            shown = table.assign(**{c: table[c].map(visible) for c in tokens})
            shown.columns = [c.replace("_", " ") for c in shown.columns]
            st.dataframe(shown, hide_index=True, height=318)
    st.caption(
        "From the weights, without a prompt: the direct path from token embedding through the "
        f"head to the logits, over the {COMMON:,} most frequent tokens (lowest ids). Position "
        "encoding and earlier layers are left out."
    )


def show_composition(subject: wb.Subject) -> None:
    """The pairs of heads with the strongest Q-, K- or V-composition, as a graph and a table."""
    st.caption(
        "Composition: how much of one head's output a later head reads into its queries (Q), keys "
        "(K) or values (V), as norms of weight products (Elhage et al. 2021). In an induction "
        "circuit a previous-token head is K-composed with an induction head."
    )
    left, right = st.columns([1, 3])
    kinds = left.segmented_control(
        "Kind", list("QKV"), default=["K"], selection_mode="multi", key="kinds", bind="query-params"
    )
    most = right.slider("Pairs", 5, 60, 20, key="pairs", bind="query-params")
    composition = feeding(subject.hash, subject)
    frame = composition.to_frame()
    edges = frame[frame["kind"].isin(list(kinds))].head(int(most))
    figure = draw_composition.composition_graph(
        list(edges.itertuples(index=False, name=None)),
        n_layers=subject.card.n_layers,
        n_heads=subject.card.n_heads,
        chance=composition.chance,
        title=f"The {len(edges)} strongest pairs (random matrices: about {composition.chance:.3f})",
    )
    graph, table = st.columns([3, 1], gap="medium")
    with graph:
        chart(
            figure,
            key="composition",
            name=f"{subject.name}-composition",
            alt="Which heads feed which",
        )
    table.dataframe(
        edges,
        hide_index=True,
        height=380,
        column_config={"score": st.column_config.NumberColumn(format="%.3f")},
    )
    downloads(
        lambda: [figure],
        lambda: frame.head(10_000),
        name=f"composition-{subject.name}",
        title=f"Composition of the heads of {subject.name}",
    )


st.title("What does each head do?")
st.caption(
    "Every head with its scores, intervals and labels; similar heads; and the circuits in the "
    "weights."
)
choice, ground = st.columns([1, 3], vertical_alignment="top")
with choice:
    model = pick_name(seq2seq=True, encoder=True)
if cached_load(model, seq2seq=True, encoder=True).kind != DECODER:
    heads_of_stack(model)
    st.stop()
source = ground.segmented_control(
    "Measured on",
    [RANDOM, REAL, OWN],
    default=RANDOM,
    key="source",
    bind="query-params",
    required=True,
    help="Repeated random tokens isolate the effect of order and repetition. In real text, a "
    "token that occurred before counts as a repetition.",
)
texts = TEXTS if source == REAL else None
if source == OWN:
    own = ground.text_area(
        "Texts, separated by blank lines", PROMPT, key="own", bind="query-params"
    )
    texts = tuple(passages(own or ""))
    if len(texts) == 1:
        ground.caption(
            "One text is one sample: no interval, and therefore no labels from measured scores."
        )
subject = cached_load(model)
scored = catalogue(subject.hash, texts, subject)
st.subheader("The catalogue")
fragment(show_table)(scored)
st.subheader("One head")
fragment(show_head)(subject, scored)
if subject.card.n_layers > 1:
    st.subheader("Which heads feed which?")
    fragment(show_composition)(subject)
[(layer, head)] = parse_heads(st.session_state["head"])
more, given = {
    RANDOM: ("", ""),
    REAL: ("from workbench.data.passages import TEXTS\n", "texts=TEXTS, "),
    OWN: ("", f"texts={list(texts or ())!r}, "),
}[str(source)]
same_in_python(f"""\
import workbench as wb
{more}
subject = wb.load({model!r})
heads = wb.head_catalogue(subject, {given}n={SAMPLES})
print(heads.to_frame().nlargest(5, "induction_score")[["name", "labels", "induction_score"]])
print(heads.similar({layer}, {head}))
print(wb.strongest_pairs(subject, {layer}, {head}, circuit="OV"))
print(wb.composition(subject).to_frame(10))
""")
