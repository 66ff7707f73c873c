"""Home: what the workbench can answer, the model that is loaded, and recent runs."""

import streamlit as st

from workbench.store import Run
from workbench.ui import warm
from workbench.ui.parts import cards, runs
from workbench.ui.parts.links import page_link

QUESTIONS = (
    (
        "chat",
        ":material/forum:",
        "What does it say, and why?",
        "Talk to models side by side; click a token to see its alternatives and which inputs, "
        "layers and heads produced it.",
    ),
    (
        "attention",
        ":material/grid_on:",
        "What does this head look at?",
        "The attention of all heads on your prompt at a glance, one head in full, and what each "
        "does in general.",
    ),
    (
        "positions",
        ":material/timeline:",
        "How does the model know order?",
        "The position encoding, and how far back each head attends, with intervals.",
    ),
    (
        "patching",
        ":material/conversion_path:",
        "Where does the answer come from?",
        "Exact activation patching: which layers and tokens carry the answer, in a second.",
    ),
    (
        "lens",
        ":material/layers:",
        "What does each layer already believe?",
        "Logit lens and tuned lens on your prompt, and direct logit attribution of every head and "
        "MLP.",
    ),
    (
        "circuits",
        ":material/hub:",
        "Which parts does it need?",
        "Heads ablated one by one, with intervals; the circuit between them; and the model "
        "without them.",
    ),
    (
        "pictures",
        ":material/image:",
        "How does a model see?",
        "Pictures and sounds: attention drawn on them, digits completed and drawn, two pictures "
        "patched.",
    ),
    (
        "benchmarks",
        ":material/scoreboard:",
        "How good is it, and is the difference real?",
        "Models on the same tasks: scores with 95 % intervals, item by item.",
    ),
    (
        "compare",
        ":material/compare_arrows:",
        "What did fine-tuning change?",
        "A base and a tuned model: paired tests on tasks, and how much each head changed.",
    ),
    (
        "transplant",
        ":material/content_cut:",
        "Where does the change live?",
        "Swap parts between two models: how much of the gain each layer and head carries.",
    ),
    (
        "train",
        ":material/model_training:",
        "Can I train one?",
        "A small GPT from a recipe, on your own text, with live curves, in the background.",
    ),
)
# Pixels that the picture takes, also while it is not there yet.
PICTURE = 690
PAGE_OF = {"train": "train", "finetune": "train", "eval": "benchmarks", "compare": "compare"}


def questions() -> None:
    """A card for each question, linked to the page that answers it."""
    rows = [QUESTIONS[:1], *(QUESTIONS[start : start + 3] for start in range(1, len(QUESTIONS), 3))]
    for row in rows:
        for column, (page, icon, question, answer) in zip(st.columns(len(row)), row, strict=True):
            with column.container(border=True, height="stretch"):
                page_link(page, f"**{question}**", icon=icon)
                st.caption(answer)


def model() -> None:
    """The default model and its main facts."""
    facts = cards.shelf_facts(warm.DEFAULT)
    st.markdown(f"##### {warm.DEFAULT} is ready")
    if facts:
        st.caption(
            f"{facts['n_params']:,} parameters, {facts['n_layers']} layers with {facts['n_heads']} "
            f"heads each, {facts['positions']} position encoding. {facts['licence']}."
        )
    else:
        st.caption("It is not bundled here; the Models page lists what can be loaded.")
    page_link("models", "All models, and how to load others", icon=":material/deployed_code:")


@st.fragment(run_every=None if warm.done() else 1.0)
def picture(waited: bool) -> None:
    """The default model's attention, once the model is loaded."""
    with st.container(height=PICTURE, border=False):
        if not warm.done():
            st.caption(f"The {warm.DEFAULT} model is being loaded; its heads appear here.")
            return
        if waited:
            st.rerun()
        heads()


def heads() -> None:
    """The attention of all heads of the default model on the default prompt."""
    from workbench.figures.attention import atlas
    from workbench.ui.parts.charts import chart
    from workbench.ui.parts.look import PROMPT, look
    from workbench.ui.parts.models import cached_load

    subject = cached_load(warm.DEFAULT)
    pattern = look(subject, PROMPT).attention.pattern
    n_heads = subject.card.n_layers * subject.card.n_heads
    st.markdown(f"**What the {n_heads} heads of {warm.DEFAULT} look at**")
    st.caption(f"Each square is a head. Rows are the tokens of: {PROMPT}")
    page_link("attention", "Open every head, on your own text", icon=":material/arrow_forward:")
    chart(atlas(pattern), key="home_atlas", name="heads", alt="Attention of every head")


def history() -> None:
    """Loss, head scores and accuracy of the default model over its training."""
    from workbench.comparison.dynamics import bundled, dynamics
    from workbench.figures.dynamics import dynamics as draw
    from workbench.ui.parts.charts import chart

    if warm.DEFAULT not in bundled():
        return
    training = dynamics(warm.DEFAULT)
    st.markdown("**When it learned to repeat**")
    figure = draw(training.to_frame(), rise=training.rise(), height=330)
    st.caption(
        "Previous-token heads form first; then, suddenly, induction heads. Bars: 95 % intervals."
    )
    chart(
        figure,
        key="home_dynamics",
        name="dynamics",
        alt="Loss, head scores and accuracy over training",
    )


def recent() -> None:
    """The newest runs with their status."""
    newest = runs.store().list(limit=6)
    st.markdown("##### Continue")
    if not newest:
        st.caption(
            "Training runs and benchmarks run in the background and are listed here; there are "
            "none yet."
        )

    @st.fragment(run_every=2.0 if any(run.active for run in newest) else None)
    def listed() -> None:
        for run in runs.store().list(limit=6):
            line(run)

    listed()
    page_link("runs", "All runs", icon=":material/lists:")


def line(run: Run) -> None:
    """One run: status, linked title, time and progress."""
    icon, colour = runs.LOOKS.get(run.status, runs.LOOKS["queued"])
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(run.status, icon=icon, color=colour)
        page_link(PAGE_OF.get(run.kind, "home"), run.title, run=run.id)
        st.caption(runs.when(run))
    if run.active:
        st.progress(run.progress, text=run.message or "starting")


st.title("What can I ask here?")
st.caption(
    "Train or load a small GPT, measure what it can do, look inside, change it, and measure the "
    "effect."
)
left, right = st.columns([3, 2], gap="large")
with left:
    picture(not warm.done())
with right:
    recent()
    model()
    if warm.done():
        history()
questions()
