"""Models: which models can be loaded, the card of the chosen one, and a sample of its text."""

import pandas as pd
import streamlit as st

import workbench as wb
from workbench.figures import models as draw
from workbench.subjects.parameters import parameter_counts
from workbench.ui.parts import cards
from workbench.ui.parts.charts import chart
from workbench.ui.parts.fragment import fragment
from workbench.ui.parts.generation import MOST, continuation
from workbench.ui.parts.links import page_link
from workbench.ui.parts.memory_panel import memory_panel
from workbench.ui.parts.models import cached_load, pick_name
from workbench.ui.parts.notices import fault
from workbench.ui.parts.snippets import same_in_python
from workbench.ui.parts.titles import titled
from workbench.ui.parts.words import called

KINDS = {
    "bundled": "bundled",
    "gguf": "GGUF file",
    "folder": "folder",
    "run": "training run",
    "edit": "edited model",
    "transformerlens": "TransformerLens file",
    "seq2seq": "encoder-decoder",
    "encoder": "encoder",
}
HOW = """
- **a folder** with `config.json` and safetensors: type its path above, or put it into the folder
  that the environment variable `WORKBENCH_MODELS` names, and it will be listed
- **a GGUF file**: its path, or a file below `WORKBENCH_MODELS`; it is converted to float32 once and
  the result is stored
- **a Hugging Face id** such as `openai-community/gpt2`: from the local cache, or downloaded
- **a nanoGPT checkpoint**: the path of its `ckpt.pt`
- **a TransformerLens state dict** (`blocks.0.attn.W_Q` ...): the path of its `.safetensors` or
  `.pt`; settings that its shapes do not show go into `NAME.config.json` beside it, named as in
  `HookedTransformerConfig`
- **a training run**: `run:ID`, or `run:ID@STEP` for one of its checkpoints

Loading never unpickles a file and never runs remote code. Weights are float32.
"""


def open_row(names: list[str]) -> None:
    """Choose the model of the selected row."""
    rows = st.session_state["shelf"].selection.rows
    if rows:
        st.session_state["model"] = names[rows[0]]


def shelf() -> None:
    """The table of all models that can be loaded; a click chooses one."""
    available = wb.available()
    table = pd.DataFrame(
        {
            "model": [titled(a.name) for a in available],
            "kind": [KINDS.get(a.kind, a.kind) for a in available],
            "where": [str(a.path) for a in available],
        }
    )
    st.dataframe(
        table,
        hide_index=True,
        height=min(320, 38 + 35 * max(1, len(table))),
        key="shelf",
        on_select=lambda: open_row([a.name for a in available]),
        selection_mode="single-row",
        column_config={"model": st.column_config.TextColumn(width="medium")},
    )


def card(subject: wb.Subject) -> None:
    """The model card, and the metrics measured when the model was trained."""
    facts = subject.card.to_dict()
    st.subheader(called(subject.name))
    cards.table(cards.rows(facts))
    if metrics := facts["metrics"]:
        st.markdown("**Measured after training**")
        cards.table(
            {str(name).replace("_", " "): cards.measured(value) for name, value in metrics.items()}
        )


@fragment
def write(subject: wb.Subject) -> None:
    """A prompt and the model's continuation of it."""
    st.subheader("What does it write?")
    prompt = st.text_input(
        "Prompt", "It was a dark and stormy night, and", key="start", bind="query-params"
    )
    length, heat, again = st.columns(3)
    n = length.slider("New tokens", 1, MOST, 40, key="n", bind="query-params")
    temperature = heat.slider(
        "Temperature",
        0.0,
        2.0,
        0.8,
        0.1,
        key="temperature",
        bind="query-params",
        help="0: always the most likely token.",
    )
    seed = again.number_input(
        "Seed", 0, 9999, 0, key="seed", bind="query-params", disabled=temperature == 0
    )
    try:
        text = continuation(subject, prompt or "", n=n, temperature=temperature, seed=int(seed))
    except wb.WorkbenchError as error:
        fault(error)
        return
    with st.container(border=True):
        st.text(f"{prompt}{text}")


st.title("Which models can I study?")
st.caption(
    "All models that load without a network. Choose a row, or type a path or a Hugging Face id."
)
left, right = st.columns([1, 2], gap="medium")
with right:
    shelf()
with left:
    name = pick_name(seq2seq=True, encoder=True)
    with st.expander("How to load others", icon=":material/help:"):
        st.markdown(HOW)
    memory_panel()
subject = cached_load(name, seq2seq=True, encoder=True)
if subject.model.config.is_encoder_decoder:
    card(subject)
    page_link("anatomy", "Encoder-decoder model: see its three attentions step by step", model=name)
    st.stop()
left, right = st.columns(2, gap="large")
with left:
    card(subject)
with right:
    counts = parameter_counts(subject)
    chart(
        draw.parameters(counts),
        key="parameters",
        name=f"{subject.name}-parameters",
        alt="Parameters by component",
    )
    write(subject)
same_in_python(f"""\
import workbench as wb

print([entry.name for entry in wb.available()])
subject = wb.load({name!r})
print(subject.card.to_dict())
ids = subject.encode("It was a dark and stormy night, and")
print(subject.tokenizer.decode(subject.model.generate(ids, max_new_tokens=40, do_sample=False)[0]))
""")
