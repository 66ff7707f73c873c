"""Lens: the prediction after each layer, and the contribution of each part and token."""

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.figures import lens as draw
from workbench.figures.style import visible
from workbench.interp.lenses.inputs import BASELINES, InputAttribution
from workbench.interp.lenses.lens import LENSES, Lens
from workbench.interp.lenses.tuned import TunedLens, stored_lens
from workbench.interp.patching.checks import TOLERANCE
from workbench.subjects.kinds import DECODER
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.coloured_text import coloured_text
from workbench.ui.parts.links import page_link
from workbench.ui.parts.look import likeliest
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import notices
from workbench.ui.parts.progress import forget, wanted, with_progress
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import escaped
from workbench.ui.views.lens import lens_of_stack

VIEWS = ("By layer", "By part", "By token")
VIEW_HELP = """
- **By layer**: the model's prediction, read from the residual stream after each layer
- **By part**: how much the embedding and every layer, head and neuron adds to the answer's logit
- **By token**: how much each token of the prompt contributes to the answer (integrated gradients)
"""
# Positions shown at most.
SHOWN = 24
PROMPT = "She had a sister, a horse and a fire. He had a sister, a horse and a"
ANSWERS = (" fire", " door")
LENS_HELP = "; ".join(f"**{name}**: {words}" for name, words in LENSES.items())


def controls() -> tuple[str, str, str, str, str]:
    """The model, view, prompt, answer and wrong answer that are chosen."""
    left, right = st.columns([3, 4], vertical_alignment="bottom")
    with left:
        model = pick_name(seq2seq=True, encoder=True)
    causal = cached_load(model, seq2seq=True, encoder=True).kind == DECODER
    view = right.segmented_control(
        "View",
        VIEWS if causal else VIEWS[:1],
        default=VIEWS[0],
        key="lens_view",
        bind="query-params",
        required=True,
        help=VIEW_HELP,
    )
    if not causal:
        return model, str(view), "", "", ""
    words, first, second = st.columns([4, 1, 1])
    prompt = words.text_input("Prompt", PROMPT, key="prompt", bind="query-params")
    answer = first.text_input(
        "Answer",
        key="answer",
        bind="query-params",
        placeholder="likeliest",
        help="One token, including its leading space. Empty: the most likely next token.",
    )
    wrong = second.text_input(
        "Wrong answer",
        key="wrong",
        bind="query-params",
        placeholder="second",
        help="A token to compare with. Both empty: the second most likely next token.",
    )
    return model, str(view), prompt or "", answer or "", wrong or ""


def answers_of(model: str, prompt: str, answer: str, wrong: str) -> tuple[str, str]:
    """Answer and wrong answer: those that were typed, or the model's two most likely tokens."""
    if answer or wrong or not prompt:
        return answer, wrong
    if prompt == PROMPT:
        return ANSWERS
    subject = cached_load(model)
    answer, wrong = likeliest(subject.hash, prompt, subject)
    words = f"Answer {visible(answer)}, compared with {visible(wrong)}"
    st.caption(f"{escaped(words)}: the two most likely next tokens. Type others above.")
    return answer, wrong


def by_layer(model: str, prompt: str, answers: list[str]) -> None:
    """The most likely token by layer and position, and the answers' probability and rank."""
    subject = cached_load(model)
    trained = stored_lens(subject)
    kind = str(
        st.segmented_control(
            "Lens",
            list(LENSES),
            default="logit",
            key="lens",
            bind="query-params",
            required=True,
            help=LENS_HELP,
        )
    )
    if kind == "tuned" and trained is None:
        train(model)
        return
    with alone(subject.hash):
        lens = wb.lens(subject, prompt, kind=kind, answer=answers)
        others = {kind: lens}
        if trained is not None:
            other = "logit" if kind == "tuned" else "tuned"
            others[other] = wb.lens(subject, prompt, kind=other, answer=answers)
    notices(lens.warnings)
    n_pos = len(lens.tokens)
    first = max(0, n_pos - SHOWN)
    if first:
        st.caption(f"The last {SHOWN} of {n_pos} positions; the download has all of them.")
    table = draw.lens_table(
        [row[first:] for row in lens.top],
        lens.prob[:, first:],
        lens.kl[:, first:],
        lens.tokens[first:],
        starts=first,
        title=f"Prediction after each layer ({kind} lens)",
    )
    with st.container(key="scrolled"):
        chart(
            table,
            key="table",
            name=f"{kind}-lens",
            alt="The most likely next token by layer and position",
        )
    figures = [table, *(trajectories(others, kind) if answers else [])]
    if trained is not None:
        lens_quality(trained)
    worst = lens.checks["lens"]
    mark = ":material/check: " if worst <= TOLERANCE else ":material/warning: "
    st.caption(f"{mark}After the last layer the lens gives the model's own logits, to {worst:.0e}.")
    downloads(
        lambda: figures,
        lens.to_frame,
        name=f"{kind}-lens-{lens.subject}",
        title=f"{kind} lens of {lens.subject}",
    )
    setup = "# the model's own unembedding"
    if kind == "tuned":
        setup = "wb.tuned_lens(model)  # trains it unless it is stored already"
    same_in_python(f"""\
import workbench as wb

model = wb.load({model!r})
{setup}
lens = wb.lens(model, {prompt!r}, kind={kind!r}, answer={answers!r})
print(lens.to_frame().query("pos == {n_pos - 1}"), lens.checks)
""")


