"""Anatomy: attention worked out step by step on a real prompt, with the model's own numbers."""

import streamlit as st

import workbench as wb
from workbench.figures import anatomy as draw
from workbench.figures.style import head_name, visible
from workbench.interp.anatomy import Anatomy, Step
from workbench.ui.charts import chart, downloads
from workbench.ui.cut import cut
from workbench.ui.snippets import same_in_python
from workbench.ui.subjects import alone, cached_load, pick_name
from workbench.ui.words import escaped

PROMPT = "The red house, the old horse, the black dog. The red house, the old"
MOST = 64  # positions at which a row is still readable; longer prompts are cut


@st.cache_resource(max_entries=16, show_spinner="Working every step out by hand")
def worked_out(sha256: str, prompt: str, layer: int, head: int, _subject: wb.Subject) -> Anatomy:
    with alone(sha256):
        return wb.anatomy(_subject, prompt, layer=layer, head=head)


def show_step(number: int, step: Step, found: Anatomy, position: int) -> None:
    words, picture = st.columns([2, 3], gap="medium", vertical_alignment="center")
    with words:
        st.markdown(f"**{number}. {step.name}** {escaped(step.shape)}")
        st.latex(step.formula)
        st.markdown(step.words)
        if step.deviation is not None:
            st.badge(f"recomputed = model, {step.deviation:.0e}", icon=":material/check:", color="green")
    with picture:
        figure = draw.step_matrix(step.values, found.tokens, over_keys=step.over_keys, chosen=position)
        name = f"{found.subject}-{head_name(found.layer, found.head)}-{step.name}"
        chart(figure, key=f"step_{number}", name=name, alt=f"{step.name}, a row a token")


st.title("How does attention work, number by number?")
st.caption(
    "One layer and head of a real prompt, step by step, each worked out by its formula and compared with the model."
)
choice, box = st.columns([1, 3])
with choice:
    model = pick_name()
with box:
    prompt = st.text_area("Prompt", PROMPT, height=84, key="prompt", bind="query-params") or ""
subject = cached_load(model)
prompt = cut(subject, prompt, MOST)
names = [head_name(i, j) for i in range(subject.card.n_layers) for j in range(subject.card.n_heads)]
if st.session_state.get("head") not in names:
    st.session_state.pop("head", None)
with choice:
    name = st.selectbox(
        "Layer and head", names, min(len(names) - 1, subject.card.n_heads), key="head", bind="query-params"
    )
layer, head = divmod(names.index(name), subject.card.n_heads)
found = worked_out(subject.hash, prompt, layer, head, subject)
last = len(found.tokens) - 1
with box:
    places = list(range(last + 1))
    if st.session_state.get("position") not in places:
        st.session_state.pop("position", None)
    position = st.selectbox(
        "Token (framed in every picture)",
        places,
        last,
        format_func=lambda i: f"{visible(found.tokens[i])} ({i})",
        key="position",
    )
st.badge(
    f"{sum(s.deviation is not None for s in found.steps)} of {len(found.steps)} steps compared with the model's own "
    f"tensors: equal to {found.deviation:.0e} of their largest entry",
    icon=":material/check:",
    color="green",
)
st.caption("The steps without a tick are the model's own numbers, or have no tensor in the model to compare with.")
for number, step in enumerate(found.steps, 1):
    show_step(number, step, found, int(position or 0))
st.markdown("**What comes next**")
expected = found.next_tokens.assign(token=found.next_tokens["token"].map(visible))
bar = st.column_config.ProgressColumn("probability", format="%.3f", min_value=0, max_value=1)
st.dataframe(expected, hide_index=True, column_config={"probability": bar})
downloads(
    lambda: [
        draw.step_matrix(s.values, found.tokens, over_keys=s.over_keys, title=f"{i}. {s.name} {s.shape}")
        for i, s in enumerate(found.steps, 1)
    ],
    found.to_frame,
    name=f"anatomy-{found.subject}-{name}",
    title=f"Attention of {found.subject}, {name}, step by step",
    text=found.prompt,
)
same_in_python(f"""\
import workbench as wb

subject = wb.load({model!r})
found = wb.anatomy(subject, {prompt!r}, layer={layer}, head={head})
print(found.to_frame())  # every step, its shape, and how far it is from the model's own
print(found.steps[-1].values.shape, found.next_tokens)
""")
