"""Home: the questions that can be asked here, the model that is ready, and what has been running."""

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
        "Talk to models side by side, and ask of any token what else was likely, what it rests on and who wrote it.",
    ),
    (
        "attention",
        ":material/grid_on:",
        "What does this head look at?",
        "Every head's attention on your prompt at a glance, one in full, and what each does in general.",
    ),
    (
        "positions",
        ":material/timeline:",
        "How does the model know order?",
        "The position encoding itself, and how far back each head looks, with intervals.",
    ),
    (
        "patching",
        ":material/conversion_path:",
        "Where does the answer come from?",
        "Exact activation patching: which layer and token carry the answer, in a second.",
    ),
    (
        "lens",
        ":material/layers:",
        "What does each layer already believe?",
        "Logit lens and tuned lens on your prompt, and what every head and MLP adds to the answer.",
    ),
    (
        "circuits",
        ":material/hub:",
        "Which parts does it need?",
        "Heads taken out one by one with intervals, the edges between them, and the model without them.",
    ),
    (
        "benchmarks",
        ":material/scoreboard:",
        "How good is it, and is the difference real?",
        "Models on the same tasks, scores with their standard error, item by item.",
    ),
    (
        "compare",
        ":material/compare_arrows:",
        "What did fine-tuning change?",
        "A base and a tuned model: paired tests on tasks, and how far each head moved.",
    ),
    (
        "transplant",
        ":material/content_cut:",
        "Where does the change live?",
        "Parts of one model put into the other: how much of the gain each layer and head brings along.",
    ),
    (
        "train",
        ":material/model_training:",
        "Can I train one?",
        "A small GPT from a recipe, on your own text, with live curves; it goes on without the browser.",
    ),
)
PAGE_OF = {"train": "train", "finetune": "train", "eval": "benchmarks", "compare": "compare"}


def questions() -> None:
    rows = [QUESTIONS[:1], *(QUESTIONS[start : start + 3] for start in range(1, len(QUESTIONS), 3))]
    for row in rows:
        for column, (page, icon, question, answer) in zip(st.columns(len(row)), row, strict=True):
            with column.container(border=True, height="stretch"):
                page_link(page, f"**{question}**", icon=icon)
                st.caption(answer)


def model() -> None:
    facts = cards.shelf_facts(warm.DEFAULT)
    st.markdown(f"##### {warm.DEFAULT} is ready")
    if facts:
        st.caption(
            f"{facts['n_params']:,} parameters, {facts['n_layers']} layers of {facts['n_heads']} heads, positions: "
            f"{facts['positions']}. {facts['licence']}."
        )
    else:
        st.caption("It is not on the shelf; Models says what else can be loaded.")
    page_link("models", "All models, and how to load others", icon=":material/deployed_code:")


@st.fragment(run_every=None if warm.done() else 1.0)
def pictures(waited: bool) -> None:
    if not warm.done():
        st.caption(
            "What its heads look at, and when it learned to, appears here when the model libraries are loaded."
        )
        return
    if waited:
        st.rerun()
    left, right = st.columns(2, gap="medium")
    with left:
        heads()
    with right:
        history()


def heads() -> None:
    from workbench.figures.attention import atlas
    from workbench.ui.parts.charts import chart
    from workbench.ui.parts.look import PROMPT, look
    from workbench.ui.parts.models import cached_load

    subject = cached_load(warm.DEFAULT)
    looked_at = look(subject, PROMPT)
    st.markdown(f"**Its {subject.card.n_layers * subject.card.n_heads} heads**")
    st.caption(f"Where each of its heads looks, on: {PROMPT}")
    chart(atlas(looked_at.image), key="home_atlas", name="heads", alt="Attention of every head")


def history() -> None:
    from workbench.comparison.dynamics import bundled, dynamics
    from workbench.figures.dynamics import dynamics as draw
    from workbench.ui.parts.charts import chart

    if warm.DEFAULT not in bundled():
        return
    training = dynamics(warm.DEFAULT)
    st.markdown("**When it learned to repeat**")
    figure = draw(training.to_frame(), rise=training.rise(), height=400)
    st.caption(
        "Heads that look one token back come first; then, suddenly, induction. 95 % intervals."
    )
    chart(
        figure,
        key="home_dynamics",
        name="dynamics",
        alt="Loss, head scores and accuracy over training",
    )


def recent() -> None:
    newest = runs.store().list(limit=6)
    st.markdown("##### Recent runs")
    if not newest:
        st.caption(
            "None yet. Train a model or start a benchmark: it runs in the background and is listed here."
        )

    @st.fragment(run_every=2.0 if any(run.active for run in newest) else None)
    def listed() -> None:
        for run in runs.store().list(limit=6):
            line(run)

    listed()


def line(run: Run) -> None:
    icon, colour = runs.LOOKS.get(run.status, runs.LOOKS["queued"])
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.badge(run.status, icon=icon, color=colour)
        page_link(PAGE_OF.get(run.kind, "home"), run.title, run=run.id)
        st.caption(runs.when(run))
    if run.active:
        st.progress(run.progress, text=run.message or "starting")


st.title("What can I ask here?")
st.caption(
    "Train or load a small GPT, ask what it can do, look inside, change it, and see whether that mattered."
)
questions()
left, right = st.columns([3, 1], gap="medium")
with left:
    model()
    pictures(not warm.done())
with right:
    recent()