def trajectories(lenses: dict[str, Lens], kind: str) -> list:
    """Draw the answers' probability and rank by layer through each lens; returns the figures."""
    figures = []
    for column, what in zip(st.columns(2, gap="medium"), ("prob", "rank"), strict=True):
        lines = {}
        dashed = []
        for name, seen in lenses.items():
            values = seen.answer_prob if what == "prob" else seen.answer_rank
            for answer, line in zip(seen.answers, values[:, :, -1], strict=True):
                lines[f"{answer} ({name})"] = line
                dashed += [f"{answer} ({name})"] if name != kind else []
        n_rows = len(next(iter(lenses.values())).prob)
        figures.append(draw.answer_lines(lines, kind=what, n_rows=n_rows, dashed=dashed))
        with column:
            chart(
                figures[-1],
                key=f"answers_{what}",
                name=f"answers-{what}",
                alt=f"The answers' {what} by layer",
            )
    return figures


def train(model: str) -> None:
    """A button that trains a tuned lens and then draws the page anew."""
    subject = cached_load(model)
    key = ("tuned", subject.hash)
    cost = (
        "This model has no tuned lens yet. Training takes seconds for a bundled model and minutes "
        "for SmolLM2. The result is stored, and an interrupted training continues where it "
        "stopped."
    )
    if wanted(key, cost, quick=False, button="Train the tuned lens"):
        with alone(subject.hash):
            with_progress(key, lambda report: wb.tuned_lens(subject, progress=report))
        forget(key)  # the store has it
        st.rerun()


def lens_quality(tuned: TunedLens) -> None:
    """The divergence of both lenses from the model's own prediction, by layer."""
    error = tuned.error
    table = {str(name): column.tolist() for name, column in error.to_frame().items()}
    chart(
        draw.lens_error(table, error.n),
        key="nearness",
        name="lens-error",
        alt="Divergence of both lenses by layer",
    )
    st.caption(
        f"95 % intervals over {error.n} texts ({error.tokens:,} tokens) held out from the training "
        f"text ({tuned.source}, {tuned.tokens:,} tokens), without the first token of each text."
    )


def by_part(model: str, prompt: str, answer: str, wrong: str) -> None:
    """Direct logit attribution: what every layer, head and neuron adds to the logit difference."""
    subject = cached_load(model)
    with alone(subject.hash):
        direct = wb.direct(subject, prompt, answer=answer, wrong=wrong)
    notices(direct.warnings)
    steps = direct.layers()
    neurons = direct.top_neurons(15)
    columns = st.columns(3)
    columns[0].metric(
        "Logit difference", f"{direct.total:+.3f}", help="The sum of all parts below."
    )
    columns[1].metric(
        "Check: sum of parts",
        f"{direct.checks['direct_sum']:.0e}",
        help="Difference from the model's own logit difference, in logits.",
    )
    columns[2].metric(
        "Check: sum of neurons",
        f"{direct.checks['neuron_sum']:.0e}",
        help="Largest difference between an MLP and the sum of its neurons, in logits.",
    )
    heads = direct.to_frame().query("part.str.contains('H')").head(15)
    figures = [
        draw.waterfall(list(steps["part"]), list(steps["contribution"]), direct.total),
        draw.head_contributions(direct.heads),
        draw.ranked_bars(
            list(heads["part"]), list(heads["contribution"]), title="Strongest heads", unit="logits"
        ),
        draw.ranked_bars(
            list(neurons["neuron"]),
            list(neurons["contribution"]),
            title="Strongest neurons",
            unit="logits",
        ),
    ]
    chart(
        figures[0],
        key="waterfall",
        name="direct-layers",
        alt="Direct contribution of every layer, adding up",
    )
    left, middle, right = st.columns([2, 1, 1], gap="medium")
    for column, figure, name in (
        (left, figures[1], "heads"),
        (middle, figures[2], "strongest_heads"),
        (right, figures[3], "neurons"),
    ):
        with column:
            chart(figure, key=name, name=f"direct-{name}", alt=f"Direct contribution of {name}")
    best = str(heads["part"].iloc[0])
    page_link("attention", f"Attention of {best}", model=model, prompt=prompt, head=best)
    downloads(
        lambda: figures,
        lambda: pd.concat(
            [direct.to_frame(), direct.top_neurons(200).rename(columns={"neuron": "part"})]
        ),
        name=f"direct-{direct.subject}",
        title=f"Direct logit attribution of {direct.subject}",
        text=f"{prompt}\nanswer: {answer!r}, wrong: {wrong!r}",
    )
    same_in_python(f"""\
import workbench as wb

direct = wb.direct(wb.load({model!r}), {prompt!r}, answer={answer!r}, wrong={wrong!r})
print(direct.layers(), direct.total, direct.checks)
print(direct.to_frame().head(20), direct.top_neurons(10))
""")


