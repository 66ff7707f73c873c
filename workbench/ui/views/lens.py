"""The lens of an encoder, at its gap, and of an encoder-decoder, in its decoder."""

import streamlit as st

import workbench as wb
from workbench.figures import lens as draw
from workbench.figures.style import visible
from workbench.interp.lenses.lens import Lens
from workbench.interp.patching.checks import TOLERANCE
from workbench.subjects import Subject
from workbench.subjects.kinds import SEQ2SEQ
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.models import alone, cached_load
from workbench.ui.parts.notices import notices
from workbench.ui.parts.snippets import loading, same_in_python
from workbench.ui.parts.stack_texts import WORD, gap, written_so_far


def lens_of_stack(model: str) -> None:
    """The prediction after each layer at every position, and the answers' lines at one of them.

    Args:
        model: Name of an encoder or an encoder-decoder.
    """
    subject = cached_load(model, seq2seq=True, encoder=True)
    prompt, target, answers = _asked(subject)
    with alone(subject.hash):
        lens = wb.lens(subject, prompt, target=target, answer=answers)
    notices(lens.warnings)
    writes = subject.kind == SEQ2SEQ
    table = draw.lens_table(
        lens.top,
        lens.prob,
        lens.kl,
        lens.tokens,
        title="What is written next, after each layer of the decoder"
        if writes
        else "What would be filled in, after each layer",
    )
    with st.container(key="scrolled"):
        chart(table, key="table", name="logit-lens", alt="The prediction by layer and position")
    figures = [table]
    if answers:
        figures += _lines(lens)
    worst = lens.checks["lens"]
    mark = ":material/check: " if worst <= TOLERANCE else ":material/warning: "
    st.caption(f"{mark}After the last layer the lens gives the model's own logits, to {worst:.0e}.")
    st.caption(
        "By part and by token are of next tokens in decoder-only models; the tuned lens is trained "
        "for those."
    )
    downloads(
        lambda: figures,
        lens.to_frame,
        name=f"logit-lens-{lens.subject}",
        title=f"Logit lens of {lens.subject}",
    )
    more = f", target={target!r}" if target else ""
    same_in_python(
        "import workbench as wb\n\n"
        f"model = wb.load({model!r}{loading(subject)})\n"
        f"lens = wb.lens(model, {prompt!r}{more}, answer={answers!r})\n"
        "print(lens.headline(), lens.checks)\n"
        "print(lens.to_frame())\n"
    )


def _asked(subject: Subject) -> tuple[str, str | None, list[str]]:
    """The text, what is written (None: the model's own answer), and the words to follow."""
    writes = subject.kind == SEQ2SEQ
    words, second, third = st.columns([4, 2, 2])
    first = WORD if writes else gap(subject)
    prompt = words.text_input("Text", first, key="text", bind="query-params")
    target = None
    if writes:
        with second:
            target = written_so_far()
    follow = third.text_input(
        "Follow",
        key="follow",
        bind="query-params",
        placeholder="a word or two",
        help="Words of one token each, with spaces between them, to follow through the layers.",
    )
    return prompt or "", target, (follow or "").split()


def _lines(lens: Lens) -> list:
    """Draw the answers' probability and rank by layer; returns the figures."""
    figures = []
    for column, what in zip(st.columns(2, gap="medium"), ("prob", "rank"), strict=True):
        values = lens.answer_prob if what == "prob" else lens.answer_rank
        rows = values[:, :, lens.place]
        lines = dict(zip(lens.answers, rows, strict=True))
        figures.append(draw.answer_lines(lines, kind=what, n_rows=len(lens.prob)))
        with column:
            chart(
                figures[-1],
                key=f"answers_{what}",
                name=f"answers-{what}",
                alt=f"The answers' {what} by layer",
            )
    st.caption(f"Read at {visible(lens.tokens[lens.place])} ({lens.place}).")
    return figures
