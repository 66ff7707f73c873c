"""The heads of an encoder or encoder-decoder: the scores that have a meaning in each attention."""

from typing import Any

import streamlit as st

import workbench as wb
from workbench.data.passages import TEXTS, passages
from workbench.figures import heads as draw
from workbench.interp.patterns.heads import UNITS, HeadScores
from workbench.interp.patterns.part_scores import PART_SCORES
from workbench.statistics.words import bracketed
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ
from workbench.ui.parts.cell_panel import Cells, cell_panel, cell_texts, head_link
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.kept import kept
from workbench.ui.parts.models import alone, cached_load
from workbench.ui.parts.snippets import loading, same_in_python
from workbench.ui.parts.stack_texts import pick_part

SAMPLES = 8
RANDOM = "random tokens"
REAL = "real text"
OWN = "your own text"
STRINGS = "stressed\n\nreversal\n\nworkbench\n\nattention\n\npatching\n\ndecoders"


@kept("scores of heads", 8, "Scoring every head")
def _scores(sha256: str, part: str, texts: tuple[str, ...] | None, _subject: Subject) -> HeadScores:
    """The scores of one part, cached by model and texts (None: random tokens)."""
    with alone(sha256):
        return wb.head_scores(_subject, texts=texts, n=SAMPLES, part=part)


def heads_of_stack(model: str) -> None:
    """The scores of every head of one part: a table, a map and a ranking.

    Args:
        model: Name of an encoder or an encoder-decoder.
    """
    subject = cached_load(model, seq2seq=True, encoder=True)
    texts, given = _texts(subject)
    part = pick_part(subject)
    scores = _scores(subject.hash, part, texts, subject)
    words = PART_SCORES[scores.part]
    name = str(
        st.selectbox(
            "Score",
            list(words),
            key="part_score",
            bind="query-params",
            format_func=lambda score: f"{score.replace('_', ' ')}: {words[score]}",
        )
    )
    frame = scores.to_frame().sort_values(name, ascending=False, ignore_index=True)
    ends = zip(frame[f"{name}_low"], frame[f"{name}_high"], strict=True)
    frame["95 % interval"] = [bracketed(low, high, ".3f") for low, high in ends]
    columns: dict[str, Any] = {"name": st.column_config.TextColumn("head", pinned=True)}
    for score in (name, *(other for other in words if other != name)):
        unit = f", {UNITS[score]}" if score in UNITS else ""
        title = score.replace("_", " ") + unit
        columns[score] = st.column_config.NumberColumn(title, format="%.3f", help=words[score])
        if score == name:
            columns["95 % interval"] = st.column_config.TextColumn("95 % interval")
    st.dataframe(frame[list(columns)], hide_index=True, height=300, column_config=columns)
    st.caption(
        f"Means over {scores.n} samples ({scores.text}). There is no induction without a causal "
        "mask, and no labels, copying or composition: their rules are those of decoder-only models."
    )
    values = scores.mean[name], scores.low[name], scores.high[name]
    how = {"name": name.replace("_", " "), "n": scores.n, "unit": UNITS.get(name, "")}
    figures = [draw.score_map(*values, **how), draw.ranked(*values, **how)]
    names = ("map", "ranked")
    for column, figure, what in zip(st.columns(2, gap="medium"), figures, names, strict=True):
        with column:
            chart(
                figure,
                key=f"score_{what}",
                name=f"{subject.name}-{name}-{what}",
                alt=f"{name}, {what}",
            )
    _panel(subject, scores, name)
    downloads(
        lambda: figures,
        scores.to_frame,
        name=f"heads-{subject.name}-{scores.part}",
        title=f"Head scores of {subject.name} ({scores.part})",
        text=f"{scores.n} samples, {scores.text}, seed {scores.seed}.",
    )
    more = f", part={part!r}" if part else ""
    same_in_python(
        "import workbench as wb\n\n"
        f"subject = wb.load({model!r}{loading(subject)})\n"
        f"scores = wb.head_scores(subject{given}, n={SAMPLES}{more})\n"
        f"print(scores.to_frame().nlargest(5, {name!r}))\n"
    )


def _texts(subject: Subject) -> tuple[tuple[str, ...] | None, str]:
    """The texts to measure on (None: random tokens), and the argument that gives them."""
    source = st.segmented_control(
        "Measured on",
        [RANDOM, REAL, OWN],
        default=OWN if subject.kind == SEQ2SEQ else RANDOM,
        key="part_source",
        bind="query-params",
        required=True,
        help="Random tokens are given twice. An encoder-decoder reads a text and writes its own "
        "answer to it.",
    )
    if source == RANDOM:
        return None, ""
    if source == REAL:
        return tuple(TEXTS), f", texts={list(TEXTS)!r}"
    first = STRINGS if subject.kind == SEQ2SEQ else "\n\n".join(TEXTS[:2])
    own = st.text_area(
        "Texts, separated by blank lines", first, key="part_own", bind="query-params"
    )
    texts = tuple(passages(own or ""))
    return texts, f", texts={list(texts)!r}"


def _panel(subject: Subject, scores: HeadScores, name: str) -> None:
    """The score of the head under the mouse, or of the clicked one."""
    mean = scores.mean[name]
    cells = Cells(
        rows=[f"Layer {i}" for i in range(len(mean))],
        columns=[f"head {j}" for j in range(mean.shape[1])],
        numbers={
            name.replace("_", " "): cell_texts(mean, write="{:.3f}".format),
            "95 % interval": cell_texts(scores.low[name], scores.high[name], write=bracketed),
        },
        links=head_link(model=subject.name, part=scores.part),
    )
    hint = "Move over the map to read a head; click one to keep it."
    about = (subject.hash, scores.part, name)
    cell_panel(cells, chart="score_map", about=about, key="read_map", hint=hint)