def by_token(model: str, prompt: str, answer: str, wrong: str) -> None:
    """Integrated gradients: how much each token of the prompt contributes to the answer."""
    subject = cached_load(model)
    left, right = st.columns([2, 5], vertical_alignment="bottom")
    baseline = left.segmented_control(
        "Baseline",
        list(BASELINES),
        default="mean",
        key="baseline",
        bind="query-params",
        required=True,
        help="; ".join(f"**{name}**: {words}" for name, words in BASELINES.items()),
    )
    given = {"answer": answer, "wrong": wrong, "baseline": str(baseline)}
    if baseline == "corrupted":
        given["corrupted"] = (
            right.text_input("Corrupted prompt", key="corrupted", bind="query-params") or ""
        )
        if not given["corrupted"]:
            st.info(
                "Enter a prompt with the same number of tokens that leads to the wrong answer.",
                icon=":material/edit:",
            )
            return
    with alone(subject.hash), st.spinner("Computing integrated gradients"):
        attribution = wb.input_attribution(
            subject,
            prompt,
            answer=answer,
            wrong=wrong,
            baseline=str(baseline),
            corrupted=given.get("corrupted", ""),
        )
    notices(attribution.warnings)
    show_tokens(attribution)
    call = ", ".join(f"{name}={value!r}" for name, value in given.items())
    same_in_python(f"""\
import workbench as wb

attribution = wb.input_attribution(wb.load({model!r}), {prompt!r}, {call})
print(attribution.to_frame(), attribution.start, attribution.value, attribution.checks)
""")


def show_tokens(attribution: InputAttribution) -> None:
    """The prompt coloured by each token's contribution, the completeness check, and a bar chart."""
    columns = st.columns(4)
    words = attribution.metric_name.replace("_", " ")
    columns[0].metric(
        "At the prompt", f"{attribution.value:+.3f}", help=f"The {words} at the last token."
    )
    columns[1].metric(
        "At the baseline", f"{attribution.start:+.3f}", help=BASELINES[attribution.baseline]
    )
    columns[2].metric(
        "Sum of the scores",
        f"{attribution.scores.sum():+.3f}",
        help="Should equal prompt minus baseline.",
    )
    error = attribution.checks["completeness"]
    columns[3].metric(
        "Completeness error",
        f"{error:.0e}",
        help=f"How far the sum is from that; {attribution.gradients} gradients were taken.",
    )
    for warning in attribution.warnings:
        st.error(warning, icon=":material/error:")
    coloured_text(attribution.tokens, list(attribution.scores))
    st.caption(
        f"Blue tokens raise {visible(attribution.answer)}, red ones lower it. The numbers add up "
        "to the difference between prompt and baseline."
    )
    names = [f"{i} {visible(t)}" for i, t in enumerate(attribution.tokens)]
    figure = draw.ranked_bars(
        names, list(attribution.scores), title=f"What each token adds to the {words}", unit=words
    )
    chart(figure, key="inputs", name="input-attribution", alt="What each token adds")
    downloads(
        lambda: [figure],
        attribution.to_frame,
        name=f"inputs-{attribution.subject}",
        title=f"Input tokens, {attribution.subject}",
    )


st.title("What does each layer already believe?")
st.caption(
    "Read the prediction after every layer, split the answer into the contribution of each part, "
    "and find the tokens that matter."
)
model, view, prompt, answer, wrong = controls()
if cached_load(model, seq2seq=True, encoder=True).kind != DECODER:
    lens_of_stack(model)
    st.stop()
answer, wrong = answers_of(model, prompt, answer, wrong)
if view == "By layer":
    by_layer(model, prompt, [word for word in dict.fromkeys((answer, wrong)) if word])
elif view == "By part":
    by_part(model, prompt, answer, wrong)
else:
    by_token(model, prompt, answer, wrong)
