"""Anatomy: one attention head computed step by step on a prompt, checked against the model."""

import streamlit as st

import workbench as wb
from workbench.figures import anatomy as draw
from workbench.figures.style import head_name, visible
from workbench.interp.anatomy.decoder import Step
from workbench.interp.anatomy.record import Anatomy
from workbench.ui.parts.both_heads import all_heads
from workbench.ui.parts.charts import chart, downloads
from workbench.ui.parts.cut import cut
from workbench.ui.parts.history import first_index
from workbench.ui.parts.models import alone, cached_load, pick_name
from workbench.ui.parts.notices import notices
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.words import called, escaped
from workbench.ui.views.anatomy import LAST, open_stage

PROMPT = (
    "The red house, the green tree, the old horse, the black dog. "
    "The red house, the green tree, the old"
)
WORD = "interpretable"
# Tokens of the longest prompt whose matrices can still be read; longer prompts are cut.
MOST = 64


@st.cache_resource(max_entries=16, show_spinner="Computing every step")
def worked_out(sha256: str, prompt: str, settings: tuple, _subject: wb.Subject) -> Anatomy:
    """Every step of one head, cached by model, prompt and settings."""
    with alone(sha256):
        return wb.anatomy(_subject, prompt, **dict(settings))


def show_step(number: int, step: Step, anatomy: Anatomy, position: int) -> None:
    """Show one step: formula, explanation and check on the left, its matrix on the right."""
    words, picture = st.columns([2, 3], gap="medium", vertical_alignment="center")
    with words:
        st.markdown(f"**{number}. {step.name}** {escaped(step.shape)}")
        st.latex(step.formula)
        st.markdown(step.words)
        if step.holds is False:
            st.badge(
                f"differs from the model by {step.deviation:.0e}",
                icon=":material/close:",
                color="red",
            )
        elif step.holds:
            st.badge(
                f"matches the model to {step.deviation:.0e}",
                icon=":material/check:",
                color="green",
            )
    with picture:
        tokens, keys = anatomy.axes(step)
        figure = draw.step_matrix(
            step.values, tokens, keys=keys, chosen=None if step.of_sources else position
        )
        name = f"{anatomy.subject}-{head_name(anatomy.layer, anatomy.head)}-{step.name}"
        chart(figure, key=f"step_{number}", name=name, alt=f"{step.name}, one row per token")


def pick_head(subject: wb.Subject, n_layers: int) -> tuple[str, int, int]:
    """The name, layer and number of the head that a select box chooses."""
    n_heads = subject.card.n_heads
    names = [head_name(i, j) for i in range(n_layers) for j in range(n_heads)]
    start = names[min(len(names) - 1, n_heads)]
    name = st.selectbox(
        "Layer and head",
        names,
        first_index("head", (n_layers, n_heads), names, start),
        key="head",
        bind="query-params",
    )
    return name, *divmod(names.index(name), n_heads)


def show_next(anatomy: Anatomy) -> None:
    """Show the most likely next tokens with their probabilities."""
    writer = "The decoder's next token" if anatomy.part == "encoder" else "Next token"
    st.markdown(f"**{writer}**")
    expected = anatomy.next_tokens.assign(token=anatomy.next_tokens["token"].map(visible))
    bar = st.column_config.ProgressColumn("probability", format="%.3f", min_value=0, max_value=1)
    st.dataframe(expected, hide_index=True, column_config={"probability": bar})


st.title("How does attention work, number by number?")
st.caption(
    "One head on your prompt, step by step: each step is computed from its formula and compared "
    "with the model's own tensor. Encoder-decoder models, such as shelf-reverse, have three kinds "
    "of attention."
)
choice, box = st.columns([1, 3])
with choice:
    model = pick_name(seq2seq=True)
subject = cached_load(model, seq2seq=True)
more: dict[str, str | int] = {}
if subject.model.config.is_encoder_decoder:
    from workbench.interp.anatomy.seq2seq import PARTS, n_layers

    with box:
        prompt = st.text_input("Text", WORD, key="text", bind="query-params")
        part = st.segmented_control(
            "Attention",
            list(PARTS),
            default="cross",
            key="part",
            bind="query-params",
            required=True,
        )
        st.caption(
            f"{PARTS[str(part)].capitalize()}. The decoder's input is the model's own greedy "
            "output."
        )
    more = {"part": str(part)}
    depth = n_layers(subject, str(part))
else:
    with box:
        prompt = st.text_area("Prompt", PROMPT, height=84, key="prompt", bind="query-params") or ""
    depth = subject.card.n_layers
prompt = cut(subject, prompt, MOST)
with choice:
    name, layer, head = pick_head(subject, depth)
more = {"layer": layer, "head": head, **more}
anatomy = worked_out(subject.hash, prompt, tuple(more.items()), subject)
notices(anatomy.warnings)
last = len(anatomy.tokens) - 1
with box:
    places = list(range(last + 1))
    position = st.selectbox(
        "Token (framed in every picture)",
        places,
        first_index("position", tuple(anatomy.tokens), places, last),
        format_func=lambda i: f"{visible(anatomy.tokens[i])} ({i})",
        key="position",
        bind="query-params",
    )
if wrong := anatomy.disagreeing:
    st.warning(
        f"{len(wrong)} steps (the first is **{wrong[0].name}**) differ from what "
        f"{called(subject.name)} ({subject.card.architecture}) computes: it has parts that these "
        "formulas do not cover.",
        icon=":material/warning:",
    )
n_compared = sum(step.deviation is not None for step in anatomy.steps)
st.badge(
    f"{n_compared} of {len(anatomy.steps)} steps "
    f"{'differ by up to' if wrong else 'match the model to'} {anatomy.deviation:.0e}",
    icon=":material/close:" if wrong else ":material/check:",
    color="red" if wrong else "green",
)
st.caption(
    "A step is compared with the model's own tensor, and the difference is a share of its largest "
    "entry. Steps without a check mark are read from the model, or it has no tensor for them."
)
stage, shown_steps = open_stage(anatomy.steps)
for number, step in shown_steps:
    show_step(number, step, anatomy, int(position or 0))
if stage == LAST:
    show_next(anatomy)
if not anatomy.part:
    all_heads((model,), prompt, key="all_heads", head=(layer, head))
downloads(
    lambda: [
        draw.step_matrix(
            step.values,
            anatomy.axes(step)[0],
            keys=anatomy.axes(step)[1],
            title=f"{number}. {step.name} {step.shape}",
        )
        for number, step in enumerate(anatomy.steps, 1)
    ],
    anatomy.numbers,
    name=f"anatomy-{anatomy.subject}-{name}",
    title=f"Attention of {anatomy.subject}, {name}, step by step",
    text=anatomy.prompt,
)
loading = f"{model!r}, seq2seq=True" if anatomy.part else f"{model!r}"
arguments = ", ".join(f"{word}={value!r}" for word, value in more.items())
same_in_python(f"""\
import workbench as wb

subject = wb.load({loading})
anatomy = wb.anatomy(subject, {prompt!r}, {arguments})
print(anatomy.to_frame())  # every step, its shape and its difference from the model's tensor
print(anatomy.steps[-1].values.shape, anatomy.next_tokens)
""")
